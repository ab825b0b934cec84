//! Writing to SQLite: one writer, one transaction per batch.

mod heartbeat;
mod maintenance;

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Sqlite, Transaction};

use super::events::event;
use super::{availability, keep_if_sound, record};
use crate::node::{
    Event, EventKind, Horizon, Json, NodeRecord, Origin, Precondition, Registration, Revision, Timestamp, Ttl,
};
use crate::store::clock::Clock;
use crate::store::sqlite::pool::Pool;
use crate::store::{DeregisterWrite, Deregistered, Recorded, RegisterWrite, Registered, StoreError, Written};

pub(super) use self::heartbeat::heartbeat;
pub(super) use self::maintenance::set_maintenance;

/// Takes the write lock at once: a transaction that reads first and then writes could fail with BUSY.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

const PRESENT: &str = "
SELECT n.*, COALESCE((SELECT max(e.revision) FROM node_events e
                       WHERE e.node_id = n.node_id AND e.kind IN ('registered', 'updated', 'maintenance')), 0)
            AS revision
  FROM node_registrations n WHERE n.node_id = ?1";

const UPSERT: &str = "
INSERT INTO node_registrations
       (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
        last_heartbeat, registered_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
    ON CONFLICT (node_id) DO UPDATE
   SET node_type = excluded.node_type, node_version = excluded.node_version, capabilities = excluded.capabilities,
       endpoints = excluded.endpoints, metadata = excluded.metadata, health_endpoint = excluded.health_endpoint,
       ttl_seconds = excluded.ttl_seconds, updated_at = excluded.updated_at,
       last_heartbeat = max(COALESCE(last_heartbeat, excluded.last_heartbeat),
                            COALESCE(excluded.last_heartbeat, last_heartbeat))
RETURNING *, 0 AS revision";

const DELETE: &str = "DELETE FROM node_registrations WHERE node_id = ?1";

const RECORD: &str = "
INSERT INTO node_events (node_id, kind, changed, actor, correlation_id, occurred_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING *";

pub(super) async fn register(
    pool: &Pool,
    batch: &[RegisterWrite],
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Written<Registered> {
    all(pool, batch, clock, server_ttl, |turn, write| Box::pin(register_one(turn, write))).await
}

pub(super) async fn deregister(
    pool: &Pool,
    batch: &[DeregisterWrite],
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Written<Deregistered> {
    all(pool, batch, clock, server_ttl, |turn, write| Box::pin(deregister_one(turn, write))).await
}

/// The writer's turn: a transaction, its instant, and what it has added to the log.
pub(super) struct Turn<'c> {
    pub(super) tx: Transaction<'c, Sqlite>,
    pub(super) now: Horizon,
    events: Vec<Event>,
}

impl<'c> Turn<'c> {
    pub(super) async fn begin(
        connection: &'c mut SqliteConnection,
        clock: &dyn Clock,
        server_ttl: Ttl,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = connection.begin_with(BEGIN).await?;
        // Not before it is our turn: times are in the order of commits.
        let now = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
        Ok(Self { tx, now, events: Vec::new() })
    }

    pub(super) async fn record(
        &mut self,
        node_id: &str,
        kind: EventKind,
        changed: &[&str],
        origin: &Origin,
    ) -> Result<Revision, StoreError> {
        let event = record_event(&mut self.tx, node_id, kind, changed, origin, self.now.at).await?;
        let revision = event.revision;
        self.events.push(event);
        Ok(revision)
    }

    pub(super) async fn commit(self) -> Result<Option<Recorded>, sqlx::Error> {
        self.tx.commit().await?;
        // There is one writer, and AUTOINCREMENT counts on by one.
        let previous = self.events.first().and_then(|first| Revision::new(first.revision.get() - 1));
        Ok(previous.map(|previous| Recorded { previous, events: self.events }))
    }
}

/// Does one item in the turn of its batch.
type One<W, T> = for<'a, 'c> fn(&'a mut Turn<'c>, &'a W) -> BoxFuture<'a, Result<T, StoreError>>;

/// All items of a batch, in one transaction.
async fn all<W, T>(
    pool: &Pool,
    batch: &[W],
    clock: &dyn Clock,
    server_ttl: Ttl,
    one: One<W, T>,
) -> Written<T> {
    let result = match pool.acquire().await {
        Ok(mut connection) => {
            let result = in_transaction(&mut connection, batch, clock, server_ttl, one).await;
            keep_if_sound(connection, &result).await;
            result
        }
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| Written {
        results: batch.iter().map(|_| Err(error.clone())).collect(),
        recorded: Vec::new(),
    })
}

async fn in_transaction<W, T>(
    connection: &mut SqliteConnection,
    batch: &[W],
    clock: &dyn Clock,
    server_ttl: Ttl,
    one: One<W, T>,
) -> Result<Written<T>, StoreError> {
    let mut turn = Turn::begin(connection, clock, server_ttl).await?;
    let mut results = Vec::with_capacity(batch.len());
    for write in batch {
        results.push(alone(one(&mut turn, write).await)?);
    }
    let recorded = turn.commit().await?;
    Ok(Written { results, recorded: recorded.into_iter().collect() })
}

/// What concerns one item alone is its result; anything else undoes the batch. A statement that a constraint refuses
/// is undone by itself and leaves the transaction as it was (`sqlite.org/lang_conflict.html`, ABORT).
fn alone<T>(result: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match result {
        Ok(_)
        | Err(StoreError::NotFound | StoreError::PreconditionFailed { .. } | StoreError::Refused(_)) => {
            Ok(result)
        }
        Err(error) => Err(error),
    }
}

async fn register_one(turn: &mut Turn<'_>, write: &RegisterWrite) -> Result<Registered, StoreError> {
    let (r, now) = (&write.registration, turn.now);
    let present = present(&mut turn.tx, r.node_id.as_str(), &write.precondition).await?;
    let row = sqlx::query(UPSERT)
        .bind(r.node_id.as_str())
        .bind(r.node_type.as_str())
        .bind(r.node_version.as_str())
        .bind(r.capabilities.as_str())
        .bind(r.endpoints.as_str())
        .bind(r.metadata.as_str())
        .bind(r.health_endpoint.as_deref())
        .bind(r.ttl_seconds)
        .bind(write.alive.then_some(now.at.unix_micros()))
        .bind(now.at.unix_micros())
        .fetch_one(&mut *turn.tx)
        .await?;
    let mut record = record(&row)?;
    record.revision = match &present {
        None => turn.record(r.node_id.as_str(), EventKind::Registered, &[], &write.origin).await?,
        Some(before) => match changed(before, r).as_slice() {
            [] => before.revision,
            changed => turn.record(r.node_id.as_str(), EventKind::Updated, changed, &write.origin).await?,
        },
    };
    Ok(Registered { created: present.is_none(), record, horizon: now })
}

async fn deregister_one(turn: &mut Turn<'_>, write: &DeregisterWrite) -> Result<Deregistered, StoreError> {
    let id = write.node_id.as_str();
    if present(&mut turn.tx, id, &write.precondition).await?.is_none() {
        return Err(StoreError::NotFound);
    }
    sqlx::query(DELETE).bind(id).execute(&mut *turn.tx).await?;
    let revision = turn.record(id, EventKind::Deregistered, &[], &write.origin).await?;
    Ok(Deregistered { revision })
}

/// The present registration, if the precondition holds of it.
async fn present(
    tx: &mut SqliteConnection,
    id: &str,
    precondition: &Precondition,
) -> Result<Option<NodeRecord>, StoreError> {
    let row = sqlx::query(PRESENT).bind(id).fetch_optional(&mut *tx).await?;
    let present = row.as_ref().map(record).transpose()?;
    let revision = present.as_ref().map(|record| record.revision);
    if precondition.holds(revision) {
        Ok(present)
    } else {
        Err(StoreError::PreconditionFailed { present: revision })
    }
}

/// The columns that a registration changes. Both sides are compact text in one form, so equal text is equal content.
fn changed(before: &NodeRecord, r: &Registration) -> Vec<&'static str> {
    [
        ("node_type", before.node_type != r.node_type.as_str()),
        ("node_version", before.node_version != r.node_version.as_str()),
        ("capabilities", before.capabilities.as_str() != r.capabilities.as_str()),
        ("endpoints", before.endpoints.as_str() != r.endpoints.as_str()),
        ("metadata", before.metadata.as_str() != r.metadata.as_str()),
        ("health_endpoint", before.health_endpoint != r.health_endpoint),
        ("ttl_seconds", before.ttl_seconds != r.ttl_seconds.map(i64::from)),
    ]
    .into_iter()
    .filter_map(|(column, changed)| changed.then_some(column))
    .collect()
}

pub(super) async fn record_event(
    tx: &mut SqliteConnection,
    node_id: &str,
    kind: EventKind,
    changed: &[&str],
    origin: &Origin,
    now: Timestamp,
) -> Result<Event, StoreError> {
    let columns = Json::Array(changed.iter().map(|column| Json::String((*column).to_owned())).collect());
    let row = sqlx::query(RECORD)
        .bind(node_id)
        .bind(kind.as_str())
        .bind(columns.to_string())
        .bind(origin.actor.as_str())
        .bind(origin.correlation_id.as_deref())
        .bind(now.unix_micros())
        .fetch_one(&mut *tx)
        .await?;
    Ok(event(&row)?)
}
