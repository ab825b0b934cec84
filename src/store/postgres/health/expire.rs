//! Removing nodes that have been stale for too long.

use std::collections::HashSet;

use async_trait::async_trait;

use super::leads;
use crate::node::{Actor, EventKind, Horizon, NodeKey, Origin, Ttl};
use crate::store::StoreError;
use crate::store::health::{ReplicaId, Rules};
use crate::store::postgres::begin;
use crate::store::postgres::decode::PgTimestamp;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::write::batch::{Batch, Committed, Patience, Step, Undone, run};
use crate::store::postgres::write::{Events, lock, record};

/// The condition of the census, on the row as it is now: whoever gave a sign of life meanwhile, to any replica, or is
/// out of service, stays. That no TTL passed since an outage was seen to by the census.
const EXPIRE: &str = "
DELETE FROM node_registrations n
 WHERE n.node_id = ANY ($1)
   AND n.maintenance IS NULL
   AND (n.last_heartbeat IS NOT NULL OR ($2 AND n.health_endpoint IS NOT NULL))
   AND LEAST(GREATEST(n.last_heartbeat, n.updated_at, $3::timestamptz - interval '200 years'), $3)
       + make_interval(secs => 0.000001)
         * (GREATEST(COALESCE(n.ttl_seconds::float8 * 1000000, $4::bigint::float8), 0) + $5::bigint::float8) < $3
RETURNING n.node_id";

struct Expiring<'a> {
    pool: &'a Pool,
    leader: &'a ReplicaId,
    overdue: &'a [NodeKey],
    horizon: &'a Horizon,
    expire_after: Ttl,
    probing: bool,
    server_ttl: Ttl,
}

/// Removes those of the nodes that are still overdue, if the replica leads, and says which they were. Nodes whose row
/// somebody holds are left for the next time.
pub(in crate::store::postgres) async fn expire(
    pool: &Pool,
    leader: &ReplicaId,
    overdue: &[NodeKey],
    horizon: &Horizon,
    rules: &Rules,
    server_ttl: Ttl,
) -> Vec<Result<bool, StoreError>> {
    let Some(expire_after) = rules.expire_after.map(Ttl::from) else {
        return overdue.iter().map(|_| Ok(false)).collect();
    };
    let probing = rules.probing;
    let batch = Expiring { pool, leader, overdue, horizon, expire_after, probing, server_ttl };
    run(&batch, overdue.len(), None).await.results
}

#[async_trait]
impl Batch for Expiring<'_> {
    type Done = bool;

    async fn attempt(&self, items: &[usize], _: Patience) -> Result<Committed<bool>, Undone> {
        let ids: Vec<&str> = items.iter().map(|item| self.overdue[*item].as_str()).collect();
        let mut tx = self.pool.begin_with(begin::WRITE).await?;
        if !leads(&mut tx, self.leader).await? {
            let steps = ids.iter().map(|_| Step::Done(Ok(false))).collect();
            return Ok(Committed { steps, recorded: None });
        }
        let free = lock::to_delete(&mut tx, &ids, Patience::None).await?;
        let free: Vec<&str> = free.iter().map(String::as_str).collect();
        let gone: HashSet<String> = sqlx::query_scalar(EXPIRE)
            .persistent(false)
            .bind(&free)
            .bind(self.probing)
            .bind(PgTimestamp(self.horizon.at))
            .bind(self.server_ttl.micros())
            .bind(self.expire_after.micros())
            .fetch_all(&mut *tx)
            .await?
            .into_iter()
            .collect();
        let origin = Origin { actor: Actor::registry(), correlation_id: None };
        let mut events = Events::default();
        for id in ids.iter().filter(|id| gone.contains(**id)) {
            events.add(id, EventKind::Expired, "", &origin);
        }
        let recorded = record(&mut tx, &events).await?;
        tx.commit().await?;
        let steps = ids.iter().map(|id| Step::Done(Ok(gone.contains(*id)))).collect();
        Ok(Committed { steps, recorded })
    }
}
