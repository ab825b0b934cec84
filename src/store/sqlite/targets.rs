//! Where nodes are to be probed: all of it, and then what the events say has changed.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _};

use super::{broken, instant, keep_if_sound};
use crate::going::collect_each;
use crate::node::{NodeKey, Revision};
use crate::store::StoreError;
use crate::store::clock::Clock;
use crate::store::health::{HealthEndpoint, Targets};
use crate::store::sqlite::pool::Pool;

/// So many events are gone through. After more, it is quicker to begin anew.
const MANY: i64 = 50_000;

const HORIZON: &str = "
SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'node_events'), 0) AS horizon, pruned_through,
       (SELECT occurred_at FROM node_events WHERE revision > ?1 ORDER BY revision LIMIT 1) AS oldest
  FROM onex_registry_state";

const ALL: &str = "
SELECT node_id, health_endpoint, ttl_seconds FROM node_registrations WHERE health_endpoint IS NOT NULL";

const CHANGED: &str = "
SELECT e.node_id, n.health_endpoint, n.ttl_seconds
  FROM (SELECT DISTINCT node_id FROM node_events
         WHERE revision > ?1 AND kind IN ('registered', 'updated', 'deregistered', 'expired')) e
  LEFT JOIN node_registrations n ON n.node_id = e.node_id";

pub(super) async fn targets(
    pool: &Pool,
    since: Option<Revision>,
    clock: &dyn Clock,
) -> Result<Targets, StoreError> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        // A transaction is a snapshot.
        let mut tx = connection.begin().await?;
        let from = since.unwrap_or_default().get();
        let row = sqlx::query(HORIZON).bind(from).fetch_one(&mut *tx).await?;
        let revision: i64 = row.try_get("horizon")?;
        let kept = row.try_get::<i64, _>("pruned_through")?..=revision;
        let complete = since.is_none() || !kept.contains(&from) || revision - from > MANY;
        let nodes = if complete {
            collect_each(sqlx::query(ALL).fetch(&mut *tx), target).await?
        } else if from == revision {
            Vec::new()
        } else {
            collect_each(sqlx::query(CHANGED).bind(from).fetch(&mut *tx), target).await?
        };
        tx.commit().await?;
        let waited = instant(&row, "oldest")?
            .filter(|_| !complete)
            .map_or(0, |oldest| clock.now().unix_micros().saturating_sub(oldest.unix_micros()));
        Ok::<_, StoreError>(Targets {
            revision: Revision::new(revision).unwrap_or_default(),
            complete,
            nodes,
            lag: Duration::from_micros(u64::try_from(waited).unwrap_or_default()),
        })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

fn target(row: &SqliteRow) -> Result<(NodeKey, Option<HealthEndpoint>), sqlx::Error> {
    let node_id: String = row.try_get("node_id")?;
    let node_id = NodeKey::new(node_id).ok_or_else(|| broken("an id that no node can have"))?;
    let ttl_seconds = row.try_get("ttl_seconds")?;
    let url: Option<String> = row.try_get("health_endpoint")?;
    Ok((node_id, url.map(|url| HealthEndpoint { url, ttl_seconds })))
}
