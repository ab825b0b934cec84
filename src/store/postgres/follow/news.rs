//! Reading what has happened since a position.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use super::{node_key, records};
use crate::going::collect_each;
use crate::node::{NodeKey, Revision};
use crate::store::news::{MOST_EVENTS, News};
use crate::store::postgres::decode::PgTimestamp;
use crate::store::postgres::events::{SCAN, event};
use crate::store::postgres::pool::Transaction;
use crate::store::postgres::{PostgresStore, begin, decode};
use crate::store::{Followed, Position, Signs, StoreError};

/// All that has to be asked when nothing has happened: the horizon, and with it each row of the journal that has not
/// been read. What this store has written itself is passed over, and not even taken from where large values are kept.
///
/// $1 the row up to which the journal has been read, $2 those below it that were missing, $3 what our own are marked
/// with, $4 the last event that is known.
const NEWS: &str = "
SELECT GREATEST(newest.revision, s.pruned_through, 0) AS horizon, COALESCE(s.pruned_through, 0) AS pruned_through,
       statement_timestamp() AS at, s.served_until, s.outage_began, s.outage_ended,
       (SELECT occurred_at FROM node_events WHERE revision = $4) AS last_occurred_at,
       sign.id, sign.signed_at, sign.alive, sign.renewed
  FROM (SELECT max(revision) AS revision FROM node_events) newest
  LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) s ON TRUE
  LEFT JOIN (SELECT id, at AS signed_at, CASE WHEN replica <> $3 THEN alive END AS alive,
                    CASE WHEN replica <> $3 THEN renewed END AS renewed
               FROM onex_registry_signs WHERE id > $1
             UNION ALL
             SELECT id, at, CASE WHEN replica <> $3 THEN alive END, CASE WHEN replica <> $3 THEN renewed END
               FROM onex_registry_signs WHERE id = ANY ($2)) sign ON TRUE";

pub(in crate::store::postgres) async fn follow(
    store: &PostgresStore,
    position: &Position,
) -> Result<Followed, StoreError> {
    let (asked, own) = (Instant::now(), store.tag.now());
    let mut position =
        Position { journal: position.journal.passing_over(Arc::clone(&own)), ..position.clone() };
    let mut tx = store.pool.begin_with(begin::FOLLOW).await?;
    let rows = sqlx::query(NEWS)
        .persistent(store.sessions.known_to_be_ours())
        .bind(position.journal.through)
        .bind(position.journal.missing())
        .bind(&*own)
        .bind(position.last.map(|last| last.revision.get()))
        .fetch_all(&mut *tx)
        .await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let newest = decode::revision(row, "horizon")?;
    let kept_after = decode::revision(row, "pruned_through")?;
    if !position.is_in(kept_after, newest, decode::instant(row, "last_occurred_at")?) {
        return Err(StoreError::EventsGone { kept_after, newest });
    }
    let news =
        if position.revision < newest { news(&mut tx, position.revision).await? } else { News::none() };
    tx.commit().await?;

    let (ids, signs) = signs(&rows)?;
    let horizon = decode::horizon(row, store.ttl)?;
    let signs_are_missing = position.journal.is_behind(horizon.at);
    position.journal.read(&ids, asked, horizon.at);
    Ok(Followed { signs_are_missing, ..news.finish(newest, horizon, signs, position) })
}

async fn news(tx: &mut Transaction, after: Revision) -> Result<News, sqlx::Error> {
    let limit = i64::try_from(MOST_EVENTS).unwrap_or(i64::MAX);
    let rows = sqlx::query(SCAN).persistent(false).bind(after.get()).bind(limit).fetch(&mut **tx);
    let mut news = News::of(collect_each(rows, event).await?);
    while let Some(ids) = news.next() {
        let records = records::fetch(tx, ids).await?;
        news.take(records);
    }
    Ok(news)
}

/// The numbers of all rows of the journal, and what those of others say.
fn signs(rows: &[PgRow]) -> Result<(Vec<i64>, Vec<Signs>), sqlx::Error> {
    let (mut ids, mut signs) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(id) = row.try_get::<Option<i64>, _>("id")? else { continue };
        ids.push(id);
        if let (Some(alive), Some(renewed)) = (row.try_get("alive")?, row.try_get("renewed")?) {
            let at = row.try_get::<PgTimestamp, _>("signed_at")?.0;
            signs.push(Signs { at, alive: keys(alive)?, renewed: keys(renewed)? });
        }
    }
    Ok((ids, signs))
}

fn keys(ids: Vec<String>) -> Result<Vec<NodeKey>, sqlx::Error> {
    ids.into_iter().map(node_key).collect()
}
