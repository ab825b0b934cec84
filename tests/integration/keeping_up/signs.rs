//! Signs of life that other replicas took, and that the journal doesn't tell of any more.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::sql::{self, eventually};
use crate::harness::watching::Watch;
use crate::harness::{TestDatabase, TestServer, node};

const EFFECT: &str = r#"{"node_type":"effect"}"#;
/// The journal may be shorter than this.
const LONG: Duration = Duration::from_secs(46);

async fn heartbeat(server: &TestServer, id: &str) -> Value {
    server.get_once(&node(id)).await.json()["last_heartbeat"].clone()
}

/// It takes the time for which the journal is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_could_not_read_the_journal_for_as_long_as_it_is_kept_reads_the_table() {
    let database = TestDatabase::create().await;
    // Nobody turns stale meanwhile.
    let server = TestServer::start_on(&database.url(), &["--compare-interval=1d", "--ttl=1h"]).await;
    for id in ["a", "b"] {
        server.register(id, EFFECT).await;
    }
    let mut owner = database.connect().await;
    // Once these have been told, no event brings the nodes again.
    let mut watch: Watch = server.watch("kind=healthy").await;
    assert_eq!(server.post("/v1/batch/heartbeats", r#"{"node_ids":["a","b"]}"#).await.status, 200);
    watch.take(2).await;
    let before = [heartbeat(&server, "a").await, heartbeat(&server, "b").await];
    let mut watch: Watch = server.watch("").await;
    let begun = Instant::now();
    // Another replica takes it, and the journal tells of it no more when it can be read again.
    sql::run(&mut owner, "BEGIN; LOCK onex_registry_signs").await;
    sql::run(&mut owner, "UPDATE node_registrations SET last_heartbeat = now() WHERE node_id = 'a'").await;
    eventually("it is too late", async || begun.elapsed() > LONG).await;
    assert_eq!(heartbeat(&server, "a").await, before[0]);
    sql::run(&mut owner, "COMMIT").await;
    eventually("it is known", async || heartbeat(&server, "a").await != before[0]).await;
    assert_eq!(heartbeat(&server, "b").await, before[1]);
    // Who watches goes on.
    server.register("c", EFFECT).await;
    loop {
        let message = watch.next().await;
        assert_ne!(message.name, "closing");
        if message.gist() == ("change", "registered", "c") {
            break;
        }
    }
    drop(watch);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_journal_begins_anew_it_is_read_from_the_begin_after_a_failure() {
    let database = TestDatabase::create().await;
    let server = TestServer::start_on(&database.url(), &["--compare-interval=1d"]).await;
    server.register("a", EFFECT).await;
    let mut owner = database.connect().await;
    let insert = "INSERT INTO onex_registry_signs (id, at, replica, alive) OVERRIDING SYSTEM VALUE";
    sql::run(&mut owner, format!("{insert} VALUES (100000, now(), 'other', '{{a}}')")).await;
    eventually("it is read", async || heartbeat(&server, "a").await.is_string()).await;
    let before = heartbeat(&server, "a").await;
    // Another server has taken the place of the database, and didn't know of the last numbers.
    sql::run(&mut owner, format!("BEGIN; DELETE FROM onex_registry_signs; {insert} VALUES (5, now() + interval '1 second', 'other', '{{a}}')"))
        .await;
    let kill = "SELECT count(CASE WHEN application_name = 'onex-registry' THEN pg_terminate_backend(pid) END)
                  FROM pg_stat_activity WHERE datname = current_database()";
    sql::run(&mut owner, "COMMIT").await;
    eventually("it is read from the begin", async || {
        // Sooner or later one is hit that reads.
        sql::value::<i64>(&mut owner, kill).await;
        let now = server.get_once(&node("a")).await;
        now.status == 200 && now.json()["last_heartbeat"] != before
    })
    .await;
    drop(server);
}
