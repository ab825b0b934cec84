//! Seeing to the fleet in an SQLite file. There is one server, so it always leads.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::write::record_event;
use super::{availability, instant, keep_if_sound};
use crate::node::{Actor, EventKind, Horizon, NodeKey, Origin, Timestamp, Ttl};
use crate::store::StoreError;
use crate::store::clock::Clock;
use crate::store::health::{Census, FleetCounts, FleetWatch, LifeChange, NAMED_AT_MOST, Rules, Tick};
use crate::store::sqlite::pool::Pool;

const REACHED: &str =
    "UPDATE onex_registry_state SET served_until = ?1, outage_began = ?2, outage_ended = ?3";

const WATCH: &str = "
UPDATE onex_registry_state
   SET preserving_since = ?1, calm_since = ?2, taking_part = ?3, healthy = ?4, were_healthy = ?5, turned_stale = ?6";

const WATCH_NOW: &str = "
SELECT preserving_since, calm_since, taking_part, healthy, were_healthy, turned_stale FROM onex_registry_state";

/// `fades`: when the last sign of life ceases to count, as `Horizon::ends` says it. `leaves`: when the node is overdue.
/// A sign of life in the future counts as now. Times are clamped to what can be reckoned with.
///
/// ?1 now, ?2 and ?3 the outage, ?4 the server's TTL, ?5 time to expiry, ?6 whether health endpoints are probed,
/// ?7 uptime; all in microseconds.
const JUDGED: &str = "
WITH signs AS (
    SELECT n.node_id, n.registered_at, max(COALESCE(min(n.ttl_seconds, 2147483647) * 1000000, ?4), 0) AS ttl,
           n.last_heartbeat IS NOT NULL OR (?6 AND n.health_endpoint IS NOT NULL) AS takes_part,
           min(max(n.last_heartbeat, 0), ?1) AS last,
           min(max(COALESCE(n.last_heartbeat, 0), n.updated_at, 0), ?1) AS leaving
      FROM node_registrations n WHERE n.maintenance IS NULL
), judged AS MATERIALIZED (
    SELECT s.node_id, s.takes_part, told.status AS told, told.since AS told_since, s.last, s.ttl,
           CASE WHEN ?2 IS NOT NULL AND s.last + s.ttl >= ?2 THEN max(s.last + s.ttl, ?3 + s.ttl)
                ELSE s.last + s.ttl END AS fades,
           CASE WHEN ?5 IS NOT NULL AND s.takes_part AND s.ttl <= ?7
                THEN max(COALESCE(?3 + s.ttl, 0),
                         ?5 + CASE WHEN ?2 IS NOT NULL AND s.leaving + s.ttl >= ?2
                                   THEN max(s.leaving + s.ttl, ?3 + s.ttl) ELSE s.leaving + s.ttl END)
                END AS leaves
      FROM signs s
      LEFT JOIN onex_registry_node_health told
             ON told.node_id = s.node_id AND told.registered_at = s.registered_at
)";

const COUNTS: &str = "
SELECT count(*) FILTER (WHERE takes_part) AS taking_part,
       count(*) FILTER (WHERE fades >= ?1) AS healthy,
       count(*) FILTER (WHERE fades < ?1 AND fades > ?1 - ttl) AS turned_stale,
       count(*) FILTER (WHERE fades >= ?1 AND told = 'healthy' AND told_since <= ?1 - ttl) AS stayed_healthy,
       min(fades) FILTER (WHERE fades >= ?1) AS next_fades, min(leaves) FILTER (WHERE leaves >= ?1) AS next_leaves,
       count(*) FILTER (WHERE leaves < ?1) AS overdue,
       count(*) FILTER (WHERE fades IS NOT NULL
                              AND told IS NOT CASE WHEN fades >= ?1 THEN 'healthy' ELSE 'stale' END) AS changes
  FROM judged";

const CHANGES: &str = "
SELECT node_id, fades >= ?1 AS is_healthy, CASE WHEN fades >= ?1 THEN last ELSE fades END AS since
  FROM judged
 WHERE fades IS NOT NULL AND told IS NOT CASE WHEN fades >= ?1 THEN 'healthy' ELSE 'stale' END
 ORDER BY fades LIMIT ?8";

const OVERDUE: &str = "SELECT node_id FROM judged WHERE leaves < ?1 ORDER BY leaves LIMIT ?8";

