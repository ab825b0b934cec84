//! Both stores with the same nodes, at an instant that lasts.

use std::fmt::Write as _;
use std::sync::Arc;

use onex_registry::node::Timestamp;
use onex_registry::store::clock::Clock;
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::sqlite::SqliteStore;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::{NOW, Node, SERVER_TTL, Served, Told, YEAR, id};
use crate::harness::{TestDatabase, sql};

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(NOW)
    }
}

/// Both stores, to which it is always now, and other hands at their data.
pub(super) struct Both {
    pub(super) postgres: PostgresStore,
    pub(super) sqlite: SqliteStore,
    owner: PgConnection,
    file: SqliteConnection,
    _database: TestDatabase,
    _folder: TempDir,
}

impl Both {
    pub(super) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let mut owner = database.connect().await;
        PostgresStore::connect(&database.url(), 1, SERVER_TTL).await.unwrap().migrate().await.unwrap();
        // A clock that stands still, in front of PostgreSQL's own.
        let clock = format!(
            "CREATE SCHEMA clock;
             CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
                 AS $$ SELECT {} $$;
             ALTER DATABASE {} SET search_path = clock, pg_catalog, public;
             SET onex_registry.writer = 'registry'",
            postgres_time(0),
            database.name()
        );
        sql::run(&mut owner, clock).await;
        let postgres = PostgresStore::connect(&database.url(), 1, SERVER_TTL).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("registry.db").display());
        let sqlite = SqliteStore::open(&url, Arc::new(Stopped), SERVER_TTL).await.unwrap();
        let file = SqliteConnection::connect(&url).await.unwrap();
        Self { postgres, sqlite, owner, file, _database: database, _folder: folder }
    }

    /// Puts this and nothing else into both.
    pub(super) async fn hold(&mut self, nodes: &[Node], served: &Served) {
        sql::run(&mut self.owner, statements(nodes, served, postgres_time)).await;
        let statements = AssertSqlSafe(statements(nodes, served, |ago| (NOW - ago).to_string()));
        sqlx::raw_sql(statements).execute(&mut self.file).await.unwrap();
    }
}

fn postgres_time(ago: i64) -> String {
    format!("(timestamptz '1970-01-01 00:00:00+00' + interval '1 microsecond' * {})", NOW - ago)
}

/// The same in both dialects, but for the times.
fn statements(nodes: &[Node], served: &Served, time: impl Fn(i64) -> String) -> String {
    let instant = |ago: Option<i64>| ago.map_or("NULL".to_owned(), &time);
    let number = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| value.to_string());
    let text = |there: bool| if there { "'text'" } else { "NULL" };
    let mut sql = format!(
        "BEGIN; DELETE FROM node_registrations; DELETE FROM onex_registry_node_health;
         UPDATE onex_registry_state SET served_until = {}, outage_began = {}, outage_ended = {};",
        instant(served.until),
        instant(served.outage.map(|(began, _)| began)),
        instant(served.outage.map(|(_, ended)| ended)),
    );
    let registered_at = time(50 * YEAR);
    for (index, node) in nodes.iter().enumerate() {
        let (id, heartbeat, updated) = (id(index), instant(node.last_heartbeat), time(node.updated_at));
        let (ttl, kept, probed) =
            (number(node.ttl_seconds), text(node.maintenance), text(node.health_endpoint));
        write!(
            sql,
            "INSERT INTO node_registrations (node_id, node_type, last_heartbeat, ttl_seconds, maintenance,
                                             health_endpoint, registered_at, updated_at)
             VALUES ('{id}', 'effect', {heartbeat}, {ttl}, {kept}, {probed}, {registered_at}, {updated});"
        )
        .unwrap();
        if let Some(Told { healthy, of_this_life, since }) = &node.told {
            let status = if *healthy { "healthy" } else { "stale" };
            let registered_at = time(50 * YEAR + i64::from(!of_this_life));
            let since = time(*since);
            write!(
                sql,
                "INSERT INTO onex_registry_node_health (node_id, registered_at, status, since)
                 VALUES ('{id}', {registered_at}, '{status}', {since});"
            )
            .unwrap();
        }
    }
    sql + "COMMIT"
}
