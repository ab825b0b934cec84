//! Reading from PostgreSQL.

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::begin;
use super::decode::{self, PgTimestamp};
use super::pool::{Pool, Transaction};
use super::revision::revision_sql;
use super::status::{status_sql, ttl_sql};
use crate::node::{ColumnText, DiscoveryQuery, Filter, Horizon, NodeKey, NodeRecord, Status, Ttl};
use crate::store::{Page, PageBuilder, Seen};

/// How many records are fetched at a time: at 192 KiB each, the most that a page's bytes can overshoot by is bounded.
const CHUNK: usize = 100;

/// One statement is one snapshot: since revisions grow in commit order, all changes up to the newest revision in it
/// are in it too.
const GET: &str = concat!(
    "
SELECT GREATEST(newest.revision, s.pruned_through, 0) AS horizon, statement_timestamp() AS at,
       s.served_until, s.outage_began, s.outage_ended, n.node_id IS NOT NULL AS found,
       n.node_id, n.node_type, n.node_version, n.capabilities::text, n.endpoints::text, n.metadata::text,
       n.health_endpoint, n.last_heartbeat, n.registered_at, n.updated_at, n.ttl_seconds, n.maintenance,
       ",
    revision_sql!(),
    " AS revision
  FROM (SELECT max(revision) AS revision FROM node_events) newest
  LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) s ON TRUE
  LEFT JOIN node_registrations n ON n.node_id = $1
"
);

/// The newest events may have been deleted, but not without a trace.
pub(super) const HORIZON: &str = "
SELECT GREATEST(newest.revision, s.pruned_through, 0) AS horizon, COALESCE(s.pruned_through, 0) AS pruned_through,
       statement_timestamp() AS at,
       s.served_until, s.outage_began, s.outage_ended
  FROM (SELECT max(revision) AS revision FROM node_events) newest LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) s ON TRUE";

