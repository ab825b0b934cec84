//! Starting: migrations, the rights that serving needs, and what is refused.

use std::path::Path;

use futures_util::future::join_all;
use onex_registry::store::migration;
use onex_registry::store::postgres::migrate;
use serde_json::json;

use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

const OFF: &[&str] = &["--migrate=off"];

/// Why a server doesn't start, with all causes.
async fn refusal(url: &str, arguments: &[&str]) -> String {
    match TestServer::try_start_on(url, arguments).await {
        Ok(_) => panic!("the server starts"),
        Err(error) => format!("{error:#}"),
    }
}

/// The server does what a server does.
async fn serves(server: &TestServer) {
    server.register("n", json!({"node_type": "effect", "metadata": {"a": 1}})).await;
    server.register("n", json!({"node_type": "compute", "metadata": {"a": 1}})).await;
    let query = "metadata={\"a\":1}&version_req=^1&status=unknown&node_id_prefix=n";
    assert_eq!(server.ids(query).await, ["n"]);
    assert_eq!(server.get(&node("n")).await.json()["node_type"], "compute");
    assert_eq!(server.delete(&node("n")).await.status, 204);
    assert_eq!(server.get("/readyz").await.status, 200);
}

async fn applied(database: &TestDatabase) -> Vec<i64> {
    let mut owner = database.connect().await;
    sql::value(
        &mut owner,
        "SELECT array_agg(version ORDER BY applied_at, version) FROM onex_registry_migrations",
    )
    .await
}

