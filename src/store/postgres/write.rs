//! Writing to PostgreSQL: batches in one transaction each, numbered in commit order.
//!
//! The order of locks is the same in every transaction: node rows first, sorted by id; then the advisory lock of the
//! revisions; then numbers and events; commit. Nothing that may wait for a row comes after the advisory lock, so who
//! holds it is on its way to commit.
//!
//! A row that somebody else holds is not waited for: the batch goes on without it, and the row goes a side way of its
//! own, with its own time limit. A batch that fails for another reason is halved until the item that fails is alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Postgres, Row as _, Transaction};
use tokio::time::Instant;

use super::decode::{self, PgTimestamp};
use crate::node::{EventKind, NodeRecord, Origin, Precondition, Revision, Timestamp};
use crate::store::{DeregisterWrite, RegisterWrite, Registered, StoreError};

/// How long a write waits for a row that another transaction holds, before it is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many rows are waited for at once: each takes a connection.
const SIDE_WAYS: usize = 4;
/// The pause before a row is asked for again that was not to be had, though nobody made us wait for it.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a batch is tried again because another transaction was faster.
const MAX_RACES: u32 = 10;

/// READ COMMITTED, because a statement must see what was committed while an earlier one waited for a lock. The
/// triggers leave the events of these transactions to us.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                     SET LOCAL onex_registry.writer = 'registry'; SET LOCAL lock_timeout = '250ms'";
const BEGIN_PATIENT: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                             SET LOCAL onex_registry.writer = 'registry'; SET LOCAL lock_timeout = '2s'";

const LOCK_FREE: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED"#;
const LOCK_ALL: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR NO KEY UPDATE"#;
const LOCK_FREE_TO_DELETE: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR UPDATE SKIP LOCKED"#;
const LOCK_ALL_TO_DELETE: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR UPDATE"#;

/// In a statement after the one that locked the rows, so that it sees what the lock waited for.
const REVISIONS: &str = "
SELECT n.node_id,
       COALESCE((SELECT e.revision FROM node_events e
                  WHERE e.node_id = n.node_id AND e.kind IN ('registered', 'updated', 'maintenance')
                  ORDER BY e.revision DESC LIMIT 1), 0) AS revision
  FROM node_registrations n WHERE n.node_id = ANY ($1)";

