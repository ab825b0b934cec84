//! Long polls: who waits is answered when there may be something new, and never misses it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::sql::eventually;
use crate::harness::{Answer, Backend, TestServer, ids_of, node};

on_both_stores!(
    a_change_of_what_is_asked_for_ends_the_wait,
    what_is_not_asked_for_does_not_end_it,
    what_has_happened_already_is_not_waited_for,
    the_parameters_belong_together,
    a_status_that_changes_ends_the_wait_and_a_heartbeat_does_not,
    who_hangs_up_waits_no_longer,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;
const COMPUTE: &str = r#"{"node_type":"compute"}"#;

async fn waiting(server: &TestServer) -> u64 {
    let text = server.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix("onex_registry_long_polls "));
    line.unwrap().parse().unwrap()
}

/// Asks in the background, and returns when the server waits for so many.
async fn ask(server: &TestServer, query: &str, all: u64) -> JoinHandle<Answer> {
    let request = server.request(Method::GET, &format!("/v1/nodes?{query}"));
    let asking = tokio::spawn(Answer::of(request));
    eventually("it waits", async || waiting(server).await == all).await;
    asking
}

async fn revision(server: &TestServer) -> i64 {
    server.get("/v1/nodes").await.json()["revision"].as_i64().unwrap()
}

async fn a_change_of_what_is_asked_for_ends_the_wait(server: &TestServer) {
    server.register("a", EFFECT).await;
    let since = revision(server).await;
    let comes = ask(server, &format!("since={since}&wait=60s&node_type=compute"), 1).await;
    let goes = ask(server, &format!("since={since}&wait=60s&node_type=effect"), 2).await;
    let any = ask(server, &format!("since={since}&wait=60s&limit=1&consistency=strong"), 3).await;
    let left = server.register("a", COMPUTE).await;
    for (asked, expected) in [(comes, &["a"][..]), (goes, &[]), (any, &["a"])] {
        let page = asked.await.unwrap();
        assert_eq!(
            (page.status, ids_of(&page.json())),
            (200, expected.iter().map(ToString::to_string).collect())
        );
        assert_eq!(page.json()["revision"], left["revision"], "where to go on");
    }
    let since = revision(server).await;
    let gone = ask(server, &format!("since={since}&wait=60s&node_id=a"), 1).await;
    server.delete(&node("a")).await;
    assert_eq!(ids_of(&gone.await.unwrap().json()), [""; 0]);
    let tagged = server.get("/v1/nodes").await;
    let none_match = [("if-none-match", tagged.header("etag").unwrap())];
    let path = format!("/v1/nodes?since={}&wait=1ms", revision(server).await);
    assert_eq!(server.send(Method::GET, &path, "", &none_match).await.status, 304, "a page like others");
}

async fn what_is_not_asked_for_does_not_end_it(server: &TestServer) {
    server.register("a", EFFECT).await;
    let since = revision(server).await;
    let asked = ask(server, &format!("since={since}&wait=2s&node_type=effect&node_id_prefix=a"), 1).await;
    let begun = Instant::now();
    server.register("a2", COMPUTE).await;
    server.register("b", EFFECT).await;
    server.delete(&node("b")).await;
    server.register("a", EFFECT).await;
    assert_eq!(server.post("/v1/nodes/a2/heartbeat", "").await.status, 200);
    let page = asked.await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((page.status, ids_of(&page.json())), (200, vec!["a".to_owned()]));
    assert!(page.json()["revision"].as_i64().unwrap() > since, "the page as it is");
}

