//! Counting nodes in SQLite.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _};

use super::{availability, instant, keep_if_sound, read};
use crate::going::take_each;
use crate::node::{Life, Summary, SummaryBuilder, Ttl};
use crate::store::Seen;
use crate::store::clock::Clock;
use crate::store::sqlite::pool::Pool;

/// Status is judged here as discovery judges it, and not by SQL.
const LIVES: &str = "
SELECT node_type, node_version, last_heartbeat, ttl_seconds, maintenance IS NOT NULL AS maintenance
  FROM node_registrations";

pub(super) async fn summary(
    pool: &Pool,
    server_ttl: Ttl,
    clock: &dyn Clock,
) -> Result<Seen<Summary>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        // A transaction is a snapshot.
        let mut tx = connection.begin().await?;
        let revision = read::horizon(&mut tx).await?;
        let horizon = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
        let mut builder = SummaryBuilder::default();
        let rows = sqlx::query(LIVES).fetch(&mut *tx);
        take_each(rows, |row| {
            let status = life(&row)?.status(&horizon, server_ttl);
            builder.add(row.try_get("node_type")?, row.try_get("node_version")?, status, 1);
            Ok(())
        })
        .await?;
        tx.commit().await?;
        Ok(Seen { value: builder.finish(), revision, horizon })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

fn life(row: &SqliteRow) -> Result<Life, sqlx::Error> {
    Ok(Life {
        in_maintenance: row.try_get("maintenance")?,
        last_heartbeat: instant(row, "last_heartbeat")?,
        ttl_seconds: row.try_get("ttl_seconds")?,
    })
}
