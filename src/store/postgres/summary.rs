//! Counting nodes in PostgreSQL.

use sqlx::Row as _;

use super::begin;
use super::decode::{self, PgTimestamp};
use super::pool::Pool;
use super::read::HORIZON;
use super::status::{status_sql, ttl_sql};
use crate::going::take_each;
use crate::node::{Status, Summary, SummaryBuilder, Ttl};
use crate::store::Seen;

const COUNT: &str = concat!(
    "SELECT node_type, node_version, status, count(*) AS nodes
       FROM (SELECT n.node_type, n.node_version, ",
    status_sql!("$1", "$2", "$3", "$4"),
    " AS status FROM node_registrations n) AS judged
      GROUP BY node_type, node_version, status"
);

pub(super) async fn summary(pool: &Pool, server_ttl: Ttl) -> Result<Seen<Summary>, sqlx::Error> {
    // One snapshot for both statements.
    let mut tx = pool.begin_with(begin::READ).await?;
    let row = sqlx::query(HORIZON).persistent(false).fetch_one(&mut *tx).await?;
    let horizon = decode::horizon(&row, server_ttl)?;
    let revision = decode::revision(&row, "horizon")?;
    let mut builder = SummaryBuilder::default();
    let rows = sqlx::query(COUNT)
        .persistent(false)
        .bind(PgTimestamp(horizon.at))
        .bind(server_ttl.micros())
        .bind(horizon.outage.map(|outage| PgTimestamp(outage.began)))
        .bind(horizon.outage.map(|outage| PgTimestamp(outage.ended)))
        .fetch(&mut *tx);
    take_each(rows, |row| {
        let status = Status::from_name(row.try_get("status")?);
        let status = status.ok_or_else(|| decode::broken("a status that there isn't"))?;
        let nodes: i64 = row.try_get("nodes")?;
        builder.add(
            row.try_get("node_type")?,
            row.try_get("node_version")?,
            status,
            u64::try_from(nodes).unwrap_or_default(),
        );
        Ok(())
    })
    .await?;
    tx.commit().await?;
    Ok(Seen { value: builder.finish(), revision, horizon })
}