async fn what_has_happened_already_is_not_waited_for(server: &TestServer) {
    server.register("a", EFFECT).await;
    let begun = Instant::now();
    // The last one is above what there is: the database was restored, or the client is mistaken.
    for query in
        ["since=0&wait=60s", "since=0&wait=60s&node_type=effect", "since=0", "since=1000000&wait=60s"]
    {
        let page = server.get(&format!("/v1/nodes?{query}")).await;
        assert_eq!((page.status, ids_of(&page.json())), (200, vec!["a".to_owned()]), "{query}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

async fn the_parameters_belong_together(server: &TestServer) {
    server.register("a", EFFECT).await;
    server.register("b", EFFECT).await;
    let page = server.get("/v1/nodes?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    for (query, places) in [
        ("wait=30s".to_owned(), vec!["?wait"]),
        (format!("since=1&wait=1s&limit=1&cursor={cursor}"), vec!["?since"]),
        (format!("since=1&limit=1&cursor={cursor}"), vec!["?since"]),
        ("since=1&wait=61s".to_owned(), vec!["?wait"]),
        ("since=1&wait=1h".to_owned(), vec!["?wait"]),
        ("since=1&wait=30".to_owned(), vec!["?wait"]),
        ("since=1&wait=-1s".to_owned(), vec!["?wait"]),
        ("since=1&wait=".to_owned(), vec!["?wait"]),
        ("since=-1&wait=soon".to_owned(), vec!["?since", "?wait"]),
        ("since=9223372036854775808".to_owned(), vec!["?since"]),
        ("since=1&since=2".to_owned(), vec!["?since"]),
    ] {
        let refused = server.get(&format!("/v1/nodes?{query}")).await;
        assert_eq!(refused.problem(400, "invalid-request"), places, "{query}");
    }
    for wait in ["0s", "1ms", "60s", "1m", "1s%20500ms"] {
        assert_eq!(server.get(&format!("/v1/nodes?since=0&wait={wait}")).await.status, 200, "{wait}");
    }
}

async fn a_status_that_changes_ends_the_wait_and_a_heartbeat_does_not(server: &TestServer) {
    server.register("a", EFFECT).await;
    let since = revision(server).await;
    let asked = ask(server, &format!("since={since}&wait=60s&status=healthy"), 1).await;
    assert_eq!(server.post("/v1/nodes/a/heartbeat", "").await.status, 200);
    let page = asked.await.unwrap().json();
    assert_eq!((ids_of(&page), &page["nodes"][0]["status"]), (vec!["a".to_owned()], &json!("healthy")));
    let since = page["revision"].clone();
    let asked = ask(server, &format!("since={since}&wait=1s"), 1).await;
    assert_eq!(server.post("/v1/nodes/a/heartbeat", "").await.status, 200);
    assert_eq!(
        asked.await.unwrap().json()["revision"],
        since,
        "nothing has happened until the time was over"
    );
}

async fn who_hangs_up_waits_no_longer(server: &TestServer) {
    let asked = ask(server, "since=0&wait=60s", 1).await;
    asked.abort();
    eventually("nobody waits", async || waiting(server).await == 0).await;
}

/// Each waits for the change after the last one that it has seen, while others make changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_wait_miss_nothing() {
    let server = std::sync::Arc::new(TestServer::start(Backend::Sqlite).await);
    let poll = async |server: &TestServer, filter: &str| {
        let (mut since, mut seen) = (0, Vec::new());
        while seen.last() != Some(&49) {
            let page = server.get(&format!("/v1/nodes?since={since}&wait=60s&{filter}")).await.json();
            since = page["revision"].as_i64().unwrap();
            seen.extend(
                page["nodes"].as_array().unwrap().iter().map(|node| node["metadata"]["n"].as_i64().unwrap()),
            );
        }
        seen
    };
    let mut polling = tokio::task::JoinSet::new();
    for number in 0..100 {
        let server = std::sync::Arc::clone(&server);
        polling.spawn(async move {
            poll(&server, if number % 2 == 0 { "node_type=effect" } else { "node_id=n" }).await
        });
    }
    for n in 0..50 {
        server.register("n", json!({"node_type": "effect", "metadata": {"n": n}})).await;
        server.register("other", json!({"node_type": "compute", "metadata": {"n": n}})).await;
    }
    // All of them come to their end: the wait is far longer than the test may take.
    let polled = async {
        while let Some(seen) = polling.join_next().await {
            let seen = seen.unwrap();
            assert!(seen.is_sorted(), "{seen:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(50), polled).await.expect("nobody missed the last change");
    std::sync::Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_limit_of_requests_is_not_for_those_that_wait_on_purpose() {
    let server = TestServer::start_with(Backend::Sqlite, &["--request-timeout=100ms"]).await;
    server.register("a", EFFECT).await;
    let since = revision(&server).await;
    let begun = Instant::now();
    let page = server.get(&format!("/v1/nodes?since={since}&wait=1s")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(begun.elapsed() > Duration::from_millis(900));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answers_all_that_wait() {
    let server = TestServer::start_with(Backend::Sqlite, &["--shutdown-timeout=5m"]).await;
    server.register("a", EFFECT).await;
    let since = revision(&server).await;
    let mut asked = Vec::new();
    for number in 1..=20 {
        asked.push(ask(&server, &format!("since={since}&wait=60s"), number).await);
    }
    let begun = Instant::now();
    server.stop().await;
    for page in asked {
        let page = page.await.unwrap();
        assert_eq!((page.status, ids_of(&page.json())), (200, vec!["a".to_owned()]));
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A server that has just started doesn't know what happened before in detail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_any_more_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("registry.db").display());
    let server = TestServer::start_on(&url, &[]).await;
    server.register("a", EFFECT).await;
    server.register("b", EFFECT).await;
    server.stop().await;
    let server = TestServer::start_on(&url, &[]).await;
    eventually("it is loaded", async || server.get("/readyz").await.status == 200).await;
    let page: Value = server.get("/v1/nodes?since=1&wait=60s&node_type=reducer").await.json();
    assert_eq!((ids_of(&page), &page["revision"]), (Vec::new(), &json!(2)));
    server.stop().await;
}
