//! Writing to PostgreSQL: batches in one transaction each, numbered in commit order.
//!
//! The order of locks is the same in every transaction: node rows first, sorted by id; then the advisory lock of the
//! revisions; then numbers and events; commit. Nothing that may wait for a row comes after the advisory lock, so who
//! holds it is on its way to commit.

pub(super) mod batch;
mod events;
mod heartbeat;
pub(super) mod lock;
mod maintenance;
mod signs;
mod upsert;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Postgres, Transaction};

use self::batch::{Batch, Committed, Patience, Step, Undone, run};
pub(super) use self::events::{Events, lock_revisions, record};
use self::lock::{begin, revisions};
use self::signs::Noted;
use self::upsert::Stored;
use super::PostgresStore;
use crate::node::{EventKind, Precondition, Revision};
use crate::store::{DeregisterWrite, Deregistered, IfHeld, RegisterWrite, Registered, StoreError, Written};

pub(super) use self::heartbeat::heartbeat;
pub(super) use self::maintenance::set_maintenance;

const DELETE: &str = "DELETE FROM node_registrations WHERE node_id = ANY ($1) RETURNING node_id";

pub(super) async fn register(
    store: &PostgresStore,
    batch: &[RegisterWrite],
    if_held: IfHeld,
) -> Written<Registered> {
    run(&Registering { store, batch }, batch.len(), store.turns(if_held)).await
}

pub(super) async fn deregister(
    store: &PostgresStore,
    batch: &[DeregisterWrite],
    if_held: IfHeld,
) -> Written<Deregistered> {
    run(&Deregistering { store, batch }, batch.len(), store.turns(if_held)).await
}

struct Registering<'a> {
    store: &'a PostgresStore,
    batch: &'a [RegisterWrite],
}

#[async_trait]
impl Batch for Registering<'_> {
    type Done = Registered;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Committed<Registered>, Undone> {
        let writes: Vec<&RegisterWrite> = items.iter().map(|item| &self.batch[*item]).collect();
        let ids: Vec<&str> = writes.iter().map(|write| write.registration.node_id.as_str()).collect();
        let mut tx = begin(&self.store.pool, patience).await?;
        let locked = lock::to_update(&mut tx, &ids, patience).await?;

        let conditions: Vec<&Precondition> = writes.iter().map(|write| &write.precondition).collect();
        let verdicts = verdicts(&mut tx, &ids, &conditions, &locked).await?;
        let wanted: Vec<&RegisterWrite> = writes
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| verdict.is_none())
            .map(|(write, _)| *write)
            .collect();
        let mut stored = upsert::upsert(&mut tx, &wanted, &locked, self.store.ttl).await?;

        let mut events = Events::default();
        for write in &wanted {
            let id = write.registration.node_id.as_str();
            if let Some(Some(row)) = stored.get(id)
                && let Some(kind) = row.event()
            {
                events.add(id, kind, &row.changed, &write.origin);
            }
        }
        if let Some(renewed) = renewed(&wanted, &stored) {
            signs::note(&mut tx, &self.store.replica, &renewed).await?;
        }
        let recorded = record(&mut tx, &events).await?;
        tx.commit().await?;

        for event in recorded.iter().flat_map(|recorded| &recorded.events) {
            if let Some(Some(row)) = stored.get_mut(event.node_id.as_str()) {
                row.record.revision = event.revision;
            }
        }
        let step = |(id, verdict): (&str, Option<Step<()>>)| match verdict {
            Some(Step::Done(Err(error))) => Step::Done(Err(error)),
            Some(_) => Step::Contended,
            None => match stored.remove(id) {
                Some(Some(row)) => Step::Done(Ok(row.into_registered())),
                Some(None) => Step::Done(Err(swallowed())),
                None => Step::Contended,
            },
        };
        Ok(Committed { steps: ids.into_iter().zip(verdicts).map(step).collect(), recorded })
    }
}

/// Those that were registered as they are already.
fn renewed<'a>(wanted: &[&'a RegisterWrite], stored: &HashMap<String, Option<Stored>>) -> Option<Noted<'a>> {
    let mut noted: Option<Noted<'a>> = None;
    for write in wanted {
        let id = write.registration.node_id.as_str();
        let Some(Some(row)) = stored.get(id) else { continue };
        if row.event().is_none() {
            let noted = noted.get_or_insert_with(|| Noted {
                at: row.horizon.at,
                alive: Vec::new(),
                renewed: Vec::new(),
            });
            noted.renewed.push(id);
            if write.alive {
                noted.alive.push(id);
            }
        }
    }
    noted
}

struct Deregistering<'a> {
    store: &'a PostgresStore,
    batch: &'a [DeregisterWrite],
}

#[async_trait]
impl Batch for Deregistering<'_> {
    type Done = Deregistered;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Committed<Deregistered>, Undone> {
        let writes: Vec<&DeregisterWrite> = items.iter().map(|item| &self.batch[*item]).collect();
        let ids: Vec<&str> = writes.iter().map(|write| write.node_id.as_str()).collect();
        let mut tx = begin(&self.store.pool, patience).await?;
        let locked = lock::to_delete(&mut tx, &ids, patience).await?;
        let present = revisions(&mut tx, &ids).await?;

        let verdict = |(write, id): (&&DeregisterWrite, &&str)| match present.get(*id).copied() {
            Some(_) if !locked.contains(*id) => Some(Step::Contended),
            revision if !write.precondition.holds(revision) => {
                Some(Step::Done(Err(StoreError::PreconditionFailed { present: revision })))
            }
            Some(_) => None,
            None => Some(Step::Done(Err(StoreError::NotFound))),
        };
        let verdicts: Vec<Option<Step<Deregistered>>> = writes.iter().zip(&ids).map(verdict).collect();
        let doomed: Vec<&str> =
            ids.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none()).map(|(id, _)| *id).collect();
        let gone: HashSet<String> = if doomed.is_empty() {
            HashSet::new()
        } else {
            sqlx::query_scalar(DELETE)
                .persistent(false)
                .bind(&doomed)
                .fetch_all(&mut *tx)
                .await?
                .into_iter()
                .collect()
        };

        let mut events = Events::default();
        for (write, id) in writes.iter().zip(&ids).filter(|(_, id)| gone.contains(**id)) {
            events.add(id, EventKind::Deregistered, "", &write.origin);
        }
        let recorded = record(&mut tx, &events).await?;
        tx.commit().await?;

        let numbered = recorded.iter().flat_map(|recorded| &recorded.events);
        let revisions: HashMap<&str, Revision> =
            numbered.map(|event| (event.node_id.as_str(), event.revision)).collect();
        let step = |(id, verdict): (&str, Option<Step<Deregistered>>)| match (verdict, revisions.get(id)) {
            (Some(step), _) => step,
            (None, Some(revision)) => Step::Done(Ok(Deregistered { revision: *revision })),
            (None, None) => Step::Done(Err(swallowed())),
        };
        let steps = ids.into_iter().zip(verdicts).map(step).collect();
        Ok(Committed { steps, recorded })
    }
}

/// A trigger of the user's own left the row as it was, without an error.
fn swallowed() -> StoreError {
    StoreError::Refused(Arc::new(sqlx::Error::RowNotFound))
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
