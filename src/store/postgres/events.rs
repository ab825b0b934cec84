//! The audit trail in PostgreSQL.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::begin;
use super::decode::{self, PgTimestamp};
use super::pool::{Pool, Transaction};
use super::read::HORIZON;
use crate::node::{ColumnText, Event, EventQuery, NodeKey, Ttl};
use crate::store::event_page::{Chunk, EventPage, EventScan, LogEnds};
use crate::store::{Seen, StoreError};

/// The next events of all nodes. Public for the test that reads its plan.
#[doc(hidden)]
pub const SCAN: &str = "
SELECT revision, node_id, kind, changed, actor, correlation_id, occurred_at
  FROM node_events WHERE revision > $1 ORDER BY revision LIMIT $2";

/// The next events of some nodes. Public for the test that reads its plan.
///
/// Each node is looked up by itself. With `=` the primary key, too, would be in the order that is asked for, and the
/// whole log might be gone through for a node that has no events: so it is `>=` and `<=`, and in the order of the
/// index on both columns. See also [`SCAN_SETTINGS`].
#[doc(hidden)]
pub const SCAN_NODES: &str = "
SELECT e.revision, e.node_id, e.kind, e.changed, e.actor, e.correlation_id, e.occurred_at
  FROM unnest($3::text[]) AS wanted (node_id)
 CROSS JOIN LATERAL (SELECT * FROM node_events e
                      WHERE e.node_id >= wanted.node_id AND e.node_id <= wanted.node_id AND e.revision > $1
                      ORDER BY e.node_id, e.revision LIMIT $2) e
 ORDER BY e.revision LIMIT $2";

/// How the scans are to be planned. PostgreSQL can't know how many events a node has, and would rather collect and sort
/// them all than read the index in order up to the limit, which is never slow. Public for the test that reads plans.
#[doc(hidden)]
pub const SCAN_SETTINGS: &str = "SET LOCAL enable_bitmapscan = off";

pub(super) async fn events(
    pool: &Pool,
    query: &EventQuery,
    server_ttl: Ttl,
) -> Result<Seen<EventPage>, StoreError> {
    // One snapshot for all statements.
    let mut tx = pool.begin_with(begin::READ).await?;
    sqlx::query(SCAN_SETTINGS).persistent(false).execute(&mut *tx).await?;
    let row = sqlx::query(HORIZON).persistent(false).fetch_one(&mut *tx).await?;
    let revision = decode::revision(&row, "horizon")?;
    let ends = LogEnds { pruned_through: decode::revision(&row, "pruned_through")?, newest: revision };
    let mut scan = EventScan::new(query, ends)?;
    while let Some(chunk) = scan.next() {
        let events = fetch(&mut tx, query, &chunk).await?;
        scan.take(&chunk, events);
    }
    tx.commit().await?;
    Ok(Seen { value: scan.finish(), revision, horizon: decode::horizon(&row, server_ttl)? })
}

async fn fetch(tx: &mut Transaction, query: &EventQuery, chunk: &Chunk) -> Result<Vec<Event>, sqlx::Error> {
    let statement = if query.node_ids.is_some() { SCAN_NODES } else { SCAN };
    let mut statement = sqlx::query(statement)
        .persistent(false)
        .bind(chunk.after.get())
        .bind(i64::try_from(chunk.limit).unwrap_or(i64::MAX));
    if let Some(ids) = &query.node_ids {
        statement = statement.bind(ids.iter().map(ColumnText::as_str).collect::<Vec<_>>());
    }
    statement.fetch_all(&mut **tx).await?.iter().map(event).collect()
}

pub(super) fn event(row: &PgRow) -> Result<Event, sqlx::Error> {
    let node_id: String = row.try_get("node_id")?;
    Ok(Event {
        revision: decode::revision(row, "revision")?,
        node_id: NodeKey::new(node_id).ok_or_else(|| decode::broken("an id that the column can't hold"))?,
        kind: row.try_get("kind")?,
        changed: row.try_get("changed")?,
        actor: row.try_get("actor")?,
        correlation_id: row.try_get("correlation_id")?,
        occurred_at: row.try_get::<PgTimestamp, _>("occurred_at")?.0,
    })
}
