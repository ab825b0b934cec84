//! Each change of life is an event, once.

use serde_json::json;

use super::{alive, told_of};
use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

on_both_stores!(the_next_life_of_an_id_begins_anew);

/// To this node, a TTL passes.
async fn turns_stale(server: &TestServer) {
    let postgres = "UPDATE node_registrations SET last_heartbeat = last_heartbeat - interval '91 seconds',
                           updated_at = updated_at - interval '91 seconds' WHERE node_id = 'n'";
    let sqlite = "UPDATE node_registrations SET last_heartbeat = last_heartbeat - 91000000,
                         updated_at = updated_at - 91000000 WHERE node_id = 'n'";
    sql::run_on(server, postgres, sqlite).await;
}

/// On a server, and as all those see it that work on its database.
async fn a_node_comes_to_life_turns_stale_and_comes_back_and_each_is_told_once(
    server: &TestServer,
    all: &[&TestServer],
) {
    let registered = alive(server, "n", None).await;
    server.register("silent", json!({"node_type": "effect"})).await;
    sql::eventually("it is told to be healthy", async || told_of(server, "n").await.len() == 2).await;
    turns_stale(server).await;
    for server in all {
        let shown = server.get(&node("n")).await.json();
        assert_eq!((&shown["status"], &shown["revision"]), (&json!("stale"), &registered["revision"]));
        assert_eq!(server.ids("status=stale").await, ["n"]);
        assert_eq!(server.ids("status=healthy").await, [""; 0]);
    }
    sql::eventually("it is told to be stale", async || told_of(server, "n").await.len() == 3).await;
    alive(all[all.len() - 1], "n", None).await;
    sql::eventually("it is told to be back", async || told_of(server, "n").await.len() == 4).await;
    turns_stale(server).await;
    sql::eventually("it is told again", async || told_of(server, "n").await.len() == 5).await;
    assert_eq!(told_of(server, "n").await, ["registered", "healthy", "stale", "healthy", "stale"]);
    assert_eq!(told_of(server, "silent").await, ["registered"]);
    let events = server.get("/v1/events").await.json();
    for event in events["events"].as_array().unwrap() {
        let ours = event["kind"] == "healthy" || event["kind"] == "stale";
        assert_eq!(event["actor"] == "registry", ours, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_life_is_told_once_by_all_replicas_together() {
    let server = TestServer::start(Backend::Postgres).await;
    let replica = TestServer::start_on(&server.database.as_ref().unwrap().url(), &[]).await;
    let all = [&server, &replica];
    a_node_comes_to_life_turns_stale_and_comes_back_and_each_is_told_once(&server, &all).await;
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_life_is_told_once_on_sqlite() {
    let server = TestServer::start(Backend::Sqlite).await;
    a_node_comes_to_life_turns_stale_and_comes_back_and_each_is_told_once(&server, &[&server]).await;
    server.stop().await;
}

async fn the_next_life_of_an_id_begins_anew(server: &TestServer) {
    alive(server, "n", None).await;
    sql::eventually("it is healthy", async || told_of(server, "n").await.len() == 2).await;
    assert_eq!(server.delete(&node("n")).await.status, 204);
    alive(server, "n", None).await;
    sql::eventually("its next life is told", async || told_of(server, "n").await.len() == 5).await;
    let kinds = told_of(server, "n").await;
    assert_eq!(kinds, ["registered", "healthy", "deregistered", "registered", "healthy"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_that_nobody_can_have_given_break_nothing() {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let mut owner = database.connect().await;
    for (id, heartbeat, ttl) in [
        ("ancient", "'4713-01-01 00:00:00+00 BC'", "86400"),
        ("never", "'-infinity'", "NULL"),
        ("late", "'294276-12-31 23:59:59+00'", "2147483647"),
        ("always", "'infinity'", "NULL"),
        ("negative", "now()", "-2147483648"),
        ("patient", "now() - interval '60 years'", "2147483647"),
    ] {
        let insert = format!(
            "INSERT INTO node_registrations (node_id, node_type, last_heartbeat, ttl_seconds, updated_at)
             VALUES ('{id}', 'effect', {heartbeat}, {ttl}, {heartbeat})"
        );
        sql::run(&mut owner, insert).await;
    }
    let server = TestServer::start_on(&database.url(), &["--expire-after=365d"]).await;
    alive(&server, "ordinary", None).await;
    sql::eventually("the fleet is seen to", async || !told_of(&server, "ordinary").await.is_empty()).await;
    sql::eventually("all is told", async || {
        let told = "SELECT count(*) FROM node_events WHERE kind IN ('healthy', 'stale')";
        sql::value::<i64>(&mut owner, told).await == 7
    })
    .await;
    for (status, expected) in [
        ("healthy", ["always", "late", "ordinary", "patient"].as_slice()),
        ("stale", &["ancient", "negative", "never"]),
    ] {
        assert_eq!(server.ids(&format!("status={status}")).await, expected);
        let told = format!(
            "SELECT array_agg(node_id::text ORDER BY node_id)
               FROM onex_registry_node_health WHERE status = '{status}'"
        );
        assert_eq!(sql::value::<Vec<String>>(&mut owner, told).await, expected);
    }
    server.stop().await;
}
