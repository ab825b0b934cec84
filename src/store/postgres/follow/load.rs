//! Reading the whole table.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use crate::going::take_each;
use crate::node::NodeRecord;
use crate::store::follow::JournalPosition;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::postgres::{PostgresStore, begin};
use crate::store::{EventMark, Loaded, Position, StoreError};

const NEWEST: &str = "SELECT revision, occurred_at FROM node_events ORDER BY revision DESC LIMIT 1";

const JOURNAL: &str = "SELECT id FROM onex_registry_signs";

/// The revisions come from one pass over their index, and not from a look-up for each row.
const LOAD: &str = "
SELECT n.node_id, n.node_type, n.node_version, n.capabilities::text, n.endpoints::text, n.metadata::text,
       n.health_endpoint, n.last_heartbeat, n.registered_at, n.updated_at, n.ttl_seconds, n.maintenance,
       COALESCE(e.revision, 0) AS revision
  FROM node_registrations n
  LEFT JOIN (SELECT node_id, max(revision) AS revision FROM node_events
              WHERE kind IN ('registered', 'updated', 'maintenance') GROUP BY node_id) e ON e.node_id = n.node_id";

pub(in crate::store::postgres) async fn load(
    store: &PostgresStore,
    take: &mut (dyn FnMut(NodeRecord) + Send),
) -> Result<Loaded, StoreError> {
    let (asked, own) = (Instant::now(), store.tag.now());
    let mut tx = store.pool.begin_with(begin::LOAD).await?;
    let row = super::horizon(&mut tx).await?;
    let newest = sqlx::query(NEWEST).persistent(false).fetch_optional(&mut *tx).await?;
    let seen: Vec<i64> = sqlx::query_scalar(JOURNAL).persistent(false).fetch_all(&mut *tx).await?;
    // One by one, as they come: the table may be larger than what we want to hold twice.
    let rows = sqlx::query(LOAD).persistent(false).fetch(&mut *tx);
    take_each(rows, |row| {
        take(decode::record(&row)?);
        Ok(())
    })
    .await?;
    tx.commit().await?;
    let horizon = decode::horizon(&row, store.ttl)?;
    Ok(Loaded {
        position: Position {
            revision: decode::revision(&row, "horizon")?,
            last: newest.as_ref().map(mark).transpose()?,
            journal: JournalPosition::of(&seen, own, asked, horizon.at),
        },
        horizon,
    })
}

fn mark(row: &PgRow) -> Result<EventMark, sqlx::Error> {
    let occurred_at = row.try_get::<PgTimestamp, _>("occurred_at")?.0;
    Ok(EventMark { revision: decode::revision(row, "revision")?, occurred_at })
}
