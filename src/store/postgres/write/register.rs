//! Registrations: an upsert of many rows, in one call of `onex_registry_register`.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::batch::{Batch, Committed, Patience, Step, Undone, run};
use super::call::{call, list, places, row_timeout};
use super::swallowed;
use crate::node::{Event, EventKind, Horizon, JsonText, NodeRecord, Precondition, Revision, Timestamp, Ttl};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::{IfHeld, Recorded, RegisterWrite, Registered, StoreError, Written};

/// The columns by name: a plan that is kept must not depend on what else the function tells one day.
const REGISTER: &str = "
SELECT at, served_until, outage_began, outage_ended, refused, present, held, stored, created, changes, heartbeats,
       births, reasons, kept, numbers, previous, recorded_at, shown
  FROM onex_registry_register($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// How many texts of a row are in `shown`.
const SHOWN: usize = 8;

pub(in crate::store::postgres) async fn register(
    store: &PostgresStore,
    batch: &[RegisterWrite],
    if_held: IfHeld,
) -> Written<Registered> {
    let written = run(&Registering { store, batch }, batch.len(), store.turns(if_held)).await;
    let newest =
        written.recorded.iter().flat_map(|recorded| &recorded.events).map(|event| event.revision).max();
    if let Some(newest) = newest {
        store.notifier.tell(newest);
    }
    written
}

struct Registering<'a> {
    store: &'a PostgresStore,
    batch: &'a [RegisterWrite],
}

#[async_trait]
impl Batch for Registering<'_> {
    type Done = Registered;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Committed<Registered>, Undone> {
        // Bytewise, as every batch locks.
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|place| self.batch[items[*place]].registration.node_id.as_str());
        let writes: Vec<&RegisterWrite> = order.iter().map(|place| &self.batch[items[*place]]).collect();
        let conditions = Conditions::of(&writes);
        let column =
            |of: fn(&RegisterWrite) -> &str| -> Vec<&str> { writes.iter().map(|write| of(write)).collect() };
        let tag = self.store.tag.now();
        let query = sqlx::query(REGISTER)
            .bind(&*tag)
            .bind(row_timeout(patience))
            .bind(patience == Patience::Some)
            .bind(column(|write| write.registration.node_id.as_str()))
            .bind(column(|write| write.registration.node_type.as_str()))
            .bind(column(|write| write.registration.node_version.as_str()))
            .bind(column(|write| write.registration.capabilities.as_str()))
            .bind(column(|write| write.registration.endpoints.as_str()))
            .bind(column(|write| write.registration.metadata.as_str()))
            .bind(
                writes.iter().map(|write| write.registration.health_endpoint.as_deref()).collect::<Vec<_>>(),
            )
            .bind(writes.iter().map(|write| write.registration.ttl_seconds).collect::<Vec<_>>())
            .bind(writes.iter().map(|write| write.alive).collect::<Vec<_>>())
            .bind(column(|write| write.origin.actor.as_str()))
            .bind(writes.iter().map(|write| write.origin.correlation_id.as_deref()).collect::<Vec<_>>())
            .bind(conditions.kinds)
            .bind(conditions.allowed_places)
            .bind(conditions.allowed_revisions);
        let row = call(self.store, patience, query).await?;
        let (mut sorted, recorded) = outcome(&row, &writes, self.store.ttl).map_err(Undone::Unreadable)?;

        let mut steps: Vec<Option<Step<Registered>>> = items.iter().map(|_| None).collect();
        for (place, step) in order.into_iter().zip(sorted.drain(..)) {
            steps[place] = Some(step);
        }
        let steps = steps.into_iter().map(|step| step.unwrap_or(Step::Contended)).collect();
        Ok(Committed { steps, recorded })
    }
}

/// The preconditions of a batch, if there are any; as numbers, see `onex_registry_register`.
#[derive(Default)]
struct Conditions {
    kinds: Option<Vec<i32>>,
    allowed_places: Vec<i32>,
    allowed_revisions: Vec<i64>,
}

impl Conditions {
    fn of(writes: &[&RegisterWrite]) -> Self {
        let mut conditions = Self::default();
        if writes.iter().all(|write| write.precondition == Precondition::None) {
            return conditions;
        }
        let mut kinds = Vec::with_capacity(writes.len());
        for (write, place) in writes.iter().zip(1..) {
            kinds.push(match &write.precondition {
                Precondition::None => 0,
                Precondition::Absent => 1,
                Precondition::Present => 2,
                Precondition::Revision(allowed) => {
                    conditions.allowed_places.extend(allowed.iter().map(|_| place));
                    conditions.allowed_revisions.extend(allowed.iter().map(|revision| revision.get()));
                    3
                }
            });
        }
        conditions.kinds = Some(kinds);
        conditions
    }
}

