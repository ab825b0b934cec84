//! Deleting old events from SQLite: by the writer, between its batches.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection as _, Row as _};

use super::keep_if_sound;
use super::write::BEGIN;
use crate::node::Revision;
use crate::store::clock::Clock;
use crate::store::retention::{BATCH, Pruned, Range, Swept, micros};

/// The next events up to the first one that is not old enough. A clock that went back or ahead may keep some for
/// longer than was asked for; it never deletes what comes after a younger one.
const OLD: &str = "
SELECT max(revision) AS through, count(*) AS events
  FROM (SELECT revision, min(occurred_at < ?3) OVER (ORDER BY revision) AS old
          FROM (SELECT revision, occurred_at FROM node_events WHERE revision > ?1 ORDER BY revision LIMIT ?2))
 WHERE old";

/// The next events of those that the first pass has left.
const LEFT: &str = "
SELECT max(revision) AS through, count(*) AS events
  FROM (SELECT revision FROM node_events WHERE revision > ?1 AND revision <= ?3 ORDER BY revision LIMIT ?2)";

/// Without those that carry the revision of a registered node: the newest of their kinds, of a node that is there.
const DELETE: &str = "
DELETE FROM node_events AS e
 WHERE e.revision > ?1 AND e.revision <= ?2
   AND NOT (e.kind IN ('registered', 'updated', 'maintenance')
            AND NOT EXISTS (SELECT 1 FROM node_events newer
                             WHERE newer.node_id = e.node_id AND newer.revision > e.revision
                               AND newer.kind IN ('registered', 'updated', 'maintenance'))
            AND EXISTS (SELECT 1 FROM node_registrations n WHERE n.node_id = e.node_id))";

const RAISE: &str = "UPDATE onex_registry_state SET pruned_through = max(pruned_through, ?1)";

pub(super) async fn pruned_through(connection: &mut SqliteConnection) -> Result<Revision, sqlx::Error> {
    let through: i64 =
        sqlx::query_scalar("SELECT pruned_through FROM onex_registry_state").fetch_one(connection).await?;
    Ok(Revision::new(through).unwrap_or_default())
}

pub(super) async fn prune(
    pool: &SqlitePool,
    retention: Duration,
    clock: &dyn Clock,
) -> Result<Pruned, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        let mut tx = connection.begin_with(BEGIN).await?;
        let after = pruned_through(&mut tx).await?.get();
        let before = clock.now().minus_micros(micros(retention)).unix_micros();
        let old = range(&mut tx, OLD, after, before).await?;
        let deleted = delete(&mut tx, &old).await?;
        if let Some(through) = old.through {
            sqlx::query(RAISE).bind(through).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(Pruned { deleted, more: old.is_full() })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

pub(super) async fn sweep(pool: &SqlitePool, after: Revision) -> Result<Swept, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        let mut tx = connection.begin_with(BEGIN).await?;
        let through = pruned_through(&mut tx).await?.get();
        let left = range(&mut tx, LEFT, after.get(), through).await?;
        let deleted = delete(&mut tx, &left).await?;
        tx.commit().await?;
        Ok(left.swept(deleted))
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

async fn range(
    connection: &mut SqliteConnection,
    statement: &'static str,
    after: i64,
    bound: i64,
) -> Result<Range, sqlx::Error> {
    let row = sqlx::query(statement).bind(after).bind(BATCH).bind(bound).fetch_one(connection).await?;
    Ok(Range { after, through: row.try_get("through")?, events: row.try_get("events")? })
}

async fn delete(connection: &mut SqliteConnection, range: &Range) -> Result<u64, sqlx::Error> {
    let Some(through) = range.through else { return Ok(0) };
    Ok(sqlx::query(DELETE).bind(range.after).bind(through).execute(connection).await?.rows_affected())
}
