//! While a replica reads the nodes for the first time, which a lock on a table that only that needs makes last.

use std::time::{Duration, Instant};

use reqwest::Method;
use sqlx::PgConnection;

use crate::harness::sql::eventually;
use crate::harness::{Answer, TestDatabase, TestServer, ids_of, sql};

const EFFECT: &str = r#"{"node_type":"effect"}"#;

/// A server that has started and can't read the nodes, as long as the transaction is open. There is a node `n`.
async fn loading(database: &TestDatabase) -> (TestServer, PgConnection) {
    let server = TestServer::start_on(&database.url(), &[]).await;
    server.register("n", EFFECT).await;
    server.stop().await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, "BEGIN; LOCK TABLE onex_registry_signs IN ACCESS EXCLUSIVE MODE").await;
    let server = TestServer::try_start_unready_on(&database.url(), &["--migrate=off"]).await.unwrap();
    (server, owner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_long_as_the_nodes_are_read_the_store_answers() {
    let database = TestDatabase::create().await;
    let (server, mut owner) = loading(&database).await;
    let mut plain = database.connect().await;
    sql::upsert(&mut plain, "m", "effect", "{}").await.unwrap();
    assert_eq!(server.get_once("/v1/nodes/m").await.status, 200);
    let page = server.get_once("/v1/nodes").await;
    assert_eq!(ids_of(&page.json()), ["m", "n"]);
    assert_eq!(page.header("registry-revision"), Some("2"));
    assert_eq!(ids_of(&server.get_once("/v1/nodes?min_revision=2&node_id=n").await.json()), ["n"]);
    assert_eq!(server.get_once("/v1/summary").await.json()["nodes"], 2);
    for path in ["/readyz", "/v1/watch", "/v1/watch?snapshot=true"] {
        let refused = server.get_once(path).await;
        assert!(refused.problem(503, "unavailable").is_empty());
        assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
    }
    sql::run(&mut owner, "COMMIT").await;
    eventually("it is ready", async || server.get_once("/readyz").await.status == 200).await;
    assert_eq!(ids_of(&server.get_once("/v1/nodes").await.json()), ["m", "n"]);
    server.watch("").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_many_nodes_are_read() {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let many = r#"INSERT INTO node_registrations (node_id, node_type, capabilities)
        SELECT 'm' || n, 'compute', CASE n % 1000 WHEN 17 THEN '{"a":["needle"]}' ELSE '{"a":[]}' END::jsonb
          FROM generate_series(1, 5017) n"#;
    sql::run(&mut database.connect().await, many).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    assert_eq!(server.get_once("/v1/summary").await.json()["nodes"], 5_017);
    let needles = server.ids(r#"capabilities={"a":["needle"]}"#).await;
    assert_eq!(needles, ["m1017", "m17", "m2017", "m3017", "m4017", "m5017"]);
    server.stop().await;
}

/// The nodes are read as they were when that began. Whoever has been told of what came later is not taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_nodes_have_been_read_nobody_is_taken_back() {
    let database = TestDatabase::create().await;
    let (server, mut owner) = loading(&database).await;
    // More of them than are read at once.
    let many = "INSERT INTO node_registrations (node_id, node_type) SELECT 'm' || n, 'compute' FROM generate_series(1, 12000) n";
    sql::run(&mut database.connect().await, many).await;
    sql::run(&mut owner, "COMMIT").await;
    let (mut seen, mut was_ready) = (0, false);
    while !was_ready {
        was_ready = server.get_once("/readyz").await.status == 200;
        for _ in 0..3 {
            let page = server.get_once("/v1/nodes?limit=1").await;
            let revision: i64 = page.header("registry-revision").unwrap().parse().unwrap();
            assert!(revision >= seen, "{revision} after {seen}");
            seen = revision;
        }
    }
    assert_eq!(seen, 12_001);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_change_meanwhile_waits_no_longer_than_was_said() {
    let database = TestDatabase::create().await;
    let (server, mut owner) = loading(&database).await;
    let poll = |wait: &str| {
        let request = server.request(Method::GET, &format!("/v1/nodes?since=1&wait={wait}"));
        tokio::spawn(tokio::time::timeout(Duration::from_secs(40), Answer::of(request)))
    };
    // Longer than a revision is waited for that is not known yet.
    let begun = Instant::now();
    let page = poll("7s").await.unwrap().expect("it is answered").json();
    assert_eq!(ids_of(&page), ["n"]);
    assert!(begun.elapsed() > Duration::from_secs(6), "{:?}", begun.elapsed());
    let polling = poll("60s");
    sql::run(&mut owner, "COMMIT").await;
    eventually("it is ready", async || server.get_once("/readyz").await.status == 200).await;
    server.register("m", EFFECT).await;
    assert_eq!(ids_of(&polling.await.unwrap().expect("it is told").json()), ["m", "n"]);
    server.stop().await;
}
