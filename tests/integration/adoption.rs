//! A database that has the table already, with rows that others left in it.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::harness::server::ids_of;
use crate::harness::{TestDatabase, TestServer, node, sql};

/// Migration 1, byte for byte: the table as it is promised to others.
const DDL: &str = "\
CREATE TABLE IF NOT EXISTS node_registrations (
    node_id VARCHAR(255) PRIMARY KEY,
    node_type VARCHAR(50) NOT NULL,
    node_version VARCHAR(50) NOT NULL DEFAULT '1.0.0',
    capabilities JSONB NOT NULL DEFAULT '{}',
    endpoints JSONB NOT NULL DEFAULT '{}',
    metadata JSONB NOT NULL DEFAULT '{}',
    health_endpoint VARCHAR(512),
    last_heartbeat TIMESTAMP WITH TIME ZONE,
    registered_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
);
CREATE INDEX IF NOT EXISTS idx_node_registrations_node_type ON node_registrations(node_type);
CREATE INDEX IF NOT EXISTS idx_node_registrations_node_version ON node_registrations(node_version);
CREATE INDEX IF NOT EXISTS idx_node_registrations_updated_at ON node_registrations(updated_at DESC);
CREATE INDEX IF NOT EXISTS idx_node_registrations_health_endpoint ON node_registrations(health_endpoint)
    WHERE health_endpoint IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_node_registrations_capabilities ON node_registrations USING GIN (capabilities);
";

/// An empty database with the table, as another program made it.
async fn with_table() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, DDL).await;
    (database, owner)
}

const ODD_ROWS: &str = r#"
INSERT INTO node_registrations (node_id, node_type, node_version, capabilities, endpoints, metadata,
                                health_endpoint, last_heartbeat, registered_at, updated_at) VALUES
('ancient', 'effect', '1.0.0', '{}', '{}', '{}', NULL, '0044-03-15 12:00:00+00 BC', '-infinity', '4713-01-01 BC'),
('array', 'runtime_host', 'v2-beta', '[1, "two", {"three": 3}]', '"text"', 'null', 'not a url', NULL,
 '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00'),
('eternal', '', '', '{}', '[]', '1.10', '', 'infinity', '12026-01-02 03:04:05.000006+00', 'infinity'),
(' blank ', 'effect', '1.0.0', '{"ключ": "значение 🦀", "a\"b": "\\ \n"}', '{}', '{}', NULL, '-infinity',
 '2024-01-01 00:00:00.1+00', '2024-01-01 00:00:00+00'),
(E'new\nline', 'effect', '1.0.0', '{}', '{}', '{}', NULL, NULL, NOW(), NOW()),
('sla/sh%2F?#', 'effect', '1.0.0', '{}', '{}', '{}', NULL, NULL, NOW(), NOW()),
('', 'effect', '1.0.0', '{}', '{}', '{}', NULL, NULL, NOW(), NOW()),
('..', 'effect', '1.0.0', '{}', '{}', '{}', NULL, NULL, NOW(), NOW()),
(repeat('ü', 255), 'effect', '1.0.0', '{}', '{}', '{}', NULL, NULL, NOW(), NOW())"#;

#[tokio::test]
async fn odd_rows_are_listed_as_they_are() {
    let (database, mut owner) = with_table().await;
    sql::run(&mut owner, ODD_ROWS).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    let page = server.get("/v1/nodes").await.json();
    let mut ids = ids_of(&page);
    let long = "ü".repeat(255);
    let expected =
        ["", " blank ", "..", "ancient", "array", "eternal", "new\nline", "sla/sh%2F?#", long.as_str()];
    assert_eq!(ids, expected);
    // That they are alive, or not, may have been told of by now. Nothing else has happened to them.
    let events = server.get("/v1/events").await.json();
    for event in events["events"].as_array().unwrap() {
        assert!(["healthy", "stale"].contains(&event["kind"].as_str().unwrap()), "{event}");
    }
    for shown in page["nodes"].as_array().unwrap() {
        assert_eq!((&shown["revision"], &shown["maintenance"]), (&json!(0), &Value::Null), "{shown}");
    }

    let by_id = |id: &str| page["nodes"][expected.iter().position(|other| *other == id).unwrap()].clone();
    let fields =
        |id: &str, names: &[&str]| names.iter().map(|name| by_id(id)[name].clone()).collect::<Vec<_>>();
    let times = ["last_heartbeat", "registered_at", "updated_at", "status"];
    let ancient = ["-000043-03-15T12:00:00.000000Z", "-infinity", "-004712-01-01T00:00:00.000000Z", "stale"];
    assert_eq!(fields("ancient", &times), ancient);
    let eternal = ["infinity", "+012026-01-02T03:04:05.000006Z", "infinity", "healthy"];
    assert_eq!(fields("eternal", &times), eternal);
    let array =
        ["node_type", "node_version", "capabilities", "endpoints", "metadata", "health_endpoint", "status"];
    let expected_array =
        json!(["runtime_host", "v2-beta", [1, "two", {"three": 3}], "text", null, "not a url", "unknown"]);
    assert_eq!(json!(fields("array", &array)), expected_array);
    assert_eq!(by_id(" blank ")["capabilities"], json!({"ключ": "значение 🦀", "a\"b": "\\ \n"}));
    assert_eq!(
        (&by_id(" blank ")["status"], by_id("new\nline")["status"].as_str()),
        (&json!("stale"), Some("unknown"))
    );

    // Two ids can't be asked for by a path: the empty one, and one that clients take out of paths.
    ids.retain(|id| !["", ".."].contains(&id.as_str()));
    for id in &ids {
        assert_eq!(server.get(&node(id)).await.json(), by_id(id));
        assert_eq!(server.delete(&node(id)).await.status, 204, "{id}");
        server.get(&node(id)).await.problem(404, "node-not-found");
    }
    let rest = server.post("/v1/batch/deregister", json!({"node_ids": ["", ".."]})).await.json();
    assert_eq!(rest, json!({"deregistered": 2, "unknown": []}));
    let gone = sql::registrations(&mut owner, 0).await;
    assert_eq!(gone.len(), 9);
    server.stop().await;
}

