//! Where nodes are to be probed: all of it, and then what the events say has changed.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::going::collect_each;
use crate::node::{NodeKey, Revision};
use crate::store::health::{HealthEndpoint, Targets};
use crate::store::postgres::pool::{Pool, Transaction};
use crate::store::postgres::{begin, decode};

/// So many events are gone through. After more, it is quicker to begin anew.
const MANY: i64 = 50_000;

const HORIZON: &str = "
SELECT GREATEST(newest.revision, s.pruned_through, 0) AS horizon, COALESCE(s.pruned_through, 0) AS pruned_through,
       (SELECT extract(epoch FROM statement_timestamp() - e.occurred_at)::float8
          FROM node_events e WHERE e.revision > $1 ORDER BY e.revision LIMIT 1) AS lag
  FROM (SELECT max(revision) AS revision FROM node_events) newest LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) s ON TRUE";

const ALL: &str = "
SELECT node_id, health_endpoint, ttl_seconds FROM node_registrations WHERE health_endpoint IS NOT NULL";

const CHANGED: &str = "
SELECT e.node_id, n.health_endpoint, n.ttl_seconds
  FROM (SELECT DISTINCT node_id FROM node_events
         WHERE revision > $1 AND revision <= $2 AND kind IN ('registered', 'updated', 'deregistered', 'expired')) e
  LEFT JOIN node_registrations n ON n.node_id = e.node_id";

pub(in crate::store::postgres) async fn targets(
    pool: &Pool,
    since: Option<Revision>,
) -> Result<Targets, sqlx::Error> {
    // What has changed is little: it is looked up, whatever the planner thinks of the log.
    let begin = if since.is_some() { begin::FOLLOW } else { begin::READ };
    let mut tx = pool.begin_with(begin).await?;
    let from = since.unwrap_or_default().get();
    let row = sqlx::query(HORIZON).persistent(false).bind(from).fetch_one(&mut *tx).await?;
    let revision = decode::revision(&row, "horizon")?;
    let pruned_through = row.try_get::<i64, _>("pruned_through")?;
    let lag = row.try_get::<Option<f64>, _>("lag")?.unwrap_or_default();
    // Below the horizon the database was restored to, or behind what is kept, events don't tell the whole story.
    let follows = |since: Revision| {
        (pruned_through..=revision.get()).contains(&since.get()) && revision.get() - since.get() <= MANY
    };
    let followed = since.filter(|since| follows(*since));
    let nodes = match followed {
        Some(since) if since == revision => Vec::new(),
        Some(since) => changed(&mut tx, since, revision).await?,
        None => all(&mut tx).await?,
    };
    tx.commit().await?;
    let lag = if followed.is_some() {
        Duration::try_from_secs_f64(lag).unwrap_or_default()
    } else {
        Duration::ZERO
    };
    Ok(Targets { revision, complete: followed.is_none(), nodes, lag })
}

async fn all(tx: &mut Transaction) -> Result<Vec<(NodeKey, Option<HealthEndpoint>)>, sqlx::Error> {
    collect_each(sqlx::query(ALL).persistent(false).fetch(&mut **tx), target).await
}

async fn changed(
    tx: &mut Transaction,
    since: Revision,
    until: Revision,
) -> Result<Vec<(NodeKey, Option<HealthEndpoint>)>, sqlx::Error> {
    let rows = sqlx::query(CHANGED).persistent(false).bind(since.get()).bind(until.get()).fetch(&mut **tx);
    collect_each(rows, target).await
}

fn target(row: &PgRow) -> Result<(NodeKey, Option<HealthEndpoint>), sqlx::Error> {
    let node_id: String = row.try_get("node_id")?;
    let node_id = NodeKey::new(node_id).ok_or_else(|| decode::broken("an id that the column can't hold"))?;
    let ttl_seconds = row.try_get::<Option<i32>, _>("ttl_seconds")?.map(i64::from);
    let url: Option<String> = row.try_get("health_endpoint")?;
    Ok((node_id, url.map(|url| HealthEndpoint { url, ttl_seconds })))
}