/// The upsert of a batch. Rows that exist and were not locked before ($10) are left out. `existed` is exact for rows
/// that were locked; for the others, neither `existed` nor `inserted` means that another transaction was faster.
///
/// `record_image_ne` compares what is stored, byte by byte (manual, section 9.24.6): `1.0` and `1.00` are equal numbers, but not the same column.
const UPSERT: &str = r#"
WITH input AS (
    SELECT i.node_id, i.node_type, i.node_version, i.capabilities::jsonb, i.endpoints::jsonb, i.metadata::jsonb,
           i.health_endpoint, i.ttl_seconds, CASE WHEN i.alive THEN statement_timestamp() END AS last_heartbeat
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
                  $9::bool[])
           AS i (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
                 alive)
     WHERE i.node_id = ANY ($10::text[])
        OR NOT EXISTS (SELECT 1 FROM node_registrations n WHERE n.node_id = i.node_id)
), old AS MATERIALIZED (
    SELECT * FROM node_registrations WHERE node_id = ANY ($1::text[])
), stored AS (
    INSERT INTO node_registrations AS n
           (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
            last_heartbeat, registered_at, updated_at)
    SELECT node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
           last_heartbeat, statement_timestamp(), statement_timestamp()
      FROM input ORDER BY node_id COLLATE "C"
        ON CONFLICT (node_id) DO UPDATE
       SET node_type = EXCLUDED.node_type, node_version = EXCLUDED.node_version,
           capabilities = EXCLUDED.capabilities, endpoints = EXCLUDED.endpoints, metadata = EXCLUDED.metadata,
           health_endpoint = EXCLUDED.health_endpoint, ttl_seconds = EXCLUDED.ttl_seconds,
           last_heartbeat = GREATEST(n.last_heartbeat, EXCLUDED.last_heartbeat),
           updated_at = EXCLUDED.updated_at
    RETURNING n.*, xmax = 0 AS inserted
)
SELECT s.node_id, s.node_type, s.node_version, s.capabilities::text, s.endpoints::text, s.metadata::text,
       s.health_endpoint, s.last_heartbeat, s.registered_at, s.updated_at, s.ttl_seconds, s.maintenance,
       s.inserted, o.node_id IS NOT NULL AS existed, statement_timestamp() AS at,
       COALESCE((SELECT e.revision FROM node_events e
                  WHERE e.node_id = s.node_id AND e.kind IN ('registered', 'updated', 'maintenance')
                  ORDER BY e.revision DESC LIMIT 1), 0) AS revision,
       concat_ws(',',
           CASE WHEN record_image_ne(ROW(s.node_type), ROW(o.node_type)) THEN 'node_type' END,
           CASE WHEN record_image_ne(ROW(s.node_version), ROW(o.node_version)) THEN 'node_version' END,
           CASE WHEN record_image_ne(ROW(s.capabilities), ROW(o.capabilities)) THEN 'capabilities' END,
           CASE WHEN record_image_ne(ROW(s.endpoints), ROW(o.endpoints)) THEN 'endpoints' END,
           CASE WHEN record_image_ne(ROW(s.metadata), ROW(o.metadata)) THEN 'metadata' END,
           CASE WHEN record_image_ne(ROW(s.health_endpoint), ROW(o.health_endpoint)) THEN 'health_endpoint' END,
           CASE WHEN record_image_ne(ROW(s.ttl_seconds), ROW(o.ttl_seconds)) THEN 'ttl_seconds' END) AS changed
  FROM stored s LEFT JOIN old o ON o.node_id = s.node_id
"#;

const DELETE: &str = "DELETE FROM node_registrations WHERE node_id = ANY ($1) RETURNING node_id";

/// The advisory lock may be waited for longer than a row: whoever holds it is committing.
const LOCK_REVISIONS: &str =
    "SELECT set_config('lock_timeout', '2s', true), onex_registry_lock_revisions()::text";

/// In a statement after the one that took the lock: numbers are in the order of commits. One notification per batch;
/// it is a hint to read the events, and no more.
const RECORD: &str = "
WITH recorded AS (
    INSERT INTO node_events (revision, node_id, kind, changed, actor, correlation_id, occurred_at)
    SELECT nextval('node_events_revision_seq'), e.node_id, e.kind, string_to_array(e.changed, ','), e.actor,
           e.correlation_id, clock_timestamp()
      FROM (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
                       AS u (node_id, kind, changed, actor, correlation_id, position)
             ORDER BY u.position) AS e
    RETURNING revision
)
SELECT array_agg(revision ORDER BY revision) AS revisions,
       pg_notify('onex_registry', max(revision)::text)::text AS notified
  FROM recorded";

pub(super) async fn register(pool: &PgPool, batch: &[RegisterWrite]) -> Vec<Result<Registered, StoreError>> {
    run(&Registering { pool, batch }, batch.len()).await
}

pub(super) async fn deregister(pool: &PgPool, batch: &[DeregisterWrite]) -> Vec<Result<(), StoreError>> {
    run(&Deregistering { pool, batch }, batch.len()).await
}

/// What became of an item in a transaction that was committed.
enum Step<T> {
    Done(Result<T, StoreError>),
    /// Another transaction holds its row; nothing was done for it.
    Contended,
}

