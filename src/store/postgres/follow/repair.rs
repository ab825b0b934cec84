//! Recording what no trigger and no writer has recorded: rows that were changed while the triggers were disabled, or by
//! a restore.

use std::collections::HashSet;

use crate::node::{Actor, Event, EventKind, Origin};
use crate::store::health::ReplicaId;
use crate::store::postgres::health::leads;
use crate::store::postgres::pool::Transaction;
use crate::store::postgres::write::batch::Patience;
use crate::store::postgres::write::{Events, lock, lock_revisions, record};
use crate::store::postgres::{PostgresStore, begin};
use crate::store::{StoreError, Unrecorded};

/// Which of the differences are still there, in their order: no event has told of the node since, and it is there or
/// not, as the difference has it. In a statement after the one that took the lock: nothing is recorded meanwhile.
///
/// What told of a node that is gone may have been deleted with the other old events.
const STILL: &str = "
SELECT c.position
  FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS c (node_id, kind, revision, position)
  LEFT JOIN node_registrations n ON n.node_id = c.node_id
 CROSS JOIN LATERAL (SELECT COALESCE(max(e.revision) FILTER (WHERE e.kind IN ('registered', 'updated', 'maintenance')), 0)
                                AS told,
                            COALESCE(max(e.revision) FILTER (WHERE e.kind IN ('deregistered', 'expired')), 0) AS gone
                       FROM node_events e WHERE e.node_id = c.node_id AND e.revision >= c.revision) newest
 WHERE CASE c.kind WHEN 'deregistered' THEN n.node_id IS NULL AND newest.told <= c.revision AND newest.gone <= c.revision
                   WHEN 'updated' THEN n.node_id IS NOT NULL AND newest.told = c.revision AND newest.gone <= c.revision
                   ELSE n.node_id IS NOT NULL AND newest.told = c.revision END
 ORDER BY c.position";

/// What an update that nobody saw may have changed.
const COLUMNS: &str = "node_type,node_version,capabilities,endpoints,metadata,health_endpoint,ttl_seconds";

/// Records the differences that are still there, if the replica leads. Nodes whose row somebody holds are left for the
/// next time: whoever holds it is about to change it.
pub(in crate::store::postgres) async fn repair(
    store: &PostgresStore,
    leader: &ReplicaId,
    changed: &[Unrecorded],
) -> Result<Option<Vec<Event>>, StoreError> {
    let mut tx = store.pool.begin_with(begin::WRITE).await?;
    if !leads(&mut tx, leader).await? {
        return Ok(None);
    }
    let there: Vec<&str> = changed
        .iter()
        .filter(|change| change.kind != EventKind::Deregistered)
        .map(|change| change.node_id.as_str())
        .collect();
    let locked = lock::to_update(&mut tx, &there, Patience::None).await?;
    let free: Vec<&Unrecorded> = changed
        .iter()
        .filter(|change| change.kind == EventKind::Deregistered || locked.contains(change.node_id.as_str()))
        .collect();
    lock_revisions(&mut tx).await?;
    let origin = Origin { actor: Actor::registry(), correlation_id: None };
    let mut events = Events::default();
    for change in still(&mut tx, &free).await? {
        events.add(change.node_id.as_str(), change.kind, COLUMNS, &origin);
    }
    let recorded = record(&mut tx, &events).await?;
    tx.commit().await?;
    Ok(Some(recorded.map(|recorded| recorded.events).unwrap_or_default()))
}

async fn still<'a>(
    tx: &mut Transaction,
    changed: &[&'a Unrecorded],
) -> Result<Vec<&'a Unrecorded>, sqlx::Error> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = sqlx::query_scalar(STILL)
        .persistent(false)
        .bind(changed.iter().map(|change| change.node_id.as_str()).collect::<Vec<_>>())
        .bind(changed.iter().map(|change| change.kind.as_str()).collect::<Vec<_>>())
        .bind(changed.iter().map(|change| change.revision.get()).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    let positions: HashSet<i64> = positions.into_iter().collect();
    let numbered = (1_i64..).zip(changed);
    Ok(numbered.filter(|(position, _)| positions.contains(position)).map(|(_, change)| *change).collect())
}
