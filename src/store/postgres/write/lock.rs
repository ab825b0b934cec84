//! Transactions of the writer, and the rows that they hold.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;

use super::batch::Patience;
use crate::node::Revision;
use crate::store::postgres::pool::{Pool, Transaction};
use crate::store::postgres::revision::revision_sql;
use crate::store::postgres::{begin, decode};

const LOCK_FREE: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED"#;
const LOCK_ALL: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR NO KEY UPDATE"#;
const LOCK_FREE_TO_DELETE: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR UPDATE SKIP LOCKED"#;
const LOCK_ALL_TO_DELETE: &str = r#"
SELECT node_id FROM node_registrations WHERE node_id = ANY ($1)
 ORDER BY node_id COLLATE "C" FOR UPDATE"#;

/// In a statement after the one that locked the rows, so that it sees what the lock waited for.
const REVISIONS: &str = concat!(
    "
SELECT n.node_id,
       ",
    revision_sql!(),
    " AS revision
  FROM node_registrations n WHERE n.node_id = ANY ($1)"
);

pub(in crate::store::postgres) async fn begin(
    pool: &Pool,
    patience: Patience,
) -> Result<Transaction, sqlx::Error> {
    let statement = match patience {
        Patience::Hasty => begin::WRITE_HASTILY,
        Patience::None | Patience::Some => begin::WRITE,
    };
    pool.begin_with(statement).await
}

/// Locks rows to update them: those that exist, and without patience only those that nobody else holds.
pub(in crate::store::postgres) async fn to_update(
    tx: &mut Transaction,
    ids: &[&str],
    patience: Patience,
) -> Result<HashSet<String>, sqlx::Error> {
    locked(tx, if patience == Patience::Some { LOCK_ALL } else { LOCK_FREE }, ids).await
}

/// The same to delete them.
pub(in crate::store::postgres) async fn to_delete(
    tx: &mut Transaction,
    ids: &[&str],
    patience: Patience,
) -> Result<HashSet<String>, sqlx::Error> {
    locked(tx, if patience == Patience::Some { LOCK_ALL_TO_DELETE } else { LOCK_FREE_TO_DELETE }, ids).await
}

async fn locked(
    tx: &mut Transaction,
    statement: &'static str,
    ids: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    Ok(sqlx::query_scalar(statement)
        .persistent(false)
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .collect())
}

/// The revisions of those of the rows that exist.
pub(in crate::store::postgres) async fn revisions(
    tx: &mut Transaction,
    ids: &[&str],
) -> Result<HashMap<String, Revision>, sqlx::Error> {
    let rows = sqlx::query(REVISIONS).persistent(false).bind(ids).fetch_all(&mut **tx).await?;
    rows.iter().map(|row| Ok((row.try_get("node_id")?, decode::revision(row, "revision")?))).collect()
}
