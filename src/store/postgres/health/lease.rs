//! The lease, and the report that the database was reached.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use tokio::time::Instant;

use crate::node::Ttl;
use crate::store::health::{FleetCounts, FleetWatch, LEASE, ReplicaId, Tick};
use crate::store::postgres::begin;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::postgres::pool::{Pool, Transaction};

/// A report that took longer was held up by the database, and so were heartbeats.
const HELD_UP: Duration = Duration::from_millis(500);

/// A lease that is somebody else's is not even locked. Who takes one over keeps what is written there. One that ends later
/// than any that is given was given by a clock that has gone back since; `infinity` is the operator's way to have
/// nobody lead.
const RENEW: &str = "
UPDATE onex_registry_leases
   SET expires_at = clock_timestamp() + make_interval(secs => $2),
       preserving_since = CASE WHEN holder = $1 AND $3 THEN $4 ELSE preserving_since END,
       calm_since = CASE WHEN holder = $1 AND $3 THEN $5 ELSE calm_since END,
       taking_part = CASE WHEN holder = $1 AND $3 THEN $6 ELSE taking_part END,
       healthy = CASE WHEN holder = $1 AND $3 THEN $7 ELSE healthy END,
       were_healthy = CASE WHEN holder = $1 AND $3 THEN $8 ELSE were_healthy END,
       turned_stale = CASE WHEN holder = $1 AND $3 THEN $9 ELSE turned_stale END,
       holder = $1
 WHERE name = 'health'
   AND (holder = $1 OR expires_at < clock_timestamp()
        OR (expires_at > clock_timestamp() + 2 * make_interval(secs => $2) AND expires_at < 'infinity'))";

const LEASE_NOW: &str = "
SELECT holder, preserving_since, calm_since, taking_part, healthy, were_healthy, turned_stale
  FROM onex_registry_leases WHERE name = 'health'";

const STATE: &str = "
SELECT served_until, outage_began, outage_ended, clock_timestamp() AS at
  FROM onex_registry_state FOR NO KEY UPDATE";

/// What keeps heartbeats out keeps this out: an index that is being made, or a table that is being rewritten. As long
/// as it does, heartbeats can't be taken.
const CAN_BE_WRITTEN: &str = "LOCK TABLE node_registrations IN ROW EXCLUSIVE MODE";

const REACHED: &str = "
UPDATE onex_registry_state SET served_until = $1, outage_began = $2, outage_ended = $3";

/// The rows are made by the migration. Whoever empties the tables by hand gets them back.
const LEASE_AGAIN: &str = "INSERT INTO onex_registry_leases (name) VALUES ('health') ON CONFLICT DO NOTHING";
const STATE_AGAIN: &str = "INSERT INTO onex_registry_state DEFAULT VALUES ON CONFLICT DO NOTHING";

const RESIGN: &str = "
UPDATE onex_registry_leases SET expires_at = '-infinity' WHERE name = 'health' AND holder = $1";

/// Writes down that the database was reached, and takes or renews the lease if it is to be had.
pub(in crate::store::postgres) async fn tick(
    pool: &Pool,
    replica: &ReplicaId,
    watch: Option<&FleetWatch>,
    was_away: bool,
    server_ttl: Ttl,
) -> Result<Tick, sqlx::Error> {
    let asked = Instant::now();
    // By itself, so that whoever holds the lease's row has no say in it.
    let mut tx = pool.begin_with(begin::REPORT).await?;
    let horizon = reached(&mut tx, server_ttl, was_away, asked).await?;
    tx.commit().await?;

    let mut tx = pool.begin_with(begin::REPORT).await?;
    renew(&mut tx, replica, watch).await?;
    let lease = sqlx::query(LEASE_NOW).persistent(false).fetch_optional(&mut *tx).await?;
    let Some(lease) = lease else {
        sqlx::query(LEASE_AGAIN).persistent(false).execute(&mut *tx).await?;
        tx.commit().await?;
        return Ok(Tick { horizon, leads: false, watch: FleetWatch::default() });
    };
    tx.commit().await?;
    let leads = lease.try_get::<&str, _>("holder")? == replica.as_str();
    Ok(Tick { horizon, leads, watch: fleet_watch(&lease)? })
}

async fn renew(
    tx: &mut Transaction,
    replica: &ReplicaId,
    watch: Option<&FleetWatch>,
) -> Result<(), sqlx::Error> {
    let FleetWatch { preserving_since, calm_since, counts } = watch.copied().unwrap_or_default();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(RENEW)
        .persistent(false)
        .bind(replica.as_str())
        .bind(LEASE.as_secs_f64())
        .bind(watch.is_some())
        .bind(preserving_since.map(PgTimestamp))
        .bind(calm_since.map(PgTimestamp))
        .bind(number(counts.taking_part))
        .bind(number(counts.healthy))
        .bind(number(counts.were_healthy))
        .bind(number(counts.turned_stale))
        .execute(&mut **tx)
        .await
        .map(drop)
}

async fn reached(
    tx: &mut Transaction,
    server_ttl: Ttl,
    was_away: bool,
    asked: Instant,
) -> Result<crate::node::Horizon, sqlx::Error> {
    sqlx::query(CAN_BE_WRITTEN).persistent(false).execute(&mut **tx).await?;
    let mut row = sqlx::query(STATE).persistent(false).fetch_optional(&mut **tx).await?;
    if row.is_none() {
        sqlx::query(STATE_AGAIN).persistent(false).execute(&mut **tx).await?;
        row = sqlx::query(STATE).persistent(false).fetch_optional(&mut **tx).await?;
    }
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    let at = row.try_get::<PgTimestamp, _>("at")?.0;
    let now = decode::availability(&row)?.reached(at, server_ttl, was_away || asked.elapsed() > HELD_UP);
    sqlx::query(REACHED)
        .persistent(false)
        .bind(now.served_until.map(PgTimestamp))
        .bind(now.outage.map(|outage| PgTimestamp(outage.began)))
        .bind(now.outage.map(|outage| PgTimestamp(outage.ended)))
        .execute(&mut **tx)
        .await?;
    Ok(now.horizon(at, server_ttl))
}

fn fleet_watch(row: &PgRow) -> Result<FleetWatch, sqlx::Error> {
    let number = |column| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(FleetWatch {
        preserving_since: decode::instant(row, "preserving_since")?,
        calm_since: decode::instant(row, "calm_since")?,
        counts: FleetCounts {
            taking_part: number("taking_part")?,
            healthy: number("healthy")?,
            were_healthy: number("were_healthy")?,
            turned_stale: number("turned_stale")?,
        },
    })
}

/// Gives the lease back, so that another replica needn't wait for its end.
pub(in crate::store::postgres) async fn resign(pool: &Pool, replica: &ReplicaId) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin_with(begin::REPORT).await?;
    sqlx::query(RESIGN).persistent(false).bind(replica.as_str()).execute(&mut *tx).await?;
    tx.commit().await
}