const TELL: &str = "
INSERT INTO onex_registry_node_health AS told (node_id, registered_at, status, since)
SELECT node_id, registered_at, ?2, ?3 FROM node_registrations
 WHERE node_id = ?1 AND maintenance IS NULL AND CASE ?2 WHEN 'healthy' THEN last_heartbeat >= ?3 ELSE last_heartbeat <= ?3 END
    ON CONFLICT (node_id) DO UPDATE
   SET registered_at = excluded.registered_at, status = excluded.status, since = excluded.since
 WHERE told.registered_at <> excluded.registered_at OR told.status <> excluded.status";

const FORGET: &str = "
DELETE FROM onex_registry_node_health WHERE node_id NOT IN (SELECT node_id FROM node_registrations)";

/// The condition of the census, on the row as it is now.
const EXPIRE: &str = "
DELETE FROM node_registrations
 WHERE node_id = ?1 AND maintenance IS NULL
   AND (last_heartbeat IS NOT NULL OR (?2 AND health_endpoint IS NOT NULL))
   AND min(max(COALESCE(last_heartbeat, 0), updated_at, 0), ?3)
       + max(COALESCE(min(ttl_seconds, 2147483647) * 1000000, ?4), 0) + ?5 < ?3";

/// What each of these does, in a transaction of the writer.
macro_rules! in_transaction {
    ($pool:expr, |$tx:ident| $work:expr) => {{
        let mut connection = $pool.acquire().await?;
        let attempt = async {
            let mut $tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            let done = $work;
            $tx.commit().await?;
            Ok::<_, StoreError>(done)
        };
        let result = attempt.await;
        keep_if_sound(connection, &result).await;
        result
    }};
}

pub(super) async fn tick(
    pool: &Pool,
    watch: Option<&FleetWatch>,
    was_away: bool,
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Result<Tick, StoreError> {
    in_transaction!(pool, |tx| {
        let at = clock.now();
        let now = availability(&mut tx).await?.reached(at, server_ttl, was_away);
        sqlx::query(REACHED)
            .bind(now.served_until.map(Timestamp::unix_micros))
            .bind(now.outage.map(|outage| outage.began.unix_micros()))
            .bind(now.outage.map(|outage| outage.ended.unix_micros()))
            .execute(&mut *tx)
            .await?;
        if let Some(watch) = watch {
            write_down(&mut tx, watch).await?;
        }
        let row = sqlx::query(WATCH_NOW).fetch_one(&mut *tx).await?;
        Tick { horizon: now.horizon(at, server_ttl), leads: true, watch: fleet_watch(&row)? }
    })
}

async fn write_down(tx: &mut SqliteConnection, watch: &FleetWatch) -> Result<(), sqlx::Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(WATCH)
        .bind(watch.preserving_since.map(Timestamp::unix_micros))
        .bind(watch.calm_since.map(Timestamp::unix_micros))
        .bind(number(watch.counts.taking_part))
        .bind(number(watch.counts.healthy))
        .bind(number(watch.counts.were_healthy))
        .bind(number(watch.counts.turned_stale))
        .execute(tx)
        .await
        .map(drop)
}

fn fleet_watch(row: &SqliteRow) -> Result<FleetWatch, sqlx::Error> {
    Ok(FleetWatch {
        preserving_since: instant(row, "preserving_since")?,
        calm_since: instant(row, "calm_since")?,
        counts: FleetCounts {
            taking_part: number(row, "taking_part")?,
            healthy: number(row, "healthy")?,
            were_healthy: number(row, "were_healthy")?,
            turned_stale: number(row, "turned_stale")?,
        },
    })
}

fn number(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or_default())
}