/// What became of the writes, in their order, and what was recorded.
fn outcome(
    row: &PgRow,
    writes: &[&RegisterWrite],
    server_ttl: Ttl,
) -> Result<(Vec<Step<Registered>>, Option<Recorded>), sqlx::Error> {
    let horizon = decode::horizon(row, server_ttl)?;
    let mut steps: Vec<Step<Registered>> = writes.iter().map(|_| Step::Done(Err(swallowed()))).collect();
    let refused = places(row, "refused")?.into_iter().zip(list::<Option<i64>>(row, "present")?);
    for (place, present) in refused {
        let present = present.and_then(Revision::new);
        *at(&mut steps, place)? = Step::Done(Err(StoreError::PreconditionFailed { present }));
    }
    for place in places(row, "held")? {
        *at(&mut steps, place)? = Step::Contended;
    }

    let recorded_at = decode::instant(row, "recorded_at")?.unwrap_or(horizon.at);
    let mut kept = list::<i64>(row, "kept")?.into_iter();
    let mut numbers = list::<i64>(row, "numbers")?.into_iter();
    let mut events = Vec::with_capacity(numbers.len());
    let columns = Columns::of(row)?;
    for (index, place) in places(row, "stored")?.into_iter().enumerate() {
        let write = writes.get(place).ok_or_else(|| decode::broken("a place that nobody asked for"))?;
        let stored = columns.get(index).ok_or_else(|| decode::broken("columns of different lengths"))?;
        let number = if stored.event().is_some() { numbers.next() } else { kept.next() };
        let revision = number
            .and_then(Revision::new)
            .ok_or_else(|| decode::broken("a registration without a revision"))?;
        events.extend(stored.event().map(|kind| event(kind, &stored, write, revision, recorded_at)));
        let record = stored.record(write, &horizon, revision)?;
        *at(&mut steps, place)? = Step::Done(Ok(Registered { created: stored.created, record, horizon }));
    }
    let recorded = if events.is_empty() {
        None
    } else {
        Some(Recorded { previous: decode::revision(row, "previous")?, events })
    };
    Ok((steps, recorded))
}

fn event(
    kind: EventKind,
    stored: &Stored<'_>,
    write: &RegisterWrite,
    revision: Revision,
    occurred_at: Timestamp,
) -> Event {
    Event {
        revision,
        node_id: write.registration.node_id.key().clone(),
        kind: kind.as_str().to_owned(),
        changed: stored.changes.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        actor: write.origin.actor.as_str().to_owned(),
        correlation_id: write.origin.correlation_id.clone(),
        occurred_at,
    }
}

/// What the database tells of the rows that it has stored, column by column.
struct Columns {
    created: Vec<bool>,
    changes: Vec<Option<String>>,
    heartbeats: Vec<Option<PgTimestamp>>,
    births: Vec<PgTimestamp>,
    reasons: Vec<Option<String>>,
    shown: Option<Vec<Option<String>>>,
}

impl Columns {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            created: list(row, "created")?,
            changes: list(row, "changes")?,
            heartbeats: list(row, "heartbeats")?,
            births: list(row, "births")?,
            reasons: list(row, "reasons")?,
            shown: row.try_get("shown")?,
        })
    }

    fn get(&self, index: usize) -> Option<Stored<'_>> {
        Some(Stored {
            created: *self.created.get(index)?,
            changes: self.changes.get(index)?.as_deref().unwrap_or_default(),
            last_heartbeat: self.heartbeats.get(index)?.as_ref().map(|at| at.0),
            registered_at: self.births.get(index)?.0,
            maintenance: self.reasons.get(index)?.as_deref(),
            shown: match &self.shown {
                Some(shown) => Some(shown.chunks_exact(SHOWN).nth(index)?),
                None => None,
            },
        })
    }
}

/// A row as the upsert left it.
struct Stored<'a> {
    created: bool,
    /// The changed columns, separated by commas.
    changes: &'a str,
    last_heartbeat: Option<Timestamp>,
    registered_at: Timestamp,
    maintenance: Option<&'a str>,
    /// The other columns, if they may be others than those that were offered.
    shown: Option<&'a [Option<String>]>,
}

impl Stored<'_> {
    fn event(&self) -> Option<EventKind> {
        match (self.created, self.changes.is_empty()) {
            (true, _) => Some(EventKind::Registered),
            (false, false) => Some(EventKind::Updated),
            (false, true) => None,
        }
    }

    fn record(
        &self,
        write: &RegisterWrite,
        horizon: &Horizon,
        revision: Revision,
    ) -> Result<NodeRecord, sqlx::Error> {
        let offered = &write.registration;
        let record = NodeRecord {
            node_id: offered.node_id.key().clone(),
            node_type: offered.node_type.as_str().to_owned(),
            node_version: offered.node_version.as_str().to_owned(),
            capabilities: offered.capabilities.clone().into(),
            endpoints: offered.endpoints.clone().into(),
            metadata: offered.metadata.clone().into(),
            health_endpoint: offered.health_endpoint.clone(),
            last_heartbeat: self.last_heartbeat,
            registered_at: self.registered_at,
            updated_at: horizon.at,
            ttl_seconds: offered.ttl_seconds.map(i64::from),
            maintenance: self.maintenance.map(str::to_owned),
            revision,
        };
        match self.shown {
            None => Ok(record),
            Some(
                [
                    Some(kind),
                    Some(version),
                    Some(capabilities),
                    Some(endpoints),
                    Some(metadata),
                    url,
                    ttl,
                    Some(at),
                ],
            ) => Ok(NodeRecord {
                node_type: kind.clone(),
                node_version: version.clone(),
                capabilities: JsonText::from_database(capabilities),
                endpoints: JsonText::from_database(endpoints),
                metadata: JsonText::from_database(metadata),
                health_endpoint: url.clone(),
                ttl_seconds: ttl.as_deref().and_then(|ttl| ttl.parse().ok()),
                updated_at: instant(at).ok_or_else(|| decode::broken("a time that is none"))?,
                ..record
            }),
            Some(_) => Err(decode::broken("a column that is NULL and must not be")),
        }
    }
}

/// Microseconds, or an infinity by its name.
fn instant(text: &str) -> Option<Timestamp> {
    match text {
        "infinity" => Some(Timestamp::INFINITY),
        "-infinity" => Some(Timestamp::NEG_INFINITY),
        micros => micros.parse().ok().map(Timestamp::from_unix_micros),
    }
}

fn at<T>(steps: &mut [T], place: usize) -> Result<&mut T, sqlx::Error> {
    steps.get_mut(place).ok_or_else(|| decode::broken("a place that nobody asked for"))
}
