//! Seeing to the fleet: who does it, what there is to do, and doing it.
//!
//! The order of locks is that of the writer: node rows, sorted by id; then the revisions. What has been told of nodes is
//! written after that, by one who leads: nobody else waits for it.

mod announce;
mod census;
mod expire;
mod lease;
mod targets;

pub(super) use announce::{announce, forget_the_gone};
pub(super) use census::census;
pub(super) use expire::expire;
pub(super) use lease::{resign, tick};
pub(super) use targets::targets;

use super::pool::Transaction;
use crate::store::health::ReplicaId;

const LEADS: &str = "
SELECT 1 FROM onex_registry_leases WHERE name = 'health' AND holder = $1 AND expires_at > clock_timestamp()";

/// Whether the replica leads: asked at the begin of whatever one replica does for all.
///
/// The lease can end while the transaction goes on, and is not locked, so that it can be renewed meanwhile. That
/// nothing is done twice is in the conditions on the rows themselves.
pub(super) async fn leads(tx: &mut Transaction, replica: &ReplicaId) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(LEADS).persistent(false).bind(replica.as_str()).fetch_optional(&mut **tx).await?;
    Ok(row.is_some())
}