pub(super) async fn census(
    pool: &Pool,
    rules: &Rules,
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Result<Census, StoreError> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        // A transaction is a snapshot.
        let mut tx = connection.begin().await?;
        let horizon = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
        let judging = Judging { horizon, rules, server_ttl };
        let row = judging.ask(&mut tx, COUNTS).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
        // Mostly there are none, and the fleet needn't be gone through again.
        let changes = match number(&row, "changes")? {
            0 => Vec::new(),
            _ => judging.ask(&mut tx, CHANGES).await?.iter().map(change).collect::<Result<_, _>>()?,
        };
        let overdue = match number(&row, "overdue")? {
            0 => Vec::new(),
            _ => judging.ask(&mut tx, OVERDUE).await?.iter().map(key).collect::<Result<_, _>>()?,
        };
        tx.commit().await?;
        let turned_stale = number(&row, "turned_stale")?;
        let next = [instant(&row, "next_fades")?, instant(&row, "next_leaves")?];
        Ok::<_, StoreError>(Census {
            horizon,
            counts: FleetCounts {
                taking_part: number(&row, "taking_part")?,
                healthy: number(&row, "healthy")?,
                were_healthy: turned_stale + number(&row, "stayed_healthy")?,
                turned_stale,
            },
            changes,
            overdue,
            next_due: next.into_iter().flatten().min(),
        })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

/// What the fleet is judged by.
struct Judging<'a> {
    horizon: Horizon,
    rules: &'a Rules,
    server_ttl: Ttl,
}

impl Judging<'_> {
    async fn ask(
        &self,
        tx: &mut SqliteConnection,
        what: &'static str,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        // Two texts of this file.
        sqlx::query(sqlx::AssertSqlSafe(format!("{JUDGED}{what}")))
            .bind(self.horizon.at.unix_micros())
            .bind(self.horizon.outage.map(|outage| outage.began.unix_micros()))
            .bind(self.horizon.outage.map(|outage| outage.ended.unix_micros()))
            .bind(self.server_ttl.micros())
            .bind(self.rules.expire_after.map(|after| Ttl::from(after).micros()))
            .bind(self.rules.probing)
            .bind(Ttl::from(self.rules.uptime).micros())
            .bind(NAMED_AT_MOST)
            .fetch_all(tx)
            .await
    }
}

fn change(row: &SqliteRow) -> Result<LifeChange, sqlx::Error> {
    let since = Timestamp::from_unix_micros(row.try_get("since")?);
    Ok(LifeChange { node_id: key(row)?, healthy: row.try_get("is_healthy")?, since })
}

fn key(row: &SqliteRow) -> Result<NodeKey, sqlx::Error> {
    let id: String = row.try_get("node_id")?;
    NodeKey::new(id).ok_or_else(|| super::broken("an id that no node can have"))
}

pub(super) async fn announce(
    pool: &Pool,
    changes: &[LifeChange],
    clock: &dyn Clock,
) -> Result<Vec<LifeChange>, StoreError> {
    in_transaction!(pool, |tx| {
        let now = clock.now();
        let mut told = Vec::new();
        for change in changes {
            let kind = if change.healthy { EventKind::Healthy } else { EventKind::Stale };
            let result = sqlx::query(TELL)
                .bind(change.node_id.as_str())
                .bind(kind.as_str())
                .bind(change.since.unix_micros())
                .execute(&mut *tx)
                .await?;
            if result.rows_affected() > 0 {
                record_event(&mut tx, change.node_id.as_str(), kind, &[], &ours(), now).await?;
                told.push(change.clone());
            }
        }
        told
    })
}

pub(super) async fn forget_the_gone(pool: &Pool) -> Result<(), StoreError> {
    in_transaction!(pool, |tx| {
        sqlx::query(FORGET).execute(&mut *tx).await?;
    })
}

pub(super) async fn expire(
    pool: &Pool,
    overdue: &[NodeKey],
    horizon: &Horizon,
    rules: &Rules,
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Result<Vec<bool>, StoreError> {
    let Some(expire_after) = rules.expire_after.map(Ttl::from) else {
        return Ok(overdue.iter().map(|_| false).collect());
    };
    in_transaction!(pool, |tx| {
        let now = clock.now();
        let mut gone = Vec::with_capacity(overdue.len());
        for id in overdue {
            let result = sqlx::query(EXPIRE)
                .bind(id.as_str())
                .bind(rules.probing)
                .bind(horizon.at.unix_micros())
                .bind(server_ttl.micros())
                .bind(expire_after.micros())
                .execute(&mut *tx)
                .await?;
            if result.rows_affected() > 0 {
                record_event(&mut tx, id.as_str(), EventKind::Expired, &[], &ours(), now).await?;
            }
            gone.push(result.rows_affected() > 0);
        }
        gone
    })
}

/// What the registry does of its own accord.
fn ours() -> Origin {
    Origin { actor: Actor::registry(), correlation_id: None }
}
