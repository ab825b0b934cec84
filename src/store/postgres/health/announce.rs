//! Telling of lives: an event for each node that came to life or turned stale, once.

use std::collections::HashSet;

use super::leads;
use crate::node::{Actor, EventKind, Origin};
use crate::store::StoreError;
use crate::store::health::{LifeChange, ReplicaId};
use crate::store::postgres::begin;
use crate::store::postgres::decode::PgTimestamp;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::write::{Events, lock_revisions, record};

/// Under the lock of the revisions, so that no row need be locked: whoever deletes one and is not seen here is numbered
/// after this. Stale nodes that gave a sign of life since they were looked at are left out, and what has been told
/// already is not told again. Nor is a life told of another node that registered under the id meanwhile.
const TELL: &str = r#"
INSERT INTO onex_registry_node_health AS told (node_id, registered_at, status, since)
SELECT n.node_id, n.registered_at, c.status, c.since
  FROM node_registrations n
  JOIN unnest($1::text[], $2::text[], $3::timestamptz[]) AS c (node_id, status, since) ON c.node_id = n.node_id
 WHERE n.maintenance IS NULL AND CASE c.status WHEN 'healthy' THEN n.last_heartbeat >= c.since ELSE n.last_heartbeat <= c.since END
 ORDER BY n.node_id COLLATE "C"
    ON CONFLICT (node_id) DO UPDATE
   SET registered_at = EXCLUDED.registered_at, status = EXCLUDED.status, since = EXCLUDED.since
 WHERE told.registered_at <> EXCLUDED.registered_at OR told.status <> EXCLUDED.status
RETURNING node_id"#;

/// What was told of nodes that are gone, a few at a time.
const FORGET: &str = "
DELETE FROM onex_registry_node_health
 WHERE node_id IN (SELECT told.node_id FROM onex_registry_node_health told
                    WHERE NOT EXISTS (SELECT 1 FROM node_registrations n WHERE n.node_id = told.node_id)
                    ORDER BY told.node_id COLLATE \"C\" LIMIT 1000 FOR UPDATE OF told SKIP LOCKED)";

/// Records the changes that have not been recorded, if the replica leads, and says which they were.
pub(in crate::store::postgres) async fn announce(
    pool: &Pool,
    leader: &ReplicaId,
    changes: &[LifeChange],
) -> Result<Vec<LifeChange>, StoreError> {
    let mut tx = pool.begin_with(begin::WRITE).await?;
    if !leads(&mut tx, leader).await? {
        return Ok(Vec::new());
    }
    lock_revisions(&mut tx).await?;
    let kind = |change: &LifeChange| if change.healthy { EventKind::Healthy } else { EventKind::Stale };
    let told: HashSet<String> = sqlx::query_scalar(TELL)
        .persistent(false)
        .bind(changes.iter().map(|change| change.node_id.as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| kind(change).as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| PgTimestamp(change.since)).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .collect();
    let told: Vec<LifeChange> =
        changes.iter().filter(|change| told.contains(change.node_id.as_str())).cloned().collect();
    let origin = Origin { actor: Actor::registry(), correlation_id: None };
    let mut events = Events::default();
    for change in &told {
        events.add(change.node_id.as_str(), kind(change), "", &origin);
    }
    record(&mut tx, &events).await?;
    tx.commit().await?;
    Ok(told)
}

/// Forgets what was told of nodes that are gone.
pub(in crate::store::postgres) async fn forget_the_gone(
    pool: &Pool,
    leader: &ReplicaId,
) -> Result<(), StoreError> {
    let mut tx = pool.begin_with(begin::WRITE).await?;
    if !leads(&mut tx, leader).await? {
        return Ok(());
    }
    sqlx::query(FORGET).persistent(false).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}