/// Why a transaction was rolled back.
enum Undone {
    /// Another transaction was faster: the same again will come out differently.
    Raced,
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Undone {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// Whether to wait for rows that others hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Some,
}

/// A kind of batch: how to do some of its items in one transaction.
#[async_trait]
trait Batch: Sync {
    type Done: Send;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Vec<Step<Self::Done>>, Undone>;
}

async fn run<B: Batch>(batch: &B, length: usize) -> Vec<Result<B::Done, StoreError>> {
    let deadline = Instant::now() + PATIENCE;
    let mut results: Vec<Option<Result<B::Done, StoreError>>> = (0..length).map(|_| None).collect();
    let mut contended = Vec::new();
    let mut races = 0;
    let mut parts = if length == 0 { Vec::new() } else { vec![(0..length).collect::<Vec<_>>()] };
    while let Some(part) = parts.pop() {
        match batch.attempt(&part, Patience::None).await {
            Ok(steps) => {
                for (item, step) in part.iter().zip(steps) {
                    match step {
                        Step::Done(result) => results[*item] = Some(result),
                        Step::Contended => contended.push(*item),
                    }
                }
            }
            Err(Undone::Raced) if races < MAX_RACES => {
                races += 1;
                parts.push(part);
            }
            Err(Undone::Raced) => contended.extend(part),
            Err(Undone::Failed(error)) => {
                let error = StoreError::from(error);
                let of_one_item = matches!(error, StoreError::Refused(_) | StoreError::Contended);
                if of_one_item && part.len() > 1 {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second.to_vec(), first.to_vec()]);
                } else if matches!(error, StoreError::Contended) {
                    contended.extend(part);
                } else {
                    for item in part {
                        results[item] = Some(Err(error.clone()));
                    }
                }
            }
        }
    }
    let side_ways =
        stream::iter(contended).map(|item| async move { (item, wait_for(batch, item, deadline).await) });
    let mut side_ways = side_ways.buffer_unordered(SIDE_WAYS);
    while let Some((item, result)) = side_ways.next().await {
        results[item] = Some(result);
    }
    results.into_iter().map(|result| result.unwrap_or(Err(StoreError::Contended))).collect()
}

/// One item whose row another transaction holds, until the deadline.
async fn wait_for<B: Batch>(batch: &B, item: usize, deadline: Instant) -> Result<B::Done, StoreError> {
    let items = [item];
    loop {
        let attempt = batch.attempt(&items, Patience::Some);
        let error = match tokio::time::timeout_at(deadline, attempt).await {
            // The transaction is rolled back, unless it was just committing: the client is told that it may have been.
            Err(_) => return Err(StoreError::Contended),
            Ok(Ok(mut steps)) => match steps.pop() {
                Some(Step::Done(result)) => return result,
                _ => StoreError::Contended,
            },
            Ok(Err(Undone::Raced)) => StoreError::Contended,
            Ok(Err(Undone::Failed(error))) => StoreError::from(error),
        };
        if !matches!(error, StoreError::Contended) || Instant::now() + PAUSE >= deadline {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Registering<'a> {
    pool: &'a PgPool,
    batch: &'a [RegisterWrite],
}

#[async_trait]
impl Batch for Registering<'_> {
    type Done = Registered;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Vec<Step<Registered>>, Undone> {
        let writes: Vec<&RegisterWrite> = items.iter().map(|item| &self.batch[*item]).collect();
        let ids: Vec<&str> = writes.iter().map(|write| write.registration.node_id.as_str()).collect();
        let mut tx = begin(self.pool, patience).await?;
        let lock = if patience == Patience::None { LOCK_FREE } else { LOCK_ALL };
        let locked = locked(&mut tx, lock, &ids).await?;

        let conditions: Vec<&Precondition> = writes.iter().map(|write| &write.precondition).collect();
        let verdicts = verdicts(&mut tx, &ids, &conditions, &locked).await?;
        let wanted: Vec<&RegisterWrite> = writes
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| verdict.is_none())
            .map(|(write, _)| *write)
            .collect();
        let mut stored = upsert(&mut tx, &wanted, &locked).await?;

        let mut events = Events::default();
        let mut numbered = Vec::new();
        for write in &wanted {
            let id = write.registration.node_id.as_str();
            if let Some(row) = stored.get(id)
                && let Some(kind) = row.event()
            {
                events.add(id, kind, &row.changed, &write.origin);
                numbered.push(id);
            }
        }
        let revisions = record(&mut tx, &events).await?;
        tx.commit().await?;

        for (id, revision) in numbered.into_iter().zip(revisions) {
            if let Some(row) = stored.get_mut(id) {
                row.record.revision = revision;
            }
        }
        let step = |(id, verdict): (&str, Option<Step<()>>)| match verdict {
            Some(Step::Done(Err(error))) => Step::Done(Err(error)),
            Some(_) => Step::Contended,
            None => match stored.remove(id) {
                Some(row) => Step::Done(Ok(row.into_registered())),
                None => Step::Contended,
            },
        };
        Ok(ids.into_iter().zip(verdicts).map(step).collect())
    }
}

