//! A healthy database is not taken for one that is away, whatever is asked of it.

use futures_util::future::join_all;
use serde_json::json;

use super::put;
use crate::harness::{Backend, TestServer, encoded, sql};

/// Whether it ever opened.
async fn never_opened(server: &TestServer) {
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("\nonex_registry_database_breaker_opened_total 0\n"), "{metrics}");
    assert!(metrics.contains("\nonex_registry_database_calls_refused_total 0\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_refused_or_held_cost_nobody_else_anything() {
    let server = TestServer::start_with(Backend::Postgres, &["--breaker-failures=1"]).await;
    let database = server.database.as_ref().unwrap();
    let mut owner = database.connect().await;
    assert_eq!(put(&server, "held").await.status, 201);
    sql::run(&mut owner, "ALTER TABLE node_registrations ADD CHECK (node_id <> 'forbidden')").await;
    let mut idle = database.connect().await;
    sql::run(&mut idle, "BEGIN; SELECT * FROM node_registrations WHERE node_id = 'held' FOR UPDATE").await;
    let beside = async {
        for round in 0..20 {
            put(&server, "forbidden").await.problem(422, "refused");
            let other = put(&server, &format!("n{round}")).await;
            assert_eq!(other.status, 201, "{}", other.text);
        }
    };
    let held = async {
        for _ in 0..3 {
            put(&server, "held").await.problem(503, "contended");
            server.post("/v1/nodes/held/heartbeat", "").await.problem(503, "contended");
        }
    };
    futures_util::future::join(beside, held).await;
    sql::run(&mut idle, "ROLLBACK").await;
    assert_eq!(put(&server, "held").await.status, 200);
    never_opened(&server).await;
    server.stop().await;
}

/// The database ends the statement by itself, and says so. The silence that is allowed is far shorter than that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_costs_nobody_else_anything() {
    let arguments = ["--breaker-failures=1", "--database-silence=3s"];
    let server = TestServer::start_with(Backend::Postgres, &arguments).await;
    assert_eq!(put(&server, "n").await.status, 201);
    let mut owner = server.database.as_ref().unwrap().connect().await;
    // It blocks who reads rows, and not who asks whether the database is there.
    // Who waited for one of the two with the other in hand would be in a deadlock with a reader of both.
    let lock = "BEGIN; LOCK TABLE node_registrations, node_events IN ACCESS EXCLUSIVE MODE NOWAIT";
    sql::eventually("both are locked", async || {
        let is_locked = sqlx::raw_sql(lock).execute(&mut owner).await.is_ok();
        if !is_locked {
            sql::run(&mut owner, "ROLLBACK").await;
        }
        is_locked
    })
    .await;
    let query = format!("/v1/nodes?consistency=strong&metadata={}", encoded(&json!({"a": 1}).to_string()));
    let reads =
        [query.as_str(), "/v1/events", "/v1/nodes/n?consistency=strong"].map(|path| server.get_once(path));
    for answer in join_all(reads).await {
        answer.problem(503, "unavailable");
    }
    never_opened(&server).await;
    sql::run(&mut owner, "ROLLBACK").await;
    assert_eq!(server.get(&query).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_holds_is_not_away() {
    let server = TestServer::start_with(Backend::Sqlite, &["--breaker-failures=1"]).await;
    assert_eq!(put(&server, "n").await.status, 201);
    let mut other = server.open_sqlite().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let many = join_all((0..20).map(|n| put(&server, if n % 2 == 0 { "n" } else { "m" })));
    for answer in many.await {
        assert_eq!(answer.status, 503, "{}", answer.text);
    }
    never_opened(&server).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    sql::eventually("it goes on", async || put(&server, "n").await.status == 200).await;
    server.stop().await;
}

/// The database is well, and nobody can write down that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_that_stand_still_are_said_to() {
    let server = TestServer::start(Backend::Postgres).await;
    assert_eq!(put(&server, "n").await.status, 201);
    let mut owner = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut owner, "BEGIN; SELECT * FROM onex_registry_state FOR UPDATE").await;
    sql::eventually("it is said", async || server.get_once("/v1/nodes/n").await.stale_seconds() >= Some(3))
        .await;
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")), "{}", ready.text);
    sql::run(&mut owner, "ROLLBACK").await;
    sql::eventually("they go on", async || {
        server.get_once("/v1/nodes/n").await.stale_seconds().is_none()
            && server.get("/readyz").await.json()["status"] == "ok"
    })
    .await;
    server.stop().await;
}
