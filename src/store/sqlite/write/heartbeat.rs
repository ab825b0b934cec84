//! Signs of life of many nodes, in one statement. They are no events and set nothing but `last_heartbeat`.

use std::collections::HashMap;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::BEGIN;
use crate::node::{Json, Life, NodeKey, Ttl};
use crate::store::clock::Clock;
use crate::store::sqlite::pool::Pool;
use crate::store::sqlite::{availability, instant, keep_if_sound};
use crate::store::{Heartbeat, StoreError};

/// The ids are a JSON array. `max` of a NULL would be NULL.
const BEAT: &str = "
UPDATE node_registrations SET last_heartbeat = max(COALESCE(last_heartbeat, ?2), ?2)
 WHERE node_id IN (SELECT value FROM json_each(?1))
RETURNING node_id, last_heartbeat, ttl_seconds, maintenance IS NOT NULL AS in_maintenance";

pub(in crate::store::sqlite) async fn heartbeat(
    pool: &Pool,
    ids: &[NodeKey],
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Vec<Result<Heartbeat, StoreError>> {
    let result = match pool.acquire().await {
        Ok(mut connection) => {
            let result = in_transaction(&mut connection, ids, clock, server_ttl).await;
            keep_if_sound(connection, &result).await;
            result
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(mut beaten) => {
            ids.iter().map(|id| beaten.remove(id.as_str()).ok_or(StoreError::NotFound)).collect()
        }
        Err(error) => {
            let error = StoreError::from(error);
            ids.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn in_transaction(
    connection: &mut SqliteConnection,
    ids: &[NodeKey],
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Result<HashMap<String, Heartbeat>, sqlx::Error> {
    let mut tx = connection.begin_with(BEGIN).await?;
    // Not before it is our turn: times are in the order of commits.
    let horizon = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
    let list = Json::Array(ids.iter().map(|id| Json::String(id.as_str().to_owned())).collect());
    let rows =
        sqlx::query(BEAT).bind(list.to_string()).bind(horizon.at.unix_micros()).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let beaten = |row| Ok((row_id(row)?, Heartbeat { life: life(row)?, horizon }));
    rows.iter().map(beaten).collect()
}

fn row_id(row: &SqliteRow) -> Result<String, sqlx::Error> {
    row.try_get("node_id")
}

fn life(row: &SqliteRow) -> Result<Life, sqlx::Error> {
    Ok(Life {
        last_heartbeat: instant(row, "last_heartbeat")?,
        ttl_seconds: row.try_get("ttl_seconds")?,
        in_maintenance: row.try_get("in_maintenance")?,
    })
}
