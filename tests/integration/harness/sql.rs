//! What programs that are not ours do with the database, and what an owner sees in it.

use super::TestServer;
use super::waiting::Waiting;
use sqlx::{AssertSqlSafe, Decode, PgConnection, Postgres, Row as _, Type};

/// The upsert of a writer that knows only the ten columns: all are set but `registered_at` and `last_heartbeat`.
pub(crate) const UPSERT: &str = "
INSERT INTO node_registrations
       (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, updated_at)
VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6::jsonb, $7, NOW())
    ON CONFLICT (node_id) DO UPDATE
   SET node_type = EXCLUDED.node_type, node_version = EXCLUDED.node_version,
       capabilities = EXCLUDED.capabilities, endpoints = EXCLUDED.endpoints, metadata = EXCLUDED.metadata,
       health_endpoint = EXCLUDED.health_endpoint, updated_at = EXCLUDED.updated_at";
pub(crate) const DELETE: &str = "DELETE FROM node_registrations WHERE node_id = $1";
pub(crate) const SELECT: &str = "SELECT * FROM node_registrations WHERE node_type = $1 AND node_version = $2";

/// A plain upsert of a node with this metadata.
pub(crate) async fn upsert(
    connection: &mut PgConnection,
    id: &str,
    node_type: &str,
    metadata: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(UPSERT)
        .bind(id)
        .bind(node_type)
        .bind("1.0.0")
        .bind(r#"{"capabilities": []}"#)
        .bind(r#"{"grpc": "localhost:50051"}"#)
        .bind(metadata)
        .bind(None::<&str>)
        .execute(connection)
        .await
        .map(drop)
}

/// A plain delete.
pub(crate) async fn delete(connection: &mut PgConnection, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query(DELETE).bind(id).execute(connection).await.map(drop)
}

/// Any statements.
pub(crate) async fn run(connection: &mut PgConnection, statements: impl Into<String>) {
    let statements = statements.into();
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(statements.clone())).execute(connection).await {
        panic!("{statements}: {error}");
    }
}

/// A statement of another hand in a server's own database, as each of the stores takes it.
pub(crate) async fn run_on(server: &TestServer, postgres: &'static str, sqlite: &'static str) {
    match &server.database {
        Some(database) => run(&mut database.connect().await, postgres).await,
        None => drop(sqlx::raw_sql(sqlite).execute(&mut server.open_sqlite().await).await.unwrap()),
    }
}

/// The one value that a query gives.
pub(crate) async fn value<T>(connection: &mut PgConnection, query: impl Into<String>) -> T
where
    T: Send + Unpin + for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    let query = query.into();
    match sqlx::query_scalar(AssertSqlSafe(query.clone())).persistent(false).fetch_one(connection).await {
        Ok(value) => value,
        Err(error) => panic!("{query}: {error}"),
    }
}

/// A row of `node_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub revision: i64,
    pub node_id: String,
    pub kind: String,
    pub changed: Vec<String>,
    pub actor: String,
}

/// The events after a revision.
pub(crate) async fn events(connection: &mut PgConnection, after: i64) -> Vec<Event> {
    let rows = sqlx::query(
        "SELECT revision, node_id, kind, changed, actor FROM node_events WHERE revision > $1 ORDER BY revision",
    )
    .bind(after)
    .fetch_all(connection)
    .await
    .unwrap();
    rows.iter()
        .map(|row| Event {
            revision: row.get("revision"),
            node_id: row.get("node_id"),
            kind: row.get("kind"),
            changed: row.get("changed"),
            actor: row.get("actor"),
        })
        .collect()
}

/// The events after a revision, as ids and kinds.
pub(crate) async fn kinds(connection: &mut PgConnection, after: i64) -> Vec<(String, String)> {
    events(connection, after).await.into_iter().map(|event| (event.node_id, event.kind)).collect()
}

/// The events after a revision that are of registrations and not of signs of life, as ids and kinds.
pub(crate) async fn registrations(connection: &mut PgConnection, after: i64) -> Vec<(String, String)> {
    let mut kinds = kinds(connection, after).await;
    kinds.retain(|(_, kind)| !["healthy", "stale"].contains(&kind.as_str()));
    kinds
}

/// Stays in a transaction for so many round trips, in which others commit.
pub(crate) async fn dawdle(connection: &mut PgConnection, round_trips: u64) {
    for _ in 0..round_trips {
        value::<i32>(connection, "SELECT 1").await;
    }
}

/// The newest revision.
pub(crate) async fn newest(connection: &mut PgConnection) -> i64 {
    value(connection, "SELECT COALESCE(max(revision), 0) FROM node_events").await
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = Waiting::begin();
    while !holds().await {
        waiting.look_again(|| what.to_owned()).await;
    }
}