#[tokio::test]
async fn no_query_stumbles_over_odd_rows() {
    let (database, mut owner) = with_table().await;
    sql::run(&mut owner, ODD_ROWS).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    for (query, expected) in [
        ("node_type=runtime_host", vec!["array"]),
        ("node_type=", vec!["eternal"]),
        ("node_version=v2-beta", vec!["array"]),
        ("node_version=v2-beta&version_req=*", vec![]),
        ("version_req=%3E9.0.0", vec![]),
        ("node_id=%20blank%20&version_req=1", vec![" blank "]),
        ("capabilities={\"three\":3}", vec![]),
        ("capabilities={\"a\\\"b\":\"\\\\ \\n\"}", vec![" blank "]),
        ("metadata={\"a\":1}", vec![]),
        ("node_id_prefix=%C3%BC%C3%BC&capabilities={}&limit=1", vec!["long"]),
        ("status=healthy", vec!["eternal"]),
        ("status=stale", vec![" blank ", "ancient"]),
        ("status=maintenance", vec![]),
        ("status=unknown&node_type=runtime_host", vec!["array"]),
    ] {
        let long = "ü".repeat(255);
        let expected: Vec<_> = expected.into_iter().map(|id| if id == "long" { &long } else { id }).collect();
        assert_eq!(server.ids(query).await, expected, "{query}");
    }
    assert_eq!(server.ids("version_req=*").await.len(), 7, "all but those without a SemVer version");
    // Page by page, each cursor is an odd id.
    let (mut cursor, mut seen) = (String::new(), 0);
    loop {
        let page = server.get(&format!("/v1/nodes?limit=1{cursor}")).await.json();
        seen += ids_of(&page).len();
        assert!(seen <= 9, "a page is repeated");
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, 9);
    server.stop().await;
}

#[tokio::test]
async fn numbers_and_depths_that_json_libraries_refuse_are_shown_and_searched() {
    let (database, mut owner) = with_table().await;
    sql::run(
        &mut owner,
        r#"INSERT INTO node_registrations (node_id, node_type, metadata) VALUES
           ('deep', 'effect', ('{"a": ' || repeat('[', 1000) || repeat(']', 1000) || ', "b": 1}')::jsonb),
           ('huge', 'effect', '{"a": 1e5000, "b": 1.10}')"#,
    )
    .await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    let huge = format!("1{}", "0".repeat(5000));
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let page = server.get("/v1/nodes").await;
    assert_eq!(page.status, 200, "{}", page.text);
    for part in [&huge, &deep, "1.10"] {
        assert!(page.text.contains(part), "{}", page.text);
    }
    assert!(server.get(&node("huge")).await.text.contains(&huge));
    assert!(server.get(&node("deep")).await.text.contains(&deep));
    let found = server.get("/v1/nodes?metadata={\"b\":1.1}").await;
    assert!(found.text.contains("\"huge\"") && !found.text.contains("\"deep\""), "{}", found.text);
    let found = server.get("/v1/nodes?metadata={\"a\":[[[]]],\"b\":1}&version_req=^1&status=unknown").await;
    assert!(found.text.contains("\"deep\"") && !found.text.contains("\"huge\""), "{}", found.text);

    // What is odd can be replaced and removed.
    server.register("huge", json!({"node_type": "effect"})).await;
    assert_eq!(server.delete(&node("deep")).await.status, 204);
    assert_eq!(server.ids("").await, ["huge"]);
    server.stop().await;
}