struct Deregistering<'a> {
    pool: &'a PgPool,
    batch: &'a [DeregisterWrite],
}

#[async_trait]
impl Batch for Deregistering<'_> {
    type Done = ();

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Vec<Step<()>>, Undone> {
        let writes: Vec<&DeregisterWrite> = items.iter().map(|item| &self.batch[*item]).collect();
        let ids: Vec<&str> = writes.iter().map(|write| write.node_id.as_str()).collect();
        let mut tx = begin(self.pool, patience).await?;
        let lock = if patience == Patience::None { LOCK_FREE_TO_DELETE } else { LOCK_ALL_TO_DELETE };
        let locked = locked(&mut tx, lock, &ids).await?;
        let present = revisions(&mut tx, &ids).await?;

        let verdict = |(write, id): (&&DeregisterWrite, &&str)| match present.get(*id).copied() {
            Some(_) if !locked.contains(*id) => Some(Step::Contended),
            revision if !write.precondition.holds(revision) => {
                Some(Step::Done(Err(StoreError::PreconditionFailed { present: revision })))
            }
            Some(_) => None,
            None => Some(Step::Done(Err(StoreError::NotFound))),
        };
        let verdicts: Vec<Option<Step<()>>> = writes.iter().zip(&ids).map(verdict).collect();
        let doomed: Vec<&str> =
            ids.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none()).map(|(id, _)| *id).collect();
        let gone: HashSet<String> = if doomed.is_empty() {
            HashSet::new()
        } else {
            sqlx::query_scalar(DELETE).bind(&doomed).fetch_all(&mut *tx).await?.into_iter().collect()
        };

        let mut events = Events::default();
        for (write, id) in writes.iter().zip(&ids).filter(|(_, id)| gone.contains(**id)) {
            events.add(id, EventKind::Deregistered, "", &write.origin);
        }
        record(&mut tx, &events).await?;
        tx.commit().await?;

        let step = |(id, verdict): (&str, Option<Step<()>>)| match verdict {
            Some(step) => step,
            None if gone.contains(id) => Step::Done(Ok(())),
            // A trigger of the user's own kept it.
            None => Step::Done(Err(StoreError::Refused(Arc::new(sqlx::Error::RowNotFound)))),
        };
        Ok(ids.into_iter().zip(verdicts).map(step).collect())
    }
}

async fn begin(pool: &PgPool, patience: Patience) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with(if patience == Patience::None { BEGIN } else { BEGIN_PATIENT }).await
}

/// Locks those of the rows that exist and that the statement gets.
async fn locked(
    tx: &mut Transaction<'_, Postgres>,
    statement: &'static str,
    ids: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    Ok(sqlx::query_scalar(statement).bind(ids).fetch_all(&mut **tx).await?.into_iter().collect())
}

/// For each item: `None` if it may be written, else what becomes of it.
async fn verdicts(
    tx: &mut Transaction<'_, Postgres>,
    ids: &[&str],
    conditions: &[&Precondition],
    locked: &HashSet<String>,
) -> Result<Vec<Option<Step<()>>>, sqlx::Error> {
    if conditions.iter().all(|condition| **condition == Precondition::None) {
        return Ok(ids.iter().map(|_| None).collect());
    }
    let present = revisions(tx, ids).await?;
    let verdict = |(id, condition): (&&str, &&Precondition)| {
        let revision = present.get(*id).copied();
        if **condition == Precondition::None {
            None
        } else if revision.is_some() && !locked.contains(*id) {
            Some(Step::Contended)
        } else if condition.holds(revision) {
            None
        } else {
            Some(Step::Done(Err(StoreError::PreconditionFailed { present: revision })))
        }
    };
    Ok(ids.iter().zip(conditions).map(verdict).collect())
}

