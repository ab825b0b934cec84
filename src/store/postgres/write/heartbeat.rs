//! Signs of life of many nodes, in one call of `onex_registry_heartbeat`.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::batch::{Batch, Committed, Patience, Step, Undone, run};
use super::call::{call, list, places, row_timeout};
use super::swallowed;
use crate::node::{Life, NodeKey, Ttl};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::{Heartbeat, IfHeld, StoreError};

/// The columns by name: a plan that is kept must not depend on what else the function tells one day.
const BEAT: &str = "
SELECT at, served_until, outage_began, outage_ended, locked, noted, heartbeats, ttls, in_maintenance, there
  FROM onex_registry_heartbeat($1, $2, $3, $4)";

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
        let tag = self.store.tag.now();
        let query = sqlx::query(BEAT)
            .bind(&*tag)
            .bind(row_timeout(patience))
            .bind(patience == Patience::Some)
            .bind(items.iter().map(|item| self.ids[*item].as_str()).collect::<Vec<_>>());
        let row = call(self.store, patience, query).await?;
        let steps = steps(&row, items.len(), self.store.ttl).map_err(Undone::Unreadable)?;
        Ok(Committed { steps, recorded: None })
    }
}

fn steps(row: &PgRow, length: usize, server_ttl: Ttl) -> Result<Vec<Step<Heartbeat>>, sqlx::Error> {
    let horizon = decode::horizon(row, server_ttl)?;
    let locked: HashSet<usize> = places(row, "locked")?.into_iter().collect();
    let mut there: HashSet<usize> = HashSet::new();
    if locked.len() < length {
        there.extend(places(row, "there")?);
    }
    let step = |place| match (locked.contains(&place), there.contains(&place)) {
        (true, _) => Step::Done(Err(swallowed())),
        (false, true) => Step::Contended,
        (false, false) => Step::Done(Err(StoreError::NotFound)),
    };
    let mut steps: Vec<Step<Heartbeat>> = (0..length).map(step).collect();

    let heartbeats = list::<Option<PgTimestamp>>(row, "heartbeats")?.into_iter();
    let lives = heartbeats.zip(list::<Option<i32>>(row, "ttls")?).zip(list::<bool>(row, "in_maintenance")?);
    for (place, ((last_heartbeat, ttl), in_maintenance)) in places(row, "noted")?.into_iter().zip(lives) {
        let last_heartbeat = last_heartbeat.map(|at| at.0);
        let life = Life { last_heartbeat, ttl_seconds: ttl.map(i64::from), in_maintenance };
        let step = steps.get_mut(place).ok_or_else(|| decode::broken("a place that nobody asked for"))?;
        *step = Step::Done(Ok(Heartbeat { life, horizon }));
    }
    Ok(steps)
}