fn known() -> Vec<i64> {
    migration::POSTGRES.iter().map(|migration| migration.version).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_who_may_nothing_else_migrates_and_serves() {
    let database = TestDatabase::create().await;
    let role = database.create_role("owner").await;
    let mut admin = database.connect().await;
    sql::run(&mut admin, format!("ALTER DATABASE {} OWNER TO {role}", database.name())).await;
    let server = TestServer::start_on(&database.url_as(&role), &[]).await;
    assert_eq!(applied(&database).await, known());
    serves(&server).await;
    let many =
        json!({"nodes": [{"node_id": "a", "node_type": "effect"}, {"node_id": "b", "node_type": "effect"}]});
    assert_eq!(server.post("/v1/batch/nodes", many).await.status, 200);
    let alive = server.post("/v1/batch/heartbeats", json!({"node_ids": ["a", "b"]})).await;
    assert_eq!(alive.status, 200, "{}", alive.text);
    sql::upsert(&mut admin, "by_sql", "effect", "{}").await.unwrap();
    let expected =
        ["n registered", "n updated", "n deregistered", "a registered", "b registered", "by_sql registered"];
    let told: Vec<String> = sql::registrations(&mut admin, 0)
        .await
        .into_iter()
        .map(|(id, kind)| format!("{id} {kind}"))
        .collect();
    assert_eq!(told, expected, "each change is recorded once");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_on_an_empty_database_all_come_up() {
    for isolation in ["read committed", "serializable"] {
        let database = TestDatabase::create().await;
        let mut owner = database.connect().await;
        let name = database.name();
        let set = format!("ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'");
        sql::run(&mut owner, set).await;
        let url = database.url();
        let servers = join_all((0..6).map(|_| TestServer::try_start_on(&url, &[]))).await;
        for server in servers {
            let server = server.unwrap_or_else(|error| panic!("{isolation}: {error:#}"));
            serves(&server).await;
            server.stop().await;
        }
        assert_eq!(applied(&database).await, known());
    }
}

#[tokio::test]
async fn a_migrated_database_is_left_as_it_is() {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let mut owner = database.connect().await;
    let catalog = "SELECT md5(string_agg(c.oid::text || c.relname || c.xmin::text, ',' ORDER BY c.oid)) FROM pg_class c";
    let before: String = sql::value(&mut owner, catalog).await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    assert_eq!(sql::value::<String>(&mut owner, catalog).await, before);
}

#[tokio::test]
async fn newer_migrations_are_no_error() {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, "INSERT INTO onex_registry_migrations (version, name) VALUES (99, 'the future')")
        .await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    serves(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn without_migrations_a_server_serves_what_is_ready_and_names_what_is_missing() {
    let database = TestDatabase::create().await;
    let reason = refusal(&database.url(), OFF).await;
    for missing in [
        "table node_registrations",
        "table node_events",
        "table onex_registry_signs",
        "sequence node_events_revision_seq",
        "function onex_registry_lock_revisions()",
        "function onex_registry_register()",
        "function onex_registry_heartbeat()",
    ] {
        assert_eq!(reason.matches(missing).count(), 1, "{missing}: {reason}");
    }
    let mut owner = database.connect().await;
    sql::run(&mut owner, migration::POSTGRES[0].sql).await;
    let reason = refusal(&database.url(), OFF).await;
    for missing in [
        "column node_registrations.ttl_seconds",
        "column node_registrations.maintenance",
        "table node_events",
    ] {
        assert!(reason.contains(missing), "{missing}: {reason}");
    }
    assert!(!reason.contains("table node_registrations"), "{reason}");

    // What an older version has made is not enough.
    for migration in &migration::POSTGRES[1..3] {
        sql::run(&mut owner, migration.sql).await;
    }
    let reason = refusal(&database.url(), OFF).await;
    let missing = [
        "table onex_registry_signs is missing",
        "function onex_registry_mend_numbers() is missing",
        "function onex_registry_register() is missing",
        "function onex_registry_heartbeat() is missing",
    ];
    assert_eq!(reason, format!("the database is not ready: {}", missing.join("; ")));

    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let server = TestServer::start_on(&database.url(), OFF).await;
    serves(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn columns_of_another_type_are_named() {
    let database = TestDatabase::create().await;
    let mut owner = database.connect().await;
    let ddl = migration::POSTGRES[0].sql;
    let odd = ddl
        .replace("metadata JSONB NOT NULL DEFAULT '{}'", "metadata JSON")
        .replace("last_heartbeat TIMESTAMP WITH TIME ZONE,", "last_heartbeat TIMESTAMP,")
        // Wider is no fault.
        .replace("node_type VARCHAR(50)", "node_type TEXT");
    sql::run(&mut owner, odd).await;
    let reason = refusal(&database.url(), &[]).await;
    for wrong in
        ["node_registrations.metadata has the type json,", "last_heartbeat has the type timestamp without"]
    {
        assert!(reason.contains(wrong), "{wrong}: {reason}");
    }
    assert!(!reason.contains("node_type"), "{reason}");
}

#[tokio::test]
async fn the_script_by_hand_makes_a_database_that_is_served() {
    for home in ["public", "elsewhere"] {
        let database = TestDatabase::create().await;
        let mut owner = database.connect().await;
        if home != "public" {
            let name = database.name();
            let table = migration::POSTGRES[0].sql;
            let path = format!(
                "CREATE SCHEMA {home}; SET search_path = {home}; {table}; CREATE SCHEMA first;
                                INSERT INTO node_registrations (node_id, node_type) VALUES ('there', 'effect');
                                ALTER DATABASE {name} SET search_path = first, {home}"
            );
            sql::run(&mut owner, path).await;
            owner = database.connect().await;
        }
        sql::run(&mut owner, migrate::script()).await;
        let server = TestServer::start_on(&database.url(), OFF).await;
        assert_eq!(
            server.ids("").await.len(),
            usize::from(home != "public"),
            "an adopted table has its rows"
        );
        serves(&server).await;
        sql::upsert(&mut owner, "plain", "effect", "{}").await.unwrap();
        assert!(server.get(&node("plain")).await.json()["revision"].as_i64() > Some(0));
        server.stop().await;
        // There is nothing left to do, and to do it again does no harm.
        assert_eq!(applied(&database).await, known());
        sql::run(&mut owner, migrate::script()).await;
        TestServer::start_on(&database.url(), &[]).await.stop().await;
        assert_eq!(applied(&database).await, known());
    }
}

/// What serving needs, as the documentation says it.
const RIGHTS: [&str; 5] = [
    "SELECT, INSERT, UPDATE, DELETE ON node_registrations",
    "SELECT, INSERT, DELETE ON node_events, onex_registry_signs",
    "USAGE ON SEQUENCE node_events_revision_seq",
    "SELECT, INSERT, UPDATE ON onex_registry_state, onex_registry_leases",
    "SELECT, INSERT, UPDATE, DELETE ON onex_registry_node_health",
];

#[tokio::test]
async fn serving_needs_no_owner_and_no_right_to_create() {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let role = database.create_role("server").await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, "REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    for right in RIGHTS {
        sql::run(&mut owner, format!("GRANT {right} TO {role}")).await;
    }
    // Not even the table of migrations has to be readable: what counts is what is there.
    for arguments in [OFF, &[]] {
        let server = TestServer::start_on(&database.url_as(&role), arguments).await;
        serves(&server).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn every_right_that_is_missing_is_named() {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let role = database.create_role("server").await;
    let mut owner = database.connect().await;
    let reason = refusal(&database.url_as(&role), OFF).await;
    for relation in ["node_registrations", "node_events"] {
        for right in ["SELECT", "INSERT", "DELETE"] {
            assert!(reason.contains(&format!("the right to {right} on {relation} ")), "{right}: {reason}");
        }
    }
    assert!(reason.contains("the right to UPDATE on node_registrations "), "{reason}");
    assert!(reason.contains("the right to USAGE on sequence node_events_revision_seq "), "{reason}");

    for right in RIGHTS {
        sql::run(&mut owner, format!("GRANT {right} TO {role}")).await;
    }
    for (taken, named) in [
        ("UPDATE ON node_registrations", "UPDATE on node_registrations"),
        ("DELETE ON node_events", "DELETE on node_events"),
        ("UPDATE ON onex_registry_state", "UPDATE on onex_registry_state"),
        ("UPDATE ON onex_registry_leases", "UPDATE on onex_registry_leases"),
        ("DELETE ON onex_registry_node_health", "DELETE on onex_registry_node_health"),
        ("DELETE ON onex_registry_signs", "DELETE on onex_registry_signs"),
        ("USAGE ON SEQUENCE node_events_revision_seq", "USAGE on sequence node_events_revision_seq"),
        (
            "EXECUTE ON FUNCTION onex_registry_lock_revisions()",
            "EXECUTE on function onex_registry_lock_revisions()",
        ),
    ] {
        sql::run(&mut owner, format!("REVOKE {taken} FROM PUBLIC, {role}")).await;
        let reason = refusal(&database.url_as(&role), OFF).await;
        assert_eq!(reason, format!("the database is not ready: the right to {named} is missing"));
        sql::run(&mut owner, format!("GRANT {taken} TO {role}")).await;
    }
    let server = TestServer::start_on(&database.url_as(&role), OFF).await;
    serves(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_create_is_told_what_could_not_be_migrated() {
    let database = TestDatabase::create().await;
    let role = database.create_role("server").await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, "REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let reason = refusal(&database.url_as(&role), &[]).await;
    assert!(reason.contains("migrations") && reason.contains("permission denied"), "{reason}");
}

#[tokio::test]
async fn registrations_outlive_the_server_and_revisions_go_on_growing() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let database = if backend == Backend::Postgres { Some(TestDatabase::create().await) } else { None };
        let folder = tempfile::tempdir().unwrap();
        let url =
            database.as_ref().map_or_else(|| sqlite(&folder.path().join("registry.db")), TestDatabase::url);
        let server = TestServer::start_on(&url, &[]).await;
        let kept = server.register("kept", json!({"node_type": "effect", "ttl_seconds": 5})).await;
        let gone = server.register("gone", json!({"node_type": "effect"})).await;
        server.delete(&node("gone")).await;
        let page = server.get("/v1/nodes").await;
        server.stop().await;

        let server = TestServer::start_on(&url, &[]).await;
        assert_eq!(server.get(&node("kept")).await.json(), kept, "{backend:?}");
        assert_eq!(server.get("/v1/nodes").await.text, page.text, "{backend:?}");
        let new = server.register("new", json!({"node_type": "effect"})).await;
        assert!(new["revision"].as_i64() > page.json()["revision"].as_i64(), "{backend:?}: {gone} {new}");
        server.stop().await;
    }
}

fn sqlite(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn an_sqlite_file_of_a_newer_version_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    TestServer::start_on(&sqlite(&path), &[]).await.stop().await;
    let pool = sqlx::SqlitePool::connect(&sqlite(&path)).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    let before = std::fs::read(&path).unwrap();
    let reason = refusal(&sqlite(&path), &[]).await;
    assert!(reason.contains("newer version") && reason.contains("99"), "{reason}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn an_sqlite_file_belongs_to_one_server_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let link = folder.path().join("link.db");
    let other = folder.path().join("other");
    std::os::unix::fs::symlink(folder.path(), &other).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    // The first server makes the file that the link points to.
    for first in [&link, &path] {
        let server = TestServer::start_on(&sqlite(first), &[]).await;
        for second in [&path, &link, &other.join("registry.db")] {
            let reason = refusal(&sqlite(second), &[]).await;
            assert!(reason.contains("belongs to another server process"), "{reason}");
        }
        serves(&server).await;
        server.stop().await;
    }
    for name in [&link, &path] {
        TestServer::start_on(&sqlite(name), &[]).await.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_sqlite_database_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "not a database, but long enough to be taken for one. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let reason = refusal(&sqlite(&path), &[]).await;
    assert!(reason.contains("can't be opened as an SQLite database"), "{reason}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    refusal(&sqlite(&folder.path().join("no/such/folder/registry.db")), &[]).await;
}
