//! Removing nodes.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::batch::{Batch, Committed, Patience, Step, Undone, run};
use super::events::{Events, record};
use super::lock::{self, begin, revisions};
use super::swallowed;
use crate::node::{EventKind, Revision};
use crate::store::postgres::PostgresStore;
use crate::store::{DeregisterWrite, Deregistered, IfHeld, StoreError, Written};

const DELETE: &str = "DELETE FROM node_registrations WHERE node_id = ANY ($1) RETURNING node_id";

pub(in crate::store::postgres) async fn deregister(
    store: &PostgresStore,
    batch: &[DeregisterWrite],
    if_held: IfHeld,
) -> Written<Deregistered> {
    run(&Deregistering { store, batch }, batch.len(), store.turns(if_held)).await
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
