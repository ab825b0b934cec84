//! How the one server keeps up with its file. All signs of life go through it, so there is no journal of them.

use sqlx::{Connection as _, Sqlite, Transaction};

use super::events::{SCAN, event};
use super::write::Turn;
use super::{SqliteStore, availability, keep_if_sound, read, record, retention};
use crate::going::{collect_each, take_each};
use crate::node::{Actor, Event, EventKind, Horizon, Json, NodeKey, NodeRecord, Origin, Revision, Timestamp};
use crate::store::news::{MOST_EVENTS, News};
use crate::store::{Digest, EventMark, Followed, Loaded, Position, Seen, StoreError, Unrecorded, digest};

const LOAD: &str = "
SELECT n.*, COALESCE((SELECT max(e.revision) FROM node_events e
                       WHERE e.node_id = n.node_id AND e.kind IN ('registered', 'updated', 'maintenance')), 0)
            AS revision
  FROM node_registrations n";

const NEWEST: &str = "SELECT revision, occurred_at FROM node_events ORDER BY revision DESC LIMIT 1";
const OCCURRED_AT: &str = "SELECT occurred_at FROM node_events WHERE revision = ?1";

const RECORDS: &str = "
SELECT n.*, COALESCE((SELECT max(e.revision) FROM node_events e
                       WHERE e.node_id = n.node_id AND e.kind IN ('registered', 'updated', 'maintenance')), 0)
            AS revision
  FROM node_registrations n WHERE n.node_id IN (SELECT value FROM json_each(?1))";

/// Whether a difference is still there: no event has told of the node since, and it is there or not, as the difference
/// has it. What told of a node that is gone may have been deleted with the other old events.
const STILL: &str = "
SELECT CASE ?2 WHEN 'deregistered' THEN there = 0 AND told <= ?3 AND gone <= ?3
               WHEN 'updated' THEN there AND told = ?3 AND gone <= ?3
               ELSE there AND told = ?3 END
  FROM (SELECT EXISTS (SELECT 1 FROM node_registrations WHERE node_id = ?1) AS there,
               COALESCE((SELECT max(revision) FROM node_events
                          WHERE node_id = ?1 AND kind IN ('registered', 'updated', 'maintenance')), 0) AS told,
               COALESCE((SELECT max(revision) FROM node_events
                          WHERE node_id = ?1 AND revision > ?3 AND kind IN ('deregistered', 'expired')), 0) AS gone)";

/// What an update that nobody saw may have changed.
const COLUMNS: [&str; 7] =
    ["node_type", "node_version", "capabilities", "endpoints", "metadata", "health_endpoint", "ttl_seconds"];

/// What each of these does, in one snapshot: a transaction is one.
macro_rules! in_snapshot {
    ($store:expr, |$tx:ident| $work:expr) => {{
        let mut connection = $store.readers.acquire().await?;
        let attempt = async {
            let mut $tx = connection.begin().await?;
            let done = $work;
            $tx.commit().await?;
            Ok::<_, sqlx::Error>(done)
        };
        let result = attempt.await;
        keep_if_sound(connection, &result).await;
        result
    }};
}

pub(super) async fn load(
    store: &SqliteStore,
    take: &mut (dyn FnMut(NodeRecord) + Send),
) -> Result<Loaded, StoreError> {
    let Seen { value: last, revision, horizon } = read_all(store, take).await?;
    Ok(Loaded { position: Position { revision, last, ..Position::default() }, horizon })
}

pub(super) async fn digests(
    store: &SqliteStore,
    take: &mut (dyn FnMut(NodeKey, Digest) + Send),
) -> Result<Seen<()>, StoreError> {
    let mut take = |record: NodeRecord| {
        let digest = Digest {
            revision: record.revision,
            columns: digest::of_columns(&record),
            last_heartbeat: record.last_heartbeat,
            registered_at: record.registered_at,
            updated_at: record.updated_at,
        };
        take(record.node_id, digest);
    };
    let Seen { revision, horizon, .. } = read_all(store, &mut take).await?;
    Ok(Seen { value: (), revision, horizon })
}

/// Reads the table, and says which is the newest event.
async fn read_all(
    store: &SqliteStore,
    take: &mut (dyn FnMut(NodeRecord) + Send),
) -> Result<Seen<Option<EventMark>>, StoreError> {
    let done = in_snapshot!(store, |tx| {
        let (revision, horizon) = horizon(store, &mut tx).await?;
        let newest = sqlx::query_as(NEWEST).fetch_optional(&mut *tx).await?;
        // One by one, as they come: the table may be larger than what we want to hold twice.
        let rows = sqlx::query(LOAD).fetch(&mut *tx);
        take_each(rows, |row| {
            take(record(&row)?);
            Ok(())
        })
        .await?;
        Seen { value: newest.and_then(mark), revision, horizon }
    });
    Ok(done?)
}

