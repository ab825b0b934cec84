//! Signs of life of many nodes, in one statement. They are no events and set nothing but `last_heartbeat`, which no
//! index is on: the updates stay HOT (PostgreSQL manual, section 73.7).

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Row as _, Transaction};

use super::batch::{Batch, Committed, Patience, Step, Undone, run};
use super::lock::begin;
use super::signs::{self, Noted};
use super::swallowed;
use crate::node::{Life, NodeKey, Ttl};
use crate::store::postgres::{PostgresStore, decode};
use crate::store::{Heartbeat, IfHeld, StoreError};

/// The rows are locked first, in the order in which every other batch locks them. An UPDATE that is joined to a list
/// locks in the order of its plan, and deadlocks with those.
macro_rules! beat {
    ($lock:literal) => {
        concat!(
            r#"
WITH held AS MATERIALIZED (
    SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
     ORDER BY node_id COLLATE "C" "#,
            $lock,
            r"
), alive AS (
    UPDATE node_registrations n SET last_heartbeat = GREATEST(n.last_heartbeat, statement_timestamp())
      FROM held h WHERE n.node_id = h.node_id
    RETURNING n.node_id, n.last_heartbeat, n.ttl_seconds, n.maintenance IS NOT NULL AS in_maintenance
)
SELECT h.node_id, a.node_id IS NULL AS swallowed, a.last_heartbeat, a.ttl_seconds, a.in_maintenance,
       statement_timestamp() AS at, g.served_until, g.outage_began, g.outage_ended
  FROM held h LEFT JOIN alive a ON a.node_id = h.node_id LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) g ON TRUE"
        )
    };
}
const BEAT_FREE: &str = beat!("FOR NO KEY UPDATE SKIP LOCKED");
const BEAT_ALL: &str = beat!("FOR NO KEY UPDATE");

/// In a later statement, which sees what was committed meanwhile: a node may have registered anew under the same id.
const PRESENT: &str = "SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)";

pub(in crate::store::postgres) async fn heartbeat(
    store: &PostgresStore,
    ids: &[NodeKey],
    if_held: IfHeld,
) -> Vec<Result<Heartbeat, StoreError>> {
    run(&Beating { store, ids }, ids.len(), store.turns(if_held)).await.results
}

struct Beating<'a> {
    store: &'a PostgresStore,
    ids: &'a [NodeKey],
}

#[async_trait]
impl Batch for Beating<'_> {
    type Done = Heartbeat;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Committed<Heartbeat>, Undone> {
        let ids: Vec<&str> = items.iter().map(|item| self.ids[*item].as_str()).collect();
        let mut tx = begin(&self.store.pool, patience).await?;
        let statement = if patience == Patience::Some { BEAT_ALL } else { BEAT_FREE };
        let rows = sqlx::query(statement).persistent(false).bind(&ids).fetch_all(&mut *tx).await?;
        let mut beaten = HashMap::with_capacity(rows.len());
        for row in &rows {
            beaten.insert(row.try_get::<String, _>("node_id")?, decode_heartbeat(row, self.store.ttl)?);
        }
        if let Some(noted) = noted(&ids, &beaten) {
            signs::note(&mut tx, &self.store.replica, &noted).await?;
        }
        let missing: Vec<&str> = ids.iter().copied().filter(|id| !beaten.contains_key(*id)).collect();
        let held = if missing.is_empty() { HashSet::new() } else { present(&mut tx, &missing).await? };
        tx.commit().await?;

        let step = |id: &str| match beaten.remove(id) {
            Some(Some(heartbeat)) => Step::Done(Ok(heartbeat)),
            Some(None) => Step::Done(Err(swallowed())),
            None if held.contains(id) => Step::Contended,
            None => Step::Done(Err(StoreError::NotFound)),
        };
        Ok(Committed { steps: ids.into_iter().map(step).collect(), recorded: None })
    }
}

fn noted<'a>(ids: &[&'a str], beaten: &HashMap<String, Option<Heartbeat>>) -> Option<Noted<'a>> {
    let at = beaten.values().flatten().next()?.horizon.at;
    let alive = ids.iter().copied().filter(|id| matches!(beaten.get(*id), Some(Some(_)))).collect();
    Some(Noted { at, alive, renewed: Vec::new() })
}

async fn present(tx: &mut Transaction<'_, Postgres>, ids: &[&str]) -> Result<HashSet<String>, sqlx::Error> {
    let ids = sqlx::query_scalar(PRESENT).persistent(false).bind(ids).fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().collect())
}

/// `None` if a trigger of the user's own left the row as it was.
fn decode_heartbeat(row: &PgRow, server_ttl: Ttl) -> Result<Option<Heartbeat>, sqlx::Error> {
    if row.try_get("swallowed")? {
        return Ok(None);
    }
    let life = Life {
        last_heartbeat: decode::instant(row, "last_heartbeat")?,
        ttl_seconds: row.try_get::<Option<i32>, _>("ttl_seconds")?.map(i64::from),
        in_maintenance: row.try_get("in_maintenance")?,
    };
    Ok(Some(Heartbeat { life, horizon: decode::horizon(row, server_ttl)? }))
}
