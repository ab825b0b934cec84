//! What tells whether two copies of a registration are the same, without the registration.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{horizon, key};
use crate::going::take_each;
use crate::node::NodeKey;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::postgres::{PostgresStore, begin};
use crate::store::{Digest, Seen, StoreError};

/// The text that is hashed is that of [`crate::store::digest`]. `OFFSET 0` keeps the JSON from being made into text
/// once for its length and once more for itself.
const DIGESTS: &str = "
SELECT n.node_id, n.last_heartbeat, n.registered_at, n.updated_at, COALESCE(e.revision, 0) AS revision,
       substr(sha256(convert_to(
           octet_length(n.node_type) || ':' || n.node_type
           || octet_length(n.node_version) || ':' || n.node_version
           || octet_length(json.capabilities) || ':' || json.capabilities
           || octet_length(json.endpoints) || ':' || json.endpoints
           || octet_length(json.metadata) || ':' || json.metadata
           || COALESCE(octet_length(n.health_endpoint) || ':' || n.health_endpoint, '-')
           || COALESCE(octet_length(n.ttl_seconds::text) || ':' || n.ttl_seconds, '-')
           || COALESCE(octet_length(n.maintenance) || ':' || n.maintenance, '-'), 'UTF8')), 1, 8) AS columns
  FROM node_registrations n
 CROSS JOIN LATERAL (SELECT n.capabilities::text AS capabilities, n.endpoints::text AS endpoints,
                            n.metadata::text AS metadata OFFSET 0) json
  LEFT JOIN (SELECT node_id, max(revision) AS revision FROM node_events
              WHERE kind IN ('registered', 'updated', 'maintenance') GROUP BY node_id) e ON e.node_id = n.node_id";

pub(in crate::store::postgres) async fn digests(
    store: &PostgresStore,
    take: &mut (dyn FnMut(NodeKey, Digest) + Send),
) -> Result<Seen<()>, StoreError> {
    let mut tx = store.pool.begin_with(begin::LOAD).await?;
    let row = horizon(&mut tx).await?;
    let rows = sqlx::query(DIGESTS).persistent(false).fetch(&mut *tx);
    take_each(rows, |row| {
        take(key(&row)?, digest(&row)?);
        Ok(())
    })
    .await?;
    tx.commit().await?;
    Ok(Seen {
        value: (),
        revision: decode::revision(&row, "horizon")?,
        horizon: decode::horizon(&row, store.ttl)?,
    })
}

fn digest(row: &PgRow) -> Result<Digest, sqlx::Error> {
    let columns: &[u8] = row.try_get("columns")?;
    let columns = columns.try_into().map_err(|_| decode::broken("a hash that is too short"))?;
    Ok(Digest {
        revision: decode::revision(row, "revision")?,
        columns: u64::from_be_bytes(columns),
        last_heartbeat: decode::instant(row, "last_heartbeat")?,
        registered_at: row.try_get::<PgTimestamp, _>("registered_at")?.0,
        updated_at: row.try_get::<PgTimestamp, _>("updated_at")?.0,
    })
}
