//! Watches: what is told, to whom, and from where on.

use serde_json::{Value, json};

use crate::harness::sql::eventually;
use crate::harness::watching::Message;
use crate::harness::{TestServer, node};

mod begin;
mod end;
mod everyone;

on_both_stores!(
    each_change_is_told_with_the_node_as_it_is,
    the_answer_is_a_stream_that_nobody_keeps,
    who_leaves_what_is_watched_is_told_to_be_removed,
    a_status_is_judged_when_the_change_is_told,
    only_the_kinds_that_are_asked_for_are_told,
    every_parameter_of_discovery_is_one_of_a_watch,
    who_hangs_up_is_gone,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;
const COMPUTE: &str = r#"{"node_type":"compute"}"#;

/// The names of the events, what happened, and to which nodes.
fn gists(messages: &[Message]) -> Vec<(&str, &str, &str)> {
    messages.iter().map(Message::gist).collect()
}

fn revision(record: &Value) -> i64 {
    record["revision"].as_i64().unwrap()
}

/// The event of a message as `/v1/events` has it.
fn event_of(message: &Message) -> Value {
    let mut event = message.data.clone();
    event.as_object_mut().unwrap().remove("node").expect("the node is there, even if it is null");
    event
}

/// The value of a metric without labels, or with those that are part of the name.
async fn metric(server: &TestServer, name: &str) -> i64 {
    let text = server.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("onex_registry_{name} ")));
    line.unwrap_or_else(|| panic!("{name} is there")).parse().unwrap()
}

async fn each_change_is_told_with_the_node_as_it_is(server: &TestServer) {
    let mut watch = server.watch("").await;
    let registered = server.register("n", EFFECT).await;
    let first = watch.next().await;
    assert_eq!(first.gist(), ("change", "registered", "n"));
    assert_eq!((first.id, &first.data["node"]), (Some(revision(&registered)), &registered));

    // Not an event: nothing is told.
    server.register("n", EFFECT).await;
    let updated = server.register("n", COMPUTE).await;
    let second = watch.next().await;
    assert_eq!(second.gist(), ("change", "updated", "n"));
    assert_eq!(second.data["changed"], json!(["node_type"]));
    assert_eq!(second.data["node"], updated);

    let maintained = server.put("/v1/nodes/n/maintenance", r#"{"reason":"disk"}"#).await.json();
    let third = watch.next().await;
    assert_eq!(third.gist(), ("change", "maintenance", "n"));
    assert_eq!(third.data["node"], maintained);

    let correlated = [("x-correlation-id", "the-end")];
    server.send(reqwest::Method::DELETE, &node("n"), "", &correlated).await;
    let last = watch.next().await;
    assert_eq!(last.gist(), ("removed", "deregistered", "n"));
    assert_eq!((&last.data["node"], &last.data["correlation_id"]), (&Value::Null, &json!("the-end")));

    let told: Vec<Value> = [first, second, third, last].iter().map(event_of).collect();
    let events = server.get("/v1/events").await.json();
    assert_eq!(Value::from(told), events["events"], "they are the same as in the audit trail");
}

async fn the_answer_is_a_stream_that_nobody_keeps(server: &TestServer) {
    let newest = revision(&server.register("n", EFFECT).await);
    let request = server.request(reqwest::Method::GET, "/v1/watch").header("accept-encoding", "gzip");
    let answer = request.header("x-correlation-id", "w-1").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("x-correlation-id", "w-1"),
        ("registry-revision", &newest.to_string()),
    ] {
        assert_eq!(answer.headers()[name], value, "{name}");
    }
    assert!(!answer.headers().contains_key("content-encoding") && !answer.headers().contains_key("etag"));
    drop(answer);

    let mut watch = server.watch("").await;
    assert_eq!(
        watch.block().await.unwrap(),
        format!("retry: 1000\nid: {newest}\n\n"),
        "it can be resumed at once"
    );
    let head = server.send(reqwest::Method::HEAD, "/v1/watch", "", &[]).await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    server.post("/v1/watch", "").await.problem(405, "method-not-allowed");
}