async fn revisions(
    tx: &mut Transaction<'_, Postgres>,
    ids: &[&str],
) -> Result<HashMap<String, Revision>, sqlx::Error> {
    let rows = sqlx::query(REVISIONS).bind(ids).fetch_all(&mut **tx).await?;
    rows.iter().map(|row| Ok((row.try_get("node_id")?, decode::revision(row, "revision")?))).collect()
}

/// A row as the upsert left it.
struct Stored {
    record: NodeRecord,
    at: Timestamp,
    inserted: bool,
    /// The changed columns, separated by commas.
    changed: String,
}

impl Stored {
    fn event(&self) -> Option<EventKind> {
        match (self.inserted, self.changed.is_empty()) {
            (true, _) => Some(EventKind::Registered),
            (false, false) => Some(EventKind::Updated),
            (false, true) => None,
        }
    }

    fn into_registered(self) -> Registered {
        Registered { created: self.inserted, record: self.record, at: self.at }
    }
}

async fn upsert(
    tx: &mut Transaction<'_, Postgres>,
    writes: &[&RegisterWrite],
    locked: &HashSet<String>,
) -> Result<HashMap<String, Stored>, Undone> {
    if writes.is_empty() {
        return Ok(HashMap::new());
    }
    let registrations = || writes.iter().map(|write| &write.registration);
    let rows = sqlx::query(UPSERT)
        .bind(registrations().map(|r| r.node_id.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.node_type.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.node_version.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.capabilities.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.endpoints.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.metadata.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.health_endpoint.as_deref()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.ttl_seconds).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.alive).collect::<Vec<_>>())
        .bind(locked.iter().map(String::as_str).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    let mut stored = HashMap::with_capacity(rows.len());
    for row in &rows {
        let existed: bool = row.try_get("existed")?;
        let row = decode_stored(row)?;
        if !existed && !row.inserted {
            return Err(Undone::Raced);
        }
        stored.insert(row.record.node_id.as_str().to_owned(), row);
    }
    Ok(stored)
}

fn decode_stored(row: &PgRow) -> Result<Stored, sqlx::Error> {
    Ok(Stored {
        record: decode::record(row)?,
        at: row.try_get::<PgTimestamp, _>("at")?.0,
        inserted: row.try_get("inserted")?,
        changed: row.try_get("changed")?,
    })
}

/// Events to record, column by column.
#[derive(Default)]
struct Events<'a> {
    node_ids: Vec<&'a str>,
    kinds: Vec<&'static str>,
    changed: Vec<String>,
    actors: Vec<&'a str>,
    correlation_ids: Vec<Option<&'a str>>,
}

impl<'a> Events<'a> {
    fn add(&mut self, node_id: &'a str, kind: EventKind, changed: &str, origin: &'a Origin) {
        self.node_ids.push(node_id);
        self.kinds.push(kind.as_str());
        self.changed.push(if kind == EventKind::Updated { changed.to_owned() } else { String::new() });
        self.actors.push(origin.actor.as_str());
        self.correlation_ids.push(origin.correlation_id.as_deref());
    }
}

/// Numbers and records events, in their order. Without any, nobody waits for anybody.
async fn record(
    tx: &mut Transaction<'_, Postgres>,
    events: &Events<'_>,
) -> Result<Vec<Revision>, sqlx::Error> {
    if events.node_ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query(LOCK_REVISIONS).execute(&mut **tx).await?;
    let row = sqlx::query(RECORD)
        .bind(&events.node_ids)
        .bind(&events.kinds)
        .bind(&events.changed)
        .bind(&events.actors)
        .bind(&events.correlation_ids)
        .fetch_one(&mut **tx)
        .await?;
    let revisions: Vec<i64> = row.try_get("revisions")?;
    Ok(revisions.into_iter().filter_map(Revision::new).collect())
}
