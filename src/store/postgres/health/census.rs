//! Looking at the whole fleet: one statement, one pass over the table.

use sqlx::Row as _;

use crate::node::{NodeKey, Ttl};
use crate::store::health::{Census, FleetCounts, LifeChange, NAMED_AT_MOST, Rules};
use crate::store::postgres::begin;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::postgres::pool::Pool;

const HORIZON: &str = "
SELECT statement_timestamp() AS at, s.served_until, s.outage_began, s.outage_ended
  FROM (SELECT 1) one LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) s ON TRUE";

/// `fades`: when the last sign of life ceases to count, as `Horizon::ends` says it. `leaves`: when the node is overdue.
/// A sign of life in the future counts as now; one of two hundred years ago is as good as any older one, and both
/// can be reckoned with.
///
/// $1 now, $2 and $3 the outage, $4 the server's TTL in microseconds, $5 microseconds to expiry, $6 whether health
/// endpoints are probed, $7 microseconds of uptime, $8 how many to name.
const CENSUS: &str = r"
WITH judged AS MATERIALIZED (
    SELECT n.node_id, told.status AS told, told.since AS told_since, ttl.ttl, last.sign, life.fades,
           n.last_heartbeat IS NOT NULL OR ($6 AND n.health_endpoint IS NOT NULL) AS takes_part,
           CASE WHEN $5::bigint IS NOT NULL AND ttl.micros <= $7::bigint
                     AND (n.last_heartbeat IS NOT NULL OR ($6 AND n.health_endpoint IS NOT NULL))
                THEN GREATEST(CASE WHEN leaving.sign + ttl.ttl >= $2
                                   THEN GREATEST(leaving.sign + ttl.ttl, $3 + ttl.ttl)
                                   ELSE leaving.sign + ttl.ttl END
                                + make_interval(secs => 0.000001) * $5::bigint::float8,
                              $3 + ttl.ttl) END AS leaves
      FROM node_registrations n
     CROSS JOIN LATERAL (SELECT GREATEST(COALESCE(n.ttl_seconds::bigint * 1000000, $4::bigint), 0) AS micros,
                                make_interval(secs => 0.000001)
                                * GREATEST(COALESCE(n.ttl_seconds::float8 * 1000000, $4::bigint::float8), 0) AS ttl) ttl
     CROSS JOIN LATERAL (SELECT LEAST(GREATEST(n.last_heartbeat, $1::timestamptz - interval '200 years'), $1)
                                AS sign) last
     CROSS JOIN LATERAL (SELECT LEAST(GREATEST(n.last_heartbeat, n.updated_at, $1 - interval '200 years'), $1)
                                AS sign) leaving
     CROSS JOIN LATERAL (SELECT CASE WHEN n.last_heartbeat IS NULL THEN NULL
                                     WHEN last.sign + ttl.ttl >= $2::timestamptz
                                     THEN GREATEST(last.sign + ttl.ttl, $3::timestamptz + ttl.ttl)
                                     ELSE last.sign + ttl.ttl END AS fades) life
      LEFT JOIN onex_registry_node_health told
             ON told.node_id = n.node_id AND told.registered_at = n.registered_at
     WHERE n.maintenance IS NULL
)
SELECT counts.*, changes.*,
       ARRAY(SELECT node_id::text FROM judged WHERE leaves < $1 ORDER BY leaves LIMIT $8) AS overdue
  FROM (SELECT count(*) FILTER (WHERE takes_part) AS taking_part,
               count(*) FILTER (WHERE fades >= $1) AS healthy,
               count(*) FILTER (WHERE fades < $1 AND fades > $1 - ttl)
                   AS turned_stale,
               count(*) FILTER (WHERE fades >= $1 AND told = 'healthy'
                                      AND told_since <= $1 - ttl)
                   AS stayed_healthy,
               LEAST(min(fades) FILTER (WHERE fades >= $1), min(leaves) FILTER (WHERE leaves >= $1)) AS next_due
          FROM judged) AS counts
 CROSS JOIN
       (SELECT COALESCE(array_agg(node_id::text), '{}') AS node_ids,
               COALESCE(array_agg(is_healthy), '{}') AS are_healthy,
               COALESCE(array_agg(CASE WHEN is_healthy THEN sign ELSE fades END), '{}') AS since
          FROM (SELECT node_id, sign, fades, fades >= $1 AS is_healthy FROM judged
                 WHERE fades IS NOT NULL
                   AND told IS DISTINCT FROM CASE WHEN fades >= $1 THEN 'healthy' ELSE 'stale' END
                 ORDER BY fades LIMIT $8) AS change) AS changes
";

pub(in crate::store::postgres) async fn census(
    pool: &Pool,
    rules: &Rules,
    server_ttl: Ttl,
) -> Result<Census, sqlx::Error> {
    let mut tx = pool.begin_with(begin::READ).await?;
    let row = sqlx::query(HORIZON).persistent(false).fetch_one(&mut *tx).await?;
    let horizon = decode::horizon(&row, server_ttl)?;
    let row = sqlx::query(CENSUS)
        .persistent(false)
        .bind(PgTimestamp(horizon.at))
        .bind(horizon.outage.map(|outage| PgTimestamp(outage.began)))
        .bind(horizon.outage.map(|outage| PgTimestamp(outage.ended)))
        .bind(server_ttl.micros())
        .bind(rules.expire_after.map(|after| Ttl::from(after).micros()))
        .bind(rules.probing)
        .bind(Ttl::from(rules.uptime).micros())
        .bind(NAMED_AT_MOST)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    let number = |column| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or_default());
    let turned_stale = number("turned_stale")?;
    let keys = |column| -> Result<Vec<NodeKey>, sqlx::Error> {
        let key = |id| NodeKey::new(id).ok_or_else(|| decode::broken("an id that the column can't hold"));
        row.try_get::<Vec<String>, _>(column)?.into_iter().map(key).collect()
    };
    let since: Vec<PgTimestamp> = row.try_get("since")?;
    let are_healthy: Vec<bool> = row.try_get("are_healthy")?;
    let changes = keys("node_ids")?.into_iter().zip(are_healthy).zip(since);
    Ok(Census {
        horizon,
        counts: FleetCounts {
            taking_part: number("taking_part")?,
            healthy: number("healthy")?,
            were_healthy: turned_stale + number("stayed_healthy")?,
            turned_stale,
        },
        changes: changes
            .map(|((node_id, healthy), since)| LifeChange { node_id, healthy, since: since.0 })
            .collect(),
        overdue: keys("overdue")?,
        next_due: decode::instant(&row, "next_due")?,
    })
}
