//! Programs that write to the table with plain SQL, beside the server.

mod hostile_neighbours;
mod in_transactions;
mod rules_of_the_owner;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::harness::sql::{self, Event};
use crate::harness::{Backend, TestDatabase, TestServer, node};

async fn start() -> (TestServer, sqlx::PgConnection) {
    let server = TestServer::start(Backend::Postgres).await;
    let writer = server.database.as_ref().unwrap().connect().await;
    (server, writer)
}

fn pair(id: &str, kind: &str) -> (String, String) {
    (id.to_owned(), kind.to_owned())
}

#[tokio::test]
async fn what_plain_statements_change_is_seen_by_the_next_read_and_recorded() {
    let (server, mut writer) = start().await;
    let user: String = sql::value(&mut writer, "SELECT session_user::text").await;
    let event = |revision: i64, kind: &str, changed: &[&str]| Event {
        revision,
        node_id: "n".into(),
        kind: kind.into(),
        changed: changed.iter().map(ToString::to_string).collect(),
        actor: format!("sql:{user}"),
    };

    sql::upsert(&mut writer, "n", "effect", r#"{"a": 1.0}"#).await.unwrap();
    let registered = server.get(&node("n")).await.json();
    assert_eq!((&registered["node_type"], &registered["status"]), (&json!("effect"), &json!("unknown")));
    assert_eq!(server.ids("metadata={\"a\":1}").await, ["n"]);
    let first = registered["revision"].as_i64().unwrap();
    assert_eq!(sql::events(&mut writer, 0).await, [event(first, "registered", &[])]);

    sql::upsert(&mut writer, "n", "compute", r#"{"a": 1.00}"#).await.unwrap();
    let updated = server.get(&node("n")).await.json();
    let second = updated["revision"].as_i64().unwrap();
    assert!(second > first);
    assert_eq!(updated["registered_at"], registered["registered_at"]);
    let changed = ["node_type", "metadata"];
    assert_eq!(sql::events(&mut writer, first).await, [event(second, "updated", &changed)]);

    sql::delete(&mut writer, "n").await.unwrap();
    server.get(&node("n")).await.problem(404, "node-not-found");
    let gone = sql::events(&mut writer, second).await;
    assert_eq!(gone, [event(gone[0].revision, "deregistered", &[])]);
    sql::delete(&mut writer, "n").await.unwrap();
    assert_eq!(sql::newest(&mut writer).await, gone[0].revision, "nothing was there to delete");
    server.stop().await;
}

#[tokio::test]
async fn a_plain_writer_sees_what_was_registered_over_http() {
    let (server, mut writer) = start().await;
    let body =
        json!({"node_type": "effect", "node_version": "1.2.0", "health_endpoint": "http://127.0.0.1:9/"});
    server.register("n", &body).await;
    let rows = sqlx::query(sql::SELECT).bind("effect").bind("1.2.0").fetch_all(&mut writer).await.unwrap();
    assert_eq!(rows.len(), 1);
    sql::run(&mut writer, "SELECT * FROM node_registrations WHERE health_endpoint IS NOT NULL").await;
    server.stop().await;
}

#[tokio::test]
async fn a_plain_change_breaks_if_match_and_a_sign_of_life_does_not() {
    let (server, mut writer) = start().await;
    let body = json!({"node_type": "effect"});
    let answer = server.put(&node("n"), &body).await;
    let tag = answer.header("etag").unwrap().to_owned();
    let revision = sql::newest(&mut writer).await;

    sql::run(&mut writer, "UPDATE node_registrations SET last_heartbeat = NOW() WHERE node_id = 'n'").await;
    sql::run(&mut writer, "UPDATE node_registrations SET updated_at = NOW(), metadata = '{}'").await;
    assert_eq!(sql::newest(&mut writer).await, revision, "neither is a change of the registration");
    let record = server.get(&node("n")).await.json();
    assert_eq!((&record["revision"], &record["status"]), (&json!(revision), &json!("healthy")));
    let put = |tag: String| {
        let body = body.to_string();
        let server = &server;
        async move { server.send(Method::PUT, &node("n"), body, &[("if-match", &tag)]).await }
    };
    assert_eq!(put(tag.clone()).await.status, 200);

    sql::upsert(&mut writer, "n", "effect", r#"{"by": "hand"}"#).await.unwrap();
    put(tag.clone()).await.problem(412, "precondition-failed");
    let delete = server.send(Method::DELETE, &node("n"), "", &[("if-match", &tag)]).await;
    delete.problem(412, "precondition-failed");
    let now = server.get(&node("n")).await;
    assert_eq!(now.json()["metadata"], json!({"by": "hand"}));
    assert_eq!(put(now.header("etag").unwrap().to_owned()).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn an_upsert_that_changes_nothing_is_no_event_and_sets_updated_at() {
    let (server, mut writer) = start().await;
    sql::upsert(&mut writer, "n", "effect", r#"{"a": 1, "b": 2}"#).await.unwrap();
    let before = server.get(&node("n")).await.json();
    sql::upsert(&mut writer, "n", "effect", r#"{"b": 2, "a": 1}"#).await.unwrap();
    let after = server.get(&node("n")).await.json();
    assert_eq!(after["revision"], before["revision"]);
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str());
    assert_eq!(sql::events(&mut writer, 0).await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn every_column_of_a_registration_is_named_when_it_changes() {
    let (server, mut writer) = start().await;
    server.register("n", json!({"node_type": "effect"})).await;
    for (column, value) in [
        ("node_type", "'compute'"),
        ("node_version", "'2.0.0'"),
        ("capabilities", r#"'{"x": 1}'"#),
        ("endpoints", r#"'{"http": "h:1"}'"#),
        ("metadata", r#"'{"m": 1}'"#),
        ("health_endpoint", "'http://h/'"),
        ("health_endpoint", "NULL"),
        ("ttl_seconds", "5"),
    ] {
        let before = sql::newest(&mut writer).await;
        sql::run(&mut writer, format!("UPDATE node_registrations SET {column} = {value}")).await;
        let events = sql::events(&mut writer, before).await;
        assert_eq!(events.len(), 1, "{column}");
        assert_eq!((events[0].kind.as_str(), &events[0].changed[..]), ("updated", &[column.to_owned()][..]));
        assert_eq!(server.get(&node("n")).await.json()["revision"], events[0].revision);
    }
    let before = sql::newest(&mut writer).await;
    sql::run(&mut writer, "UPDATE node_registrations SET maintenance = 'disk', node_version = '3.0.0'").await;
    assert_eq!(sql::kinds(&mut writer, before).await, [pair("n", "updated"), pair("n", "maintenance")]);
    let record = server.get(&node("n")).await.json();
    assert_eq!((&record["status"], &record["maintenance"]), (&json!("maintenance"), &json!("disk")));
    assert_eq!(record["revision"], sql::newest(&mut writer).await);
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_is_renamed_is_gone_under_the_one_id_and_new_under_the_other() {
    let (server, mut writer) = start().await;
    server.register("old", json!({"node_type": "effect"})).await;
    let before = sql::newest(&mut writer).await;
    sql::run(&mut writer, "UPDATE node_registrations SET node_id = 'new' WHERE node_id = 'old'").await;
    assert_eq!(
        sql::kinds(&mut writer, before).await,
        [pair("old", "deregistered"), pair("new", "registered")]
    );
    server.get(&node("old")).await.problem(404, "node-not-found");
    assert_eq!(server.get(&node("new")).await.json()["revision"], sql::newest(&mut writer).await);
    server.stop().await;
}

#[tokio::test]
async fn truncate_deregisters_every_node() {
    let (server, mut writer) = start().await;
    for id in ["b", "a", "C"] {
        server.register(id, json!({"node_type": "effect"})).await;
    }
    let before = sql::newest(&mut writer).await;
    sql::run(&mut writer, "TRUNCATE node_registrations").await;
    let expected = ["C", "a", "b"].map(|id| pair(id, "deregistered"));
    assert_eq!(sql::kinds(&mut writer, before).await, expected);
    assert!(server.ids("").await.is_empty());
    assert!(server.register("a", json!({"node_type": "effect"})).await["revision"].as_i64() > Some(before));
    server.stop().await;
}

#[tokio::test]
async fn what_one_transaction_does_to_a_node_is_recorded_in_order() {
    let (server, mut writer) = start().await;
    server.register("n", json!({"node_type": "effect"})).await;
    let before = sql::newest(&mut writer).await;
    let mut tx = writer.begin().await.unwrap();
    sql::delete(&mut tx, "n").await.unwrap();
    sql::upsert(&mut tx, "n", "effect", "{}").await.unwrap();
    sql::upsert(&mut tx, "n", "effect", r#"{"a": 1}"#).await.unwrap();
    sql::upsert(&mut tx, "brief", "effect", "{}").await.unwrap();
    sql::delete(&mut tx, "brief").await.unwrap();
    tx.commit().await.unwrap();
    let expected = [
        pair("n", "deregistered"),
        pair("n", "registered"),
        pair("n", "updated"),
        pair("brief", "registered"),
        pair("brief", "deregistered"),
    ];
    assert_eq!(sql::kinds(&mut writer, before).await, expected);
    let record = server.get(&node("n")).await.json();
    assert_eq!((&record["metadata"], &record["revision"]), (&json!({"a": 1}), &json!(before + 3)));
    server.stop().await;
}

#[tokio::test]
async fn a_role_with_rights_on_the_table_alone_can_do_all_its_statements() {
    let (server, mut owner) = start().await;
    let database: &TestDatabase = server.database.as_ref().unwrap();
    let role = database.create_role("writer").await;
    sql::run(&mut owner, format!("GRANT SELECT, INSERT, UPDATE, DELETE ON node_registrations TO {role}"))
        .await;
    let mut writer = database.connect_as(&role).await;

    // With a search_path on which none of our tables is, and one where others try to be taken for them.
    sql::upsert(&mut writer, "n", "effect", "{}").await.unwrap();
    sql::run(&mut writer, "CREATE TEMP TABLE node_events (revision BIGINT)").await;
    sql::upsert(&mut writer, "n", "compute", "{}").await.unwrap();
    let rows = sqlx::query(sql::SELECT).bind("compute").bind("1.0.0").fetch_all(&mut writer).await.unwrap();
    assert_eq!(rows.len(), 1);
    sql::run(&mut writer, "SET search_path = ''; DELETE FROM public.node_registrations WHERE node_id = 'n'")
        .await;

    let events = sql::events(&mut owner, 0).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["registered", "updated", "deregistered"]);
    assert!(events.iter().all(|event| event.actor == format!("sql:{role}")), "{events:?}");
    for forbidden in [
        "SELECT 1 FROM public.node_events",
        "SELECT nextval('public.node_events_revision_seq')",
        "SELECT public.onex_registry_record('n', 'registered', '{}')",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut writer).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{forbidden}");
    }
    server.stop().await;
}

#[tokio::test]
async fn many_rows_in_one_statement_are_an_event_each() {
    let (server, mut writer) = start().await;
    sql::run(
        &mut writer,
        "INSERT INTO node_registrations (node_id, node_type)
         SELECT 'n' || to_char(i, 'FM0000'), 'effect' FROM generate_series(1, 1500) AS i;
         UPDATE node_registrations SET metadata = '{\"x\": 1}' WHERE node_id > 'n1000';
         DELETE FROM node_registrations WHERE node_id <= 'n0500'",
    )
    .await;
    let count = |kind: &str| format!("SELECT count(*) FROM node_events WHERE kind = '{kind}'");
    for (kind, expected) in [("registered", 1500), ("updated", 500), ("deregistered", 500)] {
        assert_eq!(sql::value::<i64>(&mut writer, count(kind)).await, expected, "{kind}");
    }
    let page: Value = server.get("/v1/nodes?limit=1000").await.json();
    assert_eq!(page["nodes"].as_array().unwrap().len(), 1000);
    assert_eq!(page["revision"], sql::newest(&mut writer).await);
    server.stop().await;
}