async fn who_leaves_what_is_watched_is_told_to_be_removed(server: &TestServer) {
    server.register("a", EFFECT).await;
    let mut watch = server.watch("node_type=effect").await;
    // Nobody who watches effects has heard of it.
    server.register("other", COMPUTE).await;
    server.register("other", r#"{"node_type":"compute","node_version":"2.0.0"}"#).await;
    server.delete(&node("other")).await;
    let left = server.register("a", COMPUTE).await;
    server.register("a", r#"{"node_type":"compute","node_version":"2.0.0"}"#).await;
    server.register("a", EFFECT).await;
    server.delete(&node("a")).await;
    let told = watch.take(3).await;
    assert_eq!(
        gists(&told),
        [("removed", "updated", "a"), ("change", "updated", "a"), ("removed", "deregistered", "a")]
    );
    assert_eq!(told[0].id, Some(revision(&left)));
    assert_eq!(told[0].data["node"]["node_type"], "compute", "where it went");
}

async fn a_status_is_judged_when_the_change_is_told(server: &TestServer) {
    let mut healthy = server.watch("status=healthy").await;
    let mut maintained = server.watch("status=maintenance").await;
    server.register("n", EFFECT).await;
    assert_eq!(server.post("/v1/nodes/n/heartbeat", "").await.status, 200);
    let first = healthy.next().await;
    // It may have been told of the registration, before or after it came to life.
    let first = if first.data["kind"] == "registered" { healthy.next().await } else { first };
    assert_eq!(first.gist(), ("change", "healthy", "n"));
    assert_eq!(first.data["node"]["status"], "healthy");

    server.put("/v1/nodes/n/maintenance", r#"{"reason":"disk"}"#).await;
    assert_eq!(healthy.next().await.gist(), ("removed", "maintenance", "n"));
    let begins = loop {
        let message = maintained.next().await;
        if message.data["kind"] == "maintenance" {
            break message;
        }
        // Its status before is not known any more.
        assert_eq!(message.name, "removed");
    };
    assert_eq!((begins.name.as_str(), &begins.data["node"]["status"]), ("change", &json!("maintenance")));
    server.delete("/v1/nodes/n/maintenance").await;
    assert_eq!(healthy.next().await.gist(), ("change", "maintenance", "n"));
    assert_eq!(maintained.next().await.gist(), ("removed", "maintenance", "n"));
}

async fn only_the_kinds_that_are_asked_for_are_told(server: &TestServer) {
    let mut ends = server.watch("kind=deregistered&kind=expired").await;
    let mut of_b = server.watch("kind=updated&node_id=b").await;
    for id in ["a", "b"] {
        server.register(id, EFFECT).await;
        server.register(id, COMPUTE).await;
        server.delete(&node(id)).await;
    }
    assert_eq!(
        gists(&ends.take(2).await),
        [("removed", "deregistered", "a"), ("removed", "deregistered", "b")]
    );
    let updated = of_b.next().await;
    assert_eq!(
        (updated.data["kind"].as_str(), updated.data["node_id"].as_str()),
        (Some("updated"), Some("b"))
    );
}

async fn every_parameter_of_discovery_is_one_of_a_watch(server: &TestServer) {
    let cases = [
        ("node_type=reducer&node_type=effect", true),
        ("node_type=reducer", false),
        ("node_id=n%2F1", true),
        ("node_id=n", false),
        ("node_version=1.2.3", true),
        ("node_version=1.2", false),
        ("node_id_prefix=n%2F", true),
        ("node_id_prefix=m", false),
        ("status=unknown", true),
        (r#"capabilities={"can":["b"]}"#, true),
        (r#"capabilities={"can":["c"]}"#, false),
        (r#"metadata={"zone":{"a":1}}"#, true),
        (r#"metadata={"zone":1}"#, false),
        ("version_req=^1.2", true),
        ("version_req=^2", false),
        ("node_type=effect&version_req=^1.2&status=unknown&node_id_prefix=n", true),
    ];
    let mut watches = Vec::new();
    for (query, matches) in cases {
        let query = query.replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace('^', "%5E");
        watches.push((server.watch(&query).await, query, matches));
    }
    server
        .register(
            "n/1",
            json!({
                "node_type": "effect", "node_version": "1.2.3",
                "capabilities": {"can": ["a", "b"]}, "metadata": {"zone": {"a": 1, "b": 2}}
            }),
        )
        .await;
    for (mut watch, query, matches) in watches {
        if matches {
            assert_eq!(watch.next().await.gist(), ("change", "registered", "n/1"), "{query}");
            continue;
        }
        // What doesn't match is not told: the next thing is.
        let body = match query.split_once('=').unwrap() {
            ("node_type", _) => r#"{"node_type":"reducer"}"#.to_owned(),
            ("capabilities", _) => r#"{"node_type":"effect","capabilities":{"can":["c"]}}"#.to_owned(),
            ("metadata", _) => r#"{"node_type":"effect","metadata":{"zone":1}}"#.to_owned(),
            ("version_req", _) => r#"{"node_type":"effect","node_version":"2.0.0"}"#.to_owned(),
            // A version that is none can't be registered, so nothing is ever told.
            ("node_version", _) => continue,
            _ => EFFECT.to_owned(),
        };
        let id = match query.split_once('=').unwrap() {
            ("node_id", id) => id.to_owned(),
            ("node_id_prefix", prefix) => format!("{prefix}-mark"),
            _ => format!("by {query}"),
        };
        server.register(&id, body).await;
        assert_eq!(watch.next().await.gist(), ("change", "registered", id.as_str()), "{query}");
    }
    for (query, places) in [
        ("limit=1", vec!["?limit"]),
        ("cursor=x", vec!["?cursor"]),
        ("consistency=strong", vec!["?consistency"]),
        ("since=1", vec!["?since"]),
        ("kind=gone", vec!["?kind"]),
        ("status=dead&snapshot=1", vec!["?status", "?snapshot"]),
        ("after=1&after=2", vec!["?after"]),
    ] {
        let answer = server.refused_watch(query, None).await;
        assert_eq!(answer.problem(400, "invalid-request"), places, "{query}");
    }
}

async fn who_hangs_up_is_gone(server: &TestServer) {
    let mut watches = Vec::new();
    for _ in 0..50 {
        watches.push(server.watch("").await);
    }
    assert_eq!(metric(server, "watchers").await, 50);
    assert_eq!(metric(server, "http_requests_in_flight").await, 1, "the one that asks");
    watches.truncate(1);
    // Nothing happens that would be sent to them.
    eventually("those that hung up are gone", async || metric(server, "watchers").await == 1).await;
    server.register("n", EFFECT).await;
    assert_eq!(watches[0].next().await.gist(), ("change", "registered", "n"));
}