#[tokio::test]
async fn an_adopted_node_registers_again_and_keeps_its_first_time() {
    let (database, mut owner) = with_table().await;
    sql::run(
        &mut owner,
        "INSERT INTO node_registrations (node_id, node_type, last_heartbeat, registered_at, updated_at) VALUES
         ('n', 'runtime_host', '2024-01-02 00:00:00+00', '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00'),
         ('same', 'effect', NULL, '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00')",
    )
    .await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    let tag = server.get(&node("n")).await.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("\"0."), "{tag}");
    let body = json!({"node_type": "effect"}).to_string();
    let answer = server.send(reqwest::Method::PUT, &node("n"), body.clone(), &[("if-match", &tag)]).await;
    assert_eq!(answer.status, 200, "it was there");
    let record = answer.json();
    assert_eq!(record["registered_at"], "2023-01-01T00:00:00.000000Z");
    assert_eq!(record["last_heartbeat"], "2024-01-02T00:00:00.000000Z");
    assert!(record["updated_at"].as_str() > Some("2024"));
    assert!(record["revision"].as_i64() > Some(0));
    let answer = server.send(reqwest::Method::PUT, &node("n"), body.clone(), &[("if-match", &tag)]).await;
    answer.problem(412, "precondition-failed");
    let same = server.put(&node("same"), body).await;
    assert_eq!((same.status, &same.json()["revision"]), (200, &json!(0)), "nothing changed");
    assert_eq!(sql::registrations(&mut owner, 0).await, [("n".to_owned(), "updated".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn all_of_ours_goes_where_the_table_is() {
    for home in ["b", "\"Odd %1$s Name\""] {
        let database = TestDatabase::create().await;
        let mut owner = database.connect().await;
        let name = database.name();
        sql::run(
            &mut owner,
            format!(
                "CREATE SCHEMA a; CREATE SCHEMA {home}; SET search_path = {home}; {DDL};
                 INSERT INTO node_registrations (node_id, node_type) VALUES ('there', 'effect');
                 ALTER DATABASE {name} SET search_path = a, {home}"
            ),
        )
        .await;
        let server = TestServer::start_on(&database.url(), &[]).await;
        assert_eq!(server.ids("").await, ["there"]);
        server.register("n", json!({"node_type": "effect"})).await;
        let mut writer = database.connect().await;
        sql::upsert(&mut writer, "there", "compute", "{}").await.unwrap();
        assert_eq!(sql::kinds(&mut writer, 0).await.len(), 2);
        let elsewhere = format!(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE (c.relname LIKE 'node%' OR c.relname LIKE 'onex%' OR c.relname LIKE 'idx_node%')
                AND quote_ident(n.nspname) <> '{home}'"
        );
        assert_eq!(sql::value::<i64>(&mut writer, elsewhere).await, 0);
        server.stop().await;
        // The second start finds it all where it is.
        TestServer::start_on(&database.url(), &[]).await.stop().await;
    }
}

#[tokio::test]
async fn the_migrations_of_another_application_are_left_alone() {
    let (database, mut owner) = with_table().await;
    sql::run(
        &mut owner,
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL);
         INSERT INTO _sqlx_migrations VALUES (20240101, 'theirs'), (1, 'not ours')",
    )
    .await;
    let table = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM _sqlx_migrations t";
    let before: String = sql::value(&mut owner, table).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    server.register("n", json!({"node_type": "effect"})).await;
    server.stop().await;
    assert_eq!(sql::value::<String>(&mut owner, table).await, before);
}

#[tokio::test]
async fn migration_1_is_the_table_that_was_promised_and_can_be_run_by_hand_twice() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/0001_node_registrations.sql");
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text, DDL);
    let (database, mut owner) = with_table().await;
    sql::run(&mut owner, text).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    sql::run(&mut owner, DDL).await;
    server.register("n", json!({"node_type": "effect"})).await;
    let columns: String = sql::value(
        &mut owner,
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
           FROM pg_attribute WHERE attrelid = 'node_registrations'::regclass AND attnum BETWEEN 1 AND 10",
    )
    .await;
    assert_eq!(
        columns,
        "node_id character varying(255), node_type character varying(50), node_version character varying(50), \
         capabilities jsonb, endpoints jsonb, metadata jsonb, health_endpoint character varying(512), \
         last_heartbeat timestamp with time zone, registered_at timestamp with time zone, \
         updated_at timestamp with time zone"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_table_is_adopted_while_others_read_and_write_it() {
    let (database, mut owner) = with_table().await;
    sql::upsert(&mut owner, "n", "effect", "{}").await.unwrap();
    let mut reader = database.connect().await;
    sql::run(&mut reader, "BEGIN; SELECT * FROM node_registrations").await;

    let url = database.url();
    let starting = tokio::spawn(async move { TestServer::start_on(&url, &[]).await });
    // The migration waits behind the idle reader, and gives up, and waits again.
    let mut waits = 0;
    let mut waited = false;
    sql::eventually("the migration waits a second time", async || {
        let waiting: bool = sql::value(
            &mut reader,
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                AND relation = 'node_registrations'::regclass",
        )
        .await;
        waits += i32::from(waiting && !waited);
        waited = waiting;
        assert!(!starting.is_finished(), "the reader was there first");
        waits == 2
    })
    .await;
    // Whoever comes now gets through when it gives up: it never waits as long as the reader idles.
    sql::run(&mut owner, "SET statement_timeout = '20s'; SELECT count(*) FROM node_registrations").await;
    sql::upsert(&mut owner, "n", "compute", "{}").await.unwrap();
    assert!(!starting.is_finished());

    sql::run(&mut reader, "COMMIT").await;
    let server = starting.await.unwrap();
    assert_eq!(server.ids("node_type=compute").await, ["n"]);
    server.stop().await;
}
