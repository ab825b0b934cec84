//! Deleting old events from PostgreSQL.
//!
//! Nobody waits for it: rows of the log are deleted that nobody else writes, and what is locked besides is the row of the
//! state, for one statement. Done twice, by one who doesn't know yet that another leads, it does no harm.
//!
//! READ COMMITTED is enough. A node is judged by what the `DELETE` sees, and what is committed after that can only
//! make an event needless, never needed: a newer event takes its place, a node that is removed needs none, and one that
//! registers anew brings its own. What is kept needlessly is found by the second pass.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::begin;
use super::health::leads;
use super::pool::{Pool, Transaction};
use crate::node::Revision;
use crate::store::StoreError;
use crate::store::health::ReplicaId;
use crate::store::retention::{BATCH, Pruned, Range, Swept, micros};

const PRUNED_THROUGH: &str = "SELECT COALESCE((SELECT pruned_through FROM onex_registry_state), 0)";

/// The next events up to the first one that is not old enough. A clock that went back or ahead may keep some for
/// longer than was asked for; it never deletes what comes after a younger one.
const OLD: &str = "
SELECT max(revision) AS through, count(*) AS events
  FROM (SELECT revision, bool_and(occurred_at < statement_timestamp() - $3::bigint * interval '1 microsecond')
                             OVER (ORDER BY revision) AS old
          FROM (SELECT revision, occurred_at FROM node_events
                 WHERE revision > $1 ORDER BY revision LIMIT $2) AS next) AS judged
 WHERE old";

/// The next events of those that the first pass has left.
const LEFT: &str = "
SELECT max(revision) AS through, count(*) AS events
  FROM (SELECT revision FROM node_events
         WHERE revision > $1 AND revision <= $3 ORDER BY revision LIMIT $2) AS next";

/// Without those that carry the revision of a registered node: the newest of their kinds, of a node that is there.
const DELETE: &str = "
DELETE FROM node_events e
 WHERE e.revision > $1 AND e.revision <= $2
   AND NOT (e.kind IN ('registered', 'updated', 'maintenance')
            AND NOT EXISTS (SELECT 1 FROM node_events newer
                             WHERE newer.node_id = e.node_id AND newer.revision > e.revision
                               AND newer.kind IN ('registered', 'updated', 'maintenance'))
            AND EXISTS (SELECT 1 FROM node_registrations n WHERE n.node_id = e.node_id))";

/// The row should be there. Nothing is deleted without a trace if it isn't.
const RAISE: &str = "
INSERT INTO onex_registry_state AS s (pruned_through) VALUES ($1)
    ON CONFLICT (id) DO UPDATE SET pruned_through = GREATEST(s.pruned_through, EXCLUDED.pruned_through)";

pub(super) async fn prune(
    pool: &Pool,
    leader: &ReplicaId,
    retention: Duration,
) -> Result<Option<Pruned>, StoreError> {
    let mut tx = pool.begin_with(begin::WRITE).await?;
    if !leads(&mut tx, leader).await? {
        return Ok(None);
    }
    let after = pruned_through(&mut tx).await?;
    let old = range(&mut tx, OLD, after, micros(retention)).await?;
    let deleted = delete(&mut tx, &old).await?;
    if let Some(through) = old.through {
        sqlx::query(RAISE).persistent(false).bind(through).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(Some(Pruned { deleted, more: old.is_full() }))
}

pub(super) async fn sweep(
    pool: &Pool,
    leader: &ReplicaId,
    after: Revision,
) -> Result<Option<Swept>, StoreError> {
    let mut tx = pool.begin_with(begin::WRITE).await?;
    if !leads(&mut tx, leader).await? {
        return Ok(None);
    }
    let through = pruned_through(&mut tx).await?;
    let left = range(&mut tx, LEFT, after.get(), through).await?;
    let deleted = delete(&mut tx, &left).await?;
    tx.commit().await?;
    Ok(Some(left.swept(deleted)))
}

async fn pruned_through(tx: &mut Transaction) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(PRUNED_THROUGH).persistent(false).fetch_one(&mut **tx).await
}

async fn range(
    tx: &mut Transaction,
    statement: &'static str,
    after: i64,
    bound: i64,
) -> Result<Range, sqlx::Error> {
    let row: PgRow = sqlx::query(statement)
        .persistent(false)
        .bind(after)
        .bind(BATCH)
        .bind(bound)
        .fetch_one(&mut **tx)
        .await?;
    Ok(Range { after, through: row.try_get("through")?, events: row.try_get("events")? })
}

async fn delete(tx: &mut Transaction, range: &Range) -> Result<u64, sqlx::Error> {
    let Some(through) = range.through else { return Ok(0) };
    let done =
        sqlx::query(DELETE).persistent(false).bind(range.after).bind(through).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
