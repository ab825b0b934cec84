//! The audit trail in SQLite.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _, Sqlite, Transaction};

use super::{availability, broken, keep_if_sound, read, retention};
use crate::node::{Event, EventQuery, NodeKey, Revision, Timestamp, Ttl};
use crate::store::clock::Clock;
use crate::store::event_page::{Chunk, EventPage, EventScan, LogEnds};
use crate::store::sqlite::pool::Pool;
use crate::store::{Seen, StoreError};

pub(super) const SCAN: &str = "SELECT * FROM node_events WHERE revision > ?1 ORDER BY revision LIMIT ?2";

/// By name, so that no other index is ever taken for better.
const SCAN_NODE: &str = "
SELECT * FROM node_events INDEXED BY idx_node_events_node_id
 WHERE node_id = ?3 AND revision > ?1 ORDER BY revision LIMIT ?2";

pub(super) async fn events(
    pool: &Pool,
    query: &EventQuery,
    server_ttl: Ttl,
    clock: &dyn Clock,
) -> Result<Seen<EventPage>, StoreError> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        // A transaction is a snapshot.
        let mut tx = connection.begin().await?;
        let revision = read::horizon(&mut tx).await?;
        let horizon = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
        let ends = LogEnds { pruned_through: retention::pruned_through(&mut tx).await?, newest: revision };
        // What is gone is no failure of the connection.
        let page = match EventScan::new(query, ends) {
            Ok(scan) => Ok(collect(&mut tx, query, scan).await?),
            Err(gone) => Err(gone),
        };
        tx.commit().await?;
        Ok(page.map(|value| Seen { value, revision, horizon }))
    };
    let result: Result<_, sqlx::Error> = attempt.await;
    keep_if_sound(connection, &result).await;
    result?
}

async fn collect(
    tx: &mut Transaction<'_, Sqlite>,
    query: &EventQuery,
    mut scan: EventScan<'_>,
) -> Result<EventPage, sqlx::Error> {
    while let Some(chunk) = scan.next() {
        let events = fetch(tx, query, &chunk).await?;
        scan.take(&chunk, events);
    }
    Ok(scan.finish())
}

async fn fetch(
    tx: &mut Transaction<'_, Sqlite>,
    query: &EventQuery,
    chunk: &Chunk,
) -> Result<Vec<Event>, sqlx::Error> {
    let limit = i64::try_from(chunk.limit).unwrap_or(i64::MAX);
    let Some(ids) = &query.node_ids else {
        let rows = sqlx::query(SCAN).bind(chunk.after.get()).bind(limit).fetch_all(&mut **tx).await?;
        return rows.iter().map(event).collect();
    };
    let mut events = Vec::new();
    for id in ids {
        let statement = sqlx::query(SCAN_NODE).bind(chunk.after.get()).bind(limit).bind(id.as_str());
        for row in &statement.fetch_all(&mut **tx).await? {
            events.push(event(row)?);
        }
    }
    events.sort_unstable_by_key(|event| event.revision);
    events.truncate(chunk.limit);
    Ok(events)
}

pub(super) fn event(row: &SqliteRow) -> Result<Event, sqlx::Error> {
    let node_id: String = row.try_get("node_id")?;
    Ok(Event {
        revision: Revision::new(row.try_get("revision")?).ok_or_else(|| broken("a negative revision"))?,
        node_id: NodeKey::new(node_id).ok_or_else(|| broken("an id that no node can have"))?,
        kind: row.try_get("kind")?,
        changed: serde_json::from_str(row.try_get("changed")?)
            .map_err(|_| broken("changed columns that are no list"))?,
        actor: row.try_get("actor")?,
        correlation_id: row.try_get("correlation_id")?,
        occurred_at: Timestamp::from_unix_micros(row.try_get("occurred_at")?),
    })
}