fn mark((revision, occurred_at): (i64, i64)) -> Option<EventMark> {
    let occurred_at = Timestamp::from_unix_micros(occurred_at);
    Some(EventMark { revision: Revision::new(revision)?, occurred_at })
}

pub(super) async fn records(
    store: &SqliteStore,
    ids: &[NodeKey],
) -> Result<Seen<Vec<NodeRecord>>, StoreError> {
    let done = in_snapshot!(store, |tx| {
        let (revision, horizon) = horizon(store, &mut tx).await?;
        let value = fetch(&mut tx, ids).await?;
        Seen { value, revision, horizon }
    });
    Ok(done?)
}

pub(super) async fn follow(store: &SqliteStore, position: &Position) -> Result<Followed, StoreError> {
    let done = in_snapshot!(store, |tx| {
        let (newest, horizon) = horizon(store, &mut tx).await?;
        let kept_after = retention::pruned_through(&mut tx).await?;
        let last: Option<i64> = match position.last {
            Some(last) => {
                sqlx::query_scalar(OCCURRED_AT).bind(last.revision.get()).fetch_optional(&mut *tx).await?
            }
            None => None,
        };
        if !position.is_in(kept_after, newest, last.map(Timestamp::from_unix_micros)) {
            // What is gone is no failure of the connection.
            Err(StoreError::EventsGone { kept_after, newest })
        } else if position.revision == newest {
            Ok((newest, horizon, News::none()))
        } else {
            Ok((newest, horizon, news(&mut tx, position.revision).await?))
        }
    });
    let (newest, horizon, news) = done??;
    Ok(news.finish(newest, horizon, Vec::new(), position.clone()))
}

async fn news(tx: &mut Transaction<'_, Sqlite>, after: Revision) -> Result<News, sqlx::Error> {
    let limit = i64::try_from(MOST_EVENTS).unwrap_or(i64::MAX);
    let rows = sqlx::query(SCAN).bind(after.get()).bind(limit).fetch(&mut **tx);
    let mut news = News::of(collect_each(rows, event).await?);
    while let Some(ids) = news.next() {
        let records = fetch(tx, ids).await?;
        news.take(records);
    }
    Ok(news)
}

/// What a snapshot is as of, and what status is judged by in it.
async fn horizon(
    store: &SqliteStore,
    tx: &mut Transaction<'_, Sqlite>,
) -> Result<(Revision, Horizon), sqlx::Error> {
    // Before the snapshot, which begins with the first statement: signs of life until then are in it.
    let now = store.clock.now();
    let revision = read::horizon(tx).await?;
    Ok((revision, availability(tx).await?.horizon(now, store.ttl)))
}

async fn fetch(tx: &mut Transaction<'_, Sqlite>, ids: &[NodeKey]) -> Result<Vec<NodeRecord>, sqlx::Error> {
    let ids = Json::Array(ids.iter().map(|id| Json::String(id.as_str().to_owned())).collect());
    collect_each(sqlx::query(RECORDS).bind(ids.to_string()).fetch(&mut **tx), record).await
}

/// Records the differences that are still there.
pub(super) async fn repair(store: &SqliteStore, changed: &[Unrecorded]) -> Result<Vec<Event>, StoreError> {
    let mut connection = store.writer.acquire().await?;
    let attempt = async {
        let mut turn = Turn::begin(&mut connection, &*store.clock, store.ttl).await?;
        let origin = Origin { actor: Actor::registry(), correlation_id: None };
        for Unrecorded { node_id, kind, revision } in changed {
            let still: bool = sqlx::query_scalar(STILL)
                .bind(node_id.as_str())
                .bind(kind.as_str())
                .bind(revision.get())
                .fetch_one(&mut *turn.tx)
                .await?;
            if still {
                let columns: &[&str] = if *kind == EventKind::Updated { &COLUMNS } else { &[] };
                turn.record(node_id.as_str(), *kind, columns, &origin).await?;
            }
        }
        Ok::<_, StoreError>(turn.commit().await?)
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    Ok(result?.map_or_else(Vec::new, |recorded| recorded.events))
}