/// The statement of discovery. Public for the test that reads its plan.
///
/// Parameters that are NULL ask for nothing. It is planned for each call with its parameters in sight (an unnamed
/// statement has no generic plan), so such conditions cost nothing, and a selective one gets its index.
#[doc(hidden)]
pub const DISCOVER: &str = concat!(
    r#"
SELECT n.node_id, n.node_type, n.node_version, n.capabilities::text, n.endpoints::text, n.metadata::text,
       n.health_endpoint, n.last_heartbeat, n.registered_at, n.updated_at, n.ttl_seconds, n.maintenance,
       "#,
    revision_sql!(),
    r#" AS revision
  FROM node_registrations n
 WHERE ($1::text IS NULL OR n.node_type = $1)
   AND ($2::text[] IS NULL OR n.node_type = ANY ($2))
   AND ($3::text[] IS NULL OR n.node_id = ANY ($3))
   AND ($4::text[] IS NULL OR n.node_version = ANY ($4))
   AND ($5::text IS NULL OR n.node_id COLLATE "C" >= $5)
   AND ($6::text IS NULL OR n.node_id COLLATE "C" < $6)
   AND ($7::text IS NULL OR n.node_id COLLATE "C" > $7)
   AND ($8::text IS NULL OR n.capabilities @> $8::text::jsonb)
   AND ($9::text IS NULL OR n.metadata @> $9::text::jsonb)
   AND ($10::text[] IS NULL OR "#,
    status_sql!("$11", "$12", "$14", "$15"),
    r#" = ANY ($10))
 ORDER BY n.node_id COLLATE "C"
 LIMIT $13
"#
);

/// All versions there are, by jumping from one to the next in the index on `node_version`.
const VERSIONS: &str = r"
WITH RECURSIVE version AS (
    (SELECT node_version FROM node_registrations ORDER BY node_version LIMIT 1)
    UNION ALL
    SELECT (SELECT n.node_version FROM node_registrations n
             WHERE n.node_version > version.node_version ORDER BY n.node_version LIMIT 1)
      FROM version WHERE version.node_version IS NOT NULL
)
SELECT node_version FROM version WHERE node_version IS NOT NULL
";

/// Over a connection of its own, and it touches no table: those that there are may all wait for a lock.
pub(super) async fn ping(pool: &Pool) -> Result<(), sqlx::Error> {
    let mut connection = pool.connect_options().connect().await?;
    connection.ping().await?;
    // Whether it hears of our leaving is its own affair.
    drop(connection.close().await);
    Ok(())
}

pub(super) async fn get(
    pool: &Pool,
    id: &NodeKey,
    server_ttl: Ttl,
) -> Result<Seen<Option<NodeRecord>>, sqlx::Error> {
    let mut tx = pool.begin_with(begin::READ).await?;
    let row = sqlx::query(GET).persistent(false).bind(id.as_str()).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    let found: bool = row.try_get("found")?;
    Ok(Seen {
        value: if found { Some(decode::record(&row)?) } else { None },
        revision: decode::revision(&row, "horizon")?,
        horizon: decode::horizon(&row, server_ttl)?,
    })
}

pub(super) async fn discover(
    pool: &Pool,
    query: &DiscoveryQuery,
    server_ttl: Ttl,
) -> Result<Seen<Page>, sqlx::Error> {
    // One snapshot for all statements.
    let mut tx = pool.begin_with(begin::READ).await?;
    let row = sqlx::query(HORIZON).persistent(false).fetch_one(&mut *tx).await?;
    let horizon = decode::horizon(&row, server_ttl)?;
    let revision = decode::revision(&row, "horizon")?;
    let value = page(&mut tx, query, server_ttl, &horizon).await?;
    tx.commit().await?;
    Ok(Seen { value, revision, horizon })
}

async fn page(
    tx: &mut Transaction,
    query: &DiscoveryQuery,
    server_ttl: Ttl,
    horizon: &Horizon,
) -> Result<Page, sqlx::Error> {
    let mut conditions = Conditions::of(query);
    if let Some(range) = &query.version_req {
        conditions.narrow_versions(range, tx).await?;
    }
    let limit = query.limit.get();
    let mut page = PageBuilder::new(limit);
    let mut after = query.after.as_ref().map(|id| id.as_str().to_owned());
    loop {
        // One more than the page takes tells whether more follow.
        let chunk = (limit + 1 - page.records.len()).min(CHUNK + 1);
        let rows = sqlx::query(DISCOVER)
            .persistent(false)
            .bind(&conditions.node_type)
            .bind(&conditions.node_types)
            .bind(&conditions.node_ids)
            .bind(&conditions.node_versions)
            .bind(query.node_id_prefix.as_ref().map(ColumnText::as_str))
            .bind(query.node_id_prefix.as_ref().and_then(ColumnText::end_of_prefix))
            .bind(&after)
            .bind(query.capabilities.as_ref().map(crate::node::json::JsonObject::as_str))
            .bind(query.metadata.as_ref().map(crate::node::json::JsonObject::as_str))
            .bind(&conditions.statuses)
            .bind(PgTimestamp(horizon.at))
            .bind(server_ttl.micros())
            .bind(i64::try_from(chunk).unwrap_or(i64::MAX))
            .bind(horizon.outage.map(|outage| PgTimestamp(outage.began)))
            .bind(horizon.outage.map(|outage| PgTimestamp(outage.ended)))
            .fetch_all(&mut **tx)
            .await?;
        for row in &rows {
            page.push(decode::record(row)?);
        }
        if rows.len() < chunk || page.is_full() {
            return Ok(page.finish());
        }
        after = page.records.last().map(|record| record.node_id.as_str().to_owned());
    }
}

/// The filters of a query as parameters; `None` asks for nothing.
struct Conditions {
    /// A single type has the index that is in the order of the answer.
    node_type: Option<String>,
    node_types: Option<Vec<String>>,
    node_ids: Option<Vec<String>>,
    node_versions: Option<Vec<String>>,
    statuses: Option<Vec<&'static str>>,
}

impl Conditions {
    fn of(query: &DiscoveryQuery) -> Self {
        let mut conditions =
            Self { node_type: None, node_types: None, node_ids: None, node_versions: None, statuses: None };
        let texts =
            |values: &[ColumnText]| Some(values.iter().map(|value| value.as_str().to_owned()).collect());
        for filter in &query.filters {
            match filter {
                Filter::NodeType(values) => match values.as_slice() {
                    [one] => conditions.node_type = Some(one.as_str().to_owned()),
                    several => conditions.node_types = texts(several),
                },
                Filter::NodeId(values) => conditions.node_ids = texts(values),
                Filter::NodeVersion(values) => conditions.node_versions = texts(values),
            }
        }
        if !query.status.is_empty() {
            conditions.statuses = Some(query.status.iter().map(|status| Status::as_str(*status)).collect());
        }
        conditions
    }

    /// A range of versions becomes a list of those that exist and are in it, which the database can look up.
    async fn narrow_versions(
        &mut self,
        range: &semver::VersionReq,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let candidates: Vec<String> = match self.node_versions.take() {
            Some(named) => named,
            None => sqlx::query_scalar(VERSIONS).persistent(false).fetch_all(connection).await?,
        };
        let in_range =
            |version: &String| semver::Version::parse(version).is_ok_and(|version| range.matches(&version));
        self.node_versions = Some(candidates.into_iter().filter(in_range).collect());
        Ok(())
    }
}
