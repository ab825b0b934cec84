//! Reading from SQLite.
//!
//! Containment, version ranges and status are judged here and not in SQL: SQLite has none of them. The rows that the
//! indexed conditions leave are gone through in order.

use sqlx::{Connection as _, Sqlite, Transaction};

use super::{availability, keep_if_sound, record};
use crate::node::containment::contains;
use crate::node::{ColumnText, DiscoveryQuery, Filter, Horizon, Json, NodeKey, NodeRecord, Revision, Ttl};
use crate::store::clock::Clock;
use crate::store::sqlite::pool::Pool;
use crate::store::{Page, PageBuilder, Seen};

/// How many rows are gone through at a time.
const CHUNK: usize = 200;

const GET: &str = "
SELECT n.*, COALESCE((SELECT max(e.revision) FROM node_events e
                       WHERE e.node_id = n.node_id AND e.kind IN ('registered', 'updated', 'maintenance')), 0)
            AS revision
  FROM node_registrations n WHERE n.node_id = ?1";

/// Numbers are used up in order, so the newest one is in the sequence even when its event was deleted.
const HORIZON: &str = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'node_events'), 0)";

/// Lists are JSON arrays. Parameters that are NULL ask for nothing. TEXT is compared bytewise, and is less than any
/// BLOB: between ?4 and ?5 the primary key is read in order.
const DISCOVER: &str = "
SELECT n.*, COALESCE((SELECT max(e.revision) FROM node_events e
                       WHERE e.node_id = n.node_id AND e.kind IN ('registered', 'updated', 'maintenance')), 0)
            AS revision
  FROM node_registrations n
 WHERE (?1 IS NULL OR n.node_type IN (SELECT value FROM json_each(?1)))
   AND (?2 IS NULL OR n.node_id IN (SELECT value FROM json_each(?2)))
   AND (?3 IS NULL OR n.node_version IN (SELECT value FROM json_each(?3)))
   AND n.node_id >= ?4
   AND n.node_id < COALESCE(?5, x'')
   AND (?6 IS NULL OR n.node_id > ?6)
 ORDER BY n.node_id
 LIMIT ?7";

pub(super) async fn ping(pool: &Pool) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    sqlx::query("SELECT 1 FROM node_registrations LIMIT 1").fetch_optional(&mut *connection).await?;
    Ok(())
}

pub(super) async fn get(
    pool: &Pool,
    id: &NodeKey,
    server_ttl: Ttl,
    clock: &dyn Clock,
) -> Result<Seen<Option<NodeRecord>>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        let mut tx = connection.begin().await?;
        let revision = horizon(&mut tx).await?;
        let horizon = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
        let row = sqlx::query(GET).bind(id.as_str()).fetch_optional(&mut *tx).await?;
        let value = row.as_ref().map(record).transpose()?;
        tx.commit().await?;
        Ok(Seen { value, revision, horizon })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

pub(super) async fn discover(
    pool: &Pool,
    query: &DiscoveryQuery,
    server_ttl: Ttl,
    clock: &dyn Clock,
) -> Result<Seen<Page>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        // A transaction is a snapshot.
        let mut tx = connection.begin().await?;
        let revision = horizon(&mut tx).await?;
        let horizon = availability(&mut tx).await?.horizon(clock.now(), server_ttl);
        let value = page(&mut tx, query, server_ttl, &horizon).await?;
        tx.commit().await?;
        Ok(Seen { value, revision, horizon })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

pub(super) async fn horizon(tx: &mut Transaction<'_, Sqlite>) -> Result<Revision, sqlx::Error> {
    let newest: i64 = sqlx::query_scalar(HORIZON).fetch_one(&mut **tx).await?;
    Ok(Revision::new(newest).unwrap_or_default())
}

async fn page(
    tx: &mut Transaction<'_, Sqlite>,
    query: &DiscoveryQuery,
    server_ttl: Ttl,
    horizon: &Horizon,
) -> Result<Page, sqlx::Error> {
    let conditions = Conditions::of(query);
    let judge = Judge::of(query, server_ttl, horizon);
    let mut page = PageBuilder::new(query.limit.get());
    let mut after = query.after.as_ref().map(|id| id.as_str().to_owned());
    let prefix = query.node_id_prefix.as_ref();
    loop {
        let from = prefix.map(ColumnText::as_str).max(after.as_deref()).unwrap_or_default();
        let rows = sqlx::query(DISCOVER)
            .bind(&conditions.types)
            .bind(&conditions.ids)
            .bind(&conditions.versions)
            .bind(from)
            .bind(prefix.and_then(ColumnText::end_of_prefix))
            .bind(&after)
            .bind(i64::try_from(CHUNK).unwrap_or(i64::MAX))
            .fetch_all(&mut **tx)
            .await?;
        for row in &rows {
            let record = record(row)?;
            after = Some(record.node_id.as_str().to_owned());
            if judge.matches(&record) {
                page.push(record);
            }
        }
        if rows.len() < CHUNK || page.is_full() {
            return Ok(page.finish());
        }
    }
}

/// The filters of a query as JSON arrays; `None` asks for nothing.
#[derive(Default)]
struct Conditions {
    types: Option<String>,
    ids: Option<String>,
    versions: Option<String>,
}

impl Conditions {
    fn of(query: &DiscoveryQuery) -> Self {
        let mut conditions = Self::default();
        let list = |values: &[ColumnText]| {
            let texts = values.iter().map(|value| Json::String(value.as_str().to_owned()));
            Some(Json::Array(texts.collect()).to_string())
        };
        for filter in &query.filters {
            match filter {
                Filter::NodeType(values) => conditions.types = list(values),
                Filter::NodeId(values) => conditions.ids = list(values),
                Filter::NodeVersion(values) => conditions.versions = list(values),
            }
        }
        conditions
    }
}

/// The conditions that SQLite can't judge.
struct Judge<'a> {
    query: &'a DiscoveryQuery,
    capabilities: Option<Json>,
    metadata: Option<Json>,
    server_ttl: Ttl,
    horizon: &'a Horizon,
}

impl<'a> Judge<'a> {
    fn of(query: &'a DiscoveryQuery, server_ttl: Ttl, horizon: &'a Horizon) -> Self {
        Self {
            query,
            capabilities: query.capabilities.as_ref().map(crate::node::JsonObject::to_json),
            metadata: query.metadata.as_ref().map(crate::node::JsonObject::to_json),
            server_ttl,
            horizon,
        }
    }

    fn matches(&self, record: &NodeRecord) -> bool {
        let holds = |column: &str, wanted: &Option<Json>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| Json::read_stored(column).is_some_and(|own| contains(&own, wanted)))
        };
        let in_range = self.query.version_req.as_ref().is_none_or(|range| {
            semver::Version::parse(&record.node_version).is_ok_and(|version| range.matches(&version))
        });
        let status = &self.query.status;
        in_range
            && (status.is_empty() || status.contains(&record.status(self.horizon, self.server_ttl)))
            && holds(record.capabilities.as_str(), &self.capabilities)
            && holds(record.metadata.as_str(), &self.metadata)
    }
}
