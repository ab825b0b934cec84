//! Each change of life is an event, once.

use serde_json::json;

use super::{ages, alive, kinds_of};
use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_to_life_turns_stale_and_comes_back_and_each_is_told_once() {
    let server = TestServer::start(Backend::Postgres).await;
    let database = server.database.as_ref().unwrap();
    let mut owner = database.connect().await;
    // A second replica must not tell it again.
    let replica = TestServer::start_on(&database.url(), &[]).await;
    let registered = alive(&server, "n", None).await;
    server.register("silent", json!({"node_type": "effect"})).await;
    sql::eventually("it is told to be healthy", async || kinds_of(&mut owner, "n").await.len() == 2).await;
    ages(&mut owner, "node_id = 'n'", "91 seconds").await;
    for server in [&server, &replica] {
        let shown = server.get(&node("n")).await.json();
        assert_eq!((&shown["status"], &shown["revision"]), (&json!("stale"), &registered["revision"]));
        assert_eq!(server.ids("status=stale").await, ["n"]);
        assert_eq!(server.ids("status=healthy").await, [""; 0]);
    }
    sql::eventually("it is told to be stale", async || kinds_of(&mut owner, "n").await.len() == 3).await;
    alive(&replica, "n", None).await;
    sql::eventually("it is told to be back", async || kinds_of(&mut owner, "n").await.len() == 4).await;
    ages(&mut owner, "node_id = 'n'", "91 seconds").await;
    sql::eventually("it is told again", async || kinds_of(&mut owner, "n").await.len() == 5).await;
    assert_eq!(kinds_of(&mut owner, "n").await, ["registered", "healthy", "stale", "healthy", "stale"]);
    assert_eq!(kinds_of(&mut owner, "silent").await, ["registered"]);
    let by = "SELECT string_agg(DISTINCT actor, ',') FROM node_events WHERE kind IN ('healthy', 'stale')";
    assert_eq!(sql::value::<String>(&mut owner, by).await, "registry");
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_life_of_an_id_begins_anew() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    alive(&server, "n", None).await;
    sql::eventually("it is healthy", async || kinds_of(&mut owner, "n").await.len() == 2).await;
    assert_eq!(server.delete(&node("n")).await.status, 204);
    alive(&server, "n", None).await;
    sql::eventually("its next life is told", async || kinds_of(&mut owner, "n").await.len() == 5).await;
    let kinds = kinds_of(&mut owner, "n").await;
    assert_eq!(kinds, ["registered", "healthy", "deregistered", "registered", "healthy"]);
    server.stop().await;
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
    sql::eventually("the fleet is seen to", async || !kinds_of(&mut owner, "ordinary").await.is_empty())
        .await;
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
