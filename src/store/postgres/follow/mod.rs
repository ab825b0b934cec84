//! How a replica keeps up with the table: all of it at first, then what the events and the journal of signs of life say
//! has changed, and now and then a comparison of the two copies.

mod digests;
mod hints;
mod journal;
mod load;
mod news;
mod notifier;
mod records;
mod repair;

pub(super) use digests::digests;
pub(super) use hints::hints;
pub(super) use journal::forget;
pub(super) use load::load;
pub(super) use news::follow;
pub(super) use notifier::Notifier;
pub(super) use records::records;
pub(super) use repair::repair;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::decode;
use super::pool::Transaction;
use super::read::HORIZON;
use crate::node::NodeKey;

/// What a snapshot is as of, and what status is judged by in it.
async fn horizon(tx: &mut Transaction) -> Result<PgRow, sqlx::Error> {
    sqlx::query(HORIZON).persistent(false).fetch_one(&mut **tx).await
}

fn key(row: &PgRow) -> Result<NodeKey, sqlx::Error> {
    node_key(row.try_get("node_id")?)
}

fn node_key(id: String) -> Result<NodeKey, sqlx::Error> {
    NodeKey::new(id).ok_or_else(|| decode::broken("an id that the column can't hold"))
}
