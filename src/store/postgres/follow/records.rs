//! Reading some nodes.

use super::horizon;
use crate::going::collect_each;
use crate::node::{NodeKey, NodeRecord};
use crate::store::postgres::pool::Transaction;
use crate::store::postgres::{PostgresStore, begin, decode};
use crate::store::{Seen, StoreError};

/// The revision is the last in the index on both columns. With `=` the primary key, too, would be in the order that is
/// asked for, and the log might be gone through backwards to the last change of each node.
const RECORDS: &str = "
SELECT n.node_id, n.node_type, n.node_version, n.capabilities::text, n.endpoints::text, n.metadata::text,
       n.health_endpoint, n.last_heartbeat, n.registered_at, n.updated_at, n.ttl_seconds, n.maintenance,
       COALESCE(e.revision, 0) AS revision
  FROM node_registrations n
  LEFT JOIN LATERAL (SELECT e.revision FROM node_events e
                      WHERE e.node_id >= n.node_id AND e.node_id <= n.node_id
                        AND e.kind IN ('registered', 'updated', 'maintenance')
                      ORDER BY e.node_id DESC, e.revision DESC LIMIT 1) e ON TRUE
 WHERE n.node_id = ANY ($1)";

pub(in crate::store::postgres) async fn records(
    store: &PostgresStore,
    ids: &[NodeKey],
) -> Result<Seen<Vec<NodeRecord>>, StoreError> {
    let mut tx = store.pool.begin_with(begin::FOLLOW).await?;
    let row = horizon(&mut tx).await?;
    let value = fetch(&mut tx, ids).await?;
    tx.commit().await?;
    Ok(Seen {
        value,
        revision: decode::revision(&row, "horizon")?,
        horizon: decode::horizon(&row, store.ttl)?,
    })
}

/// Those of the nodes that are there.
pub(super) async fn fetch(tx: &mut Transaction, ids: &[NodeKey]) -> Result<Vec<NodeRecord>, sqlx::Error> {
    let ids: Vec<&str> = ids.iter().map(NodeKey::as_str).collect();
    let rows = sqlx::query(RECORDS).persistent(false).bind(ids).fetch(&mut **tx);
    collect_each(rows, decode::record).await
}
