//! Taking nodes out of service, and putting them back.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::Row as _;

use super::batch::{Batch, Committed, Patience, Step, Undone, run};
use super::events::{Events, record};
use super::lock::{self, begin};
use super::swallowed;
use crate::node::{EventKind, Reason, Ttl};
use crate::store::postgres::pool::Transaction;
use crate::store::postgres::revision::revision_sql;
use crate::store::postgres::{PostgresStore, decode};
use crate::store::{IfHeld, Maintained, MaintenanceWrite, StoreError, Written};

/// In a statement after the one that locked the rows, so that it sees what the lock waited for.
const PRESENT: &str = concat!(
    "
SELECT n.node_id, n.node_type, n.node_version, n.capabilities::text, n.endpoints::text, n.metadata::text,
       n.health_endpoint, n.last_heartbeat, n.registered_at, n.updated_at, n.ttl_seconds, n.maintenance,
       ",
    revision_sql!(),
    " AS revision,
       statement_timestamp() AS at, g.served_until, g.outage_began, g.outage_ended
  FROM node_registrations n LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) g ON TRUE
 WHERE n.node_id = ANY ($1)"
);

/// Only rows that are locked already, so the order of the plan is of no matter.
const SET: &str = "
UPDATE node_registrations n SET maintenance = i.reason
  FROM unnest($1::text[], $2::text[]) AS i (node_id, reason)
 WHERE n.node_id = i.node_id
RETURNING n.node_id, n.maintenance";

pub(in crate::store::postgres) async fn set_maintenance(
    store: &PostgresStore,
    batch: &[MaintenanceWrite],
    if_held: IfHeld,
) -> Written<Maintained> {
    run(&Maintaining { store, batch }, batch.len(), store.turns(if_held)).await
}

struct Maintaining<'a> {
    store: &'a PostgresStore,
    batch: &'a [MaintenanceWrite],
}

#[async_trait]
impl Batch for Maintaining<'_> {
    type Done = Maintained;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Committed<Maintained>, Undone> {
        let writes: Vec<&MaintenanceWrite> = items.iter().map(|item| &self.batch[*item]).collect();
        let ids: Vec<&str> = writes.iter().map(|write| write.node_id.as_str()).collect();
        let mut tx = begin(&self.store.pool, patience).await?;
        let locked = lock::to_update(&mut tx, &ids, patience).await?;
        let mut present = present(&mut tx, &ids, self.store.ttl).await?;

        let verdict = |(write, id): (&&MaintenanceWrite, &&str)| match present.get(*id) {
            Some(_) if !locked.contains(*id) => Some(Step::Contended),
            node => {
                let revision = node.map(|node| node.record.revision);
                if !write.precondition.holds(revision) {
                    Some(Step::Done(Err(StoreError::PreconditionFailed { present: revision })))
                } else if node.is_none() {
                    Some(Step::Done(Err(StoreError::NotFound)))
                } else {
                    None
                }
            }
        };
        let verdicts: Vec<Option<Step<Maintained>>> = writes.iter().zip(&ids).map(verdict).collect();
        let changes: Vec<&MaintenanceWrite> = writes
            .iter()
            .zip(&verdicts)
            .filter(|(write, verdict)| verdict.is_none() && changes(write, &present))
            .map(|(write, _)| *write)
            .collect();
        let mut stored = set(&mut tx, &changes).await?;

        let mut events = Events::default();
        for write in &changes {
            let id = write.node_id.as_str();
            let node = present.get_mut(id);
            if let (Some(node), Some(maintenance)) = (node, stored.get(id))
                && node.record.maintenance != *maintenance
            {
                node.record.maintenance.clone_from(maintenance);
                events.add(id, EventKind::Maintenance, "", &write.origin);
            }
        }
        let recorded = record(&mut tx, &events).await?;
        tx.commit().await?;

        for event in recorded.iter().flat_map(|recorded| &recorded.events) {
            if let Some(node) = present.get_mut(event.node_id.as_str()) {
                node.record.revision = event.revision;
            }
        }
        for write in changes {
            if stored.remove(write.node_id.as_str()).is_none() {
                present.remove(write.node_id.as_str());
            }
        }
        let step = |(id, verdict): (&str, Option<Step<Maintained>>)| {
            verdict.unwrap_or_else(|| Step::Done(present.remove(id).ok_or_else(swallowed)))
        };
        let steps = ids.into_iter().zip(verdicts).map(step).collect();
        Ok(Committed { steps, recorded })
    }
}

fn changes(write: &MaintenanceWrite, present: &HashMap<String, Maintained>) -> bool {
    let present = present.get(write.node_id.as_str()).and_then(|node| node.record.maintenance.as_deref());
    present != write.reason.as_ref().map(Reason::as_str)
}

async fn present(
    tx: &mut Transaction,
    ids: &[&str],
    server_ttl: Ttl,
) -> Result<HashMap<String, Maintained>, sqlx::Error> {
    let rows = sqlx::query(PRESENT).persistent(false).bind(ids).fetch_all(&mut **tx).await?;
    let node = |row| {
        let node = Maintained { record: decode::record(row)?, horizon: decode::horizon(row, server_ttl)? };
        Ok((node.record.node_id.as_str().to_owned(), node))
    };
    rows.iter().map(node).collect()
}

/// The reasons as they are stored now. What is missing, a trigger of the user's own has swallowed.
async fn set(
    tx: &mut Transaction,
    writes: &[&MaintenanceWrite],
) -> Result<HashMap<String, Option<String>>, sqlx::Error> {
    if writes.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(SET)
        .persistent(false)
        .bind(writes.iter().map(|write| write.node_id.as_str()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.reason.as_ref().map(Reason::as_str)).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("node_id")?, row.try_get("maintenance")?))).collect()
}
