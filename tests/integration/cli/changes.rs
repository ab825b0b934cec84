//! `events` and `watch`.

use serde_json::{Value, json};

use super::{Running, Said, ask, command, server_with_real_nodes};
use crate::harness::process::{Process, program};
use crate::harness::sql::eventually;
use crate::harness::{Backend, TestServer};

const EFFECT: &str = r#"{"node_type":"effect"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_those_of_the_api() {
    let server = server_with_real_nodes().await;
    assert_eq!(server.delete("/v1/nodes/node_auth_gate_compute").await.status, 204);
    let listed: Value = server.get("/v1/events?limit=1000").await.json();
    let all = ask(&server, &["events", "--output=json"]).await.json();
    assert_eq!(all, listed["events"]);
    assert_eq!(all.as_array().unwrap().len(), 116);
    let some = ask(&server, &["events", "--after=110", "--limit=3", "-o", "jsonl"]).await.lines();
    assert_eq!(some[..], all.as_array().unwrap()[110..113]);
    let table = ask(&server, &["events", "--id=node_auth_gate_compute", "--kind=deregistered"]).await.words();
    assert_eq!(table[0], ["REVISION", "WHEN", "KIND", "NODE", "ID", "BY", "CHANGED"]);
    let last = table[1].join(" ");
    assert!(
        last.starts_with("116 ") && last.ends_with("deregistered node_auth_gate_compute anonymous -"),
        "{last}"
    );
    assert_eq!(ask(&server, &["events", "--kind=expired"]).await.words().len(), 1);
    assert_eq!(ask(&server, &["events", "--after=9999"]).await.code, 1, "410");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_followed_until_somebody_ends_it() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.register("a", EFFECT).await;
    let mut following = Running::start(&mut command(&server.url, &["events", "--follow", "--output=jsonl"]));
    let kind = |line: String| serde_json::from_str::<Value>(&line).unwrap()["kind"].clone();
    assert_eq!(kind(following.line().await), "registered");
    server.delete("/v1/nodes/a").await;
    assert_eq!(kind(following.line().await), "deregistered");
    assert_eq!(following.end("INT").await, (Some(0), String::new()));
    server.stop().await;
}

/// The watch is connected when it says what was there.
fn watching(url: &str, arguments: &[&str]) -> Running {
    Running::start(&mut command(url, &[&["watch", "--output=jsonl"], arguments].concat()))
}

async fn next(watch: &mut Running) -> (String, Value) {
    let line: Value = serde_json::from_str(&watch.line().await).unwrap();
    (line["event"].as_str().unwrap().to_owned(), line["data"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_told_as_they_happen() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.register("a", EFFECT).await;
    server.register("other", r#"{"node_type":"compute"}"#).await;
    let mut watch = watching(&server.url, &["--type=effect", "--snapshot"]);
    assert_eq!(next(&mut watch).await.1["node_id"], "a");
    assert_eq!(next(&mut watch).await, ("synced".to_owned(), json!({"revision": 2})));
    server.register("b", EFFECT).await;
    let (name, change) = next(&mut watch).await;
    assert_eq!(
        (name.as_str(), &change["kind"], &change["node"]["node_id"]),
        ("change", &json!("registered"), &json!("b"))
    );
    server.register("a", r#"{"node_type":"reducer"}"#).await;
    let (name, change) = next(&mut watch).await;
    assert_eq!((name.as_str(), &change["node"]["node_type"]), ("removed", &json!("reducer")));
    assert_eq!(watch.end("INT").await, (Some(0), String::new()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_a_line_for_people_too() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.register("a", EFFECT).await;
    let mut watch = Running::start(&mut command(
        &server.url,
        &["watch", "--snapshot", "--kind=deregistered", "--kind=updated"],
    ));
    let words =
        |line: String| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(words(watch.line().await), "WHAT TYPE VERSION STATUS NODE ID");
    assert_eq!(words(watch.line().await), "present effect 1.0.0 unknown a");
    server.register("a", r#"{"node_type":"effect","node_version":"2.0.0"}"#).await;
    assert_eq!(words(watch.line().await), "updated effect 2.0.0 unknown a");
    server.delete("/v1/nodes/a").await;
    assert_eq!(words(watch.line().await), "deregistered - - - a");
    assert_eq!(watch.end("TERM").await, (Some(0), String::new()));
    server.stop().await;
}

#[tokio::test]
async fn a_watch_goes_on_when_the_server_is_started_again_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let start =
        async |listen: &str| Process::start(program(folder.path()).env("ONEX_REGISTRY_LISTEN", listen)).await;
    let mut server = start("127.0.0.1:0").await;
    let (address, url) = (server.address.clone(), server.url(""));
    let register = async |id: &str| {
        Said::by(&mut command(&url, &["nodes", "register", "--type=effect", "--id", id])).await.code == 0
    };
    assert!(register("first").await);
    let mut watch = watching(&url, &["--snapshot"]);
    assert_eq!(next(&mut watch).await.0, "snapshot");
    assert_eq!(next(&mut watch).await.0, "synced");
    for (signal, id) in [("TERM", "second"), ("KILL", "third")] {
        server.signal(signal).await;
        server.wait().await;
        server = start(&address).await;
        // Before the watch is back: it reads on after what it knows.
        eventually("the server takes registrations", async || register(id).await).await;
        let (name, change) = next(&mut watch).await;
        assert_eq!((name.as_str(), &change["node_id"]), ("change", &json!(id)));
    }
    let (code, said) = watch.end("INT").await;
    assert_eq!(
        (code, said.matches("trying again").count(), said.matches("is back").count()),
        (Some(0), 2, 2),
        "{said}"
    );
    server.signal("TERM").await;
    server.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_log_is_told_and_bridged_by_a_snapshot() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.register("a", EFFECT).await;
    let mut watch = watching(&server.url, &["--after=99999"]);
    assert_eq!(next(&mut watch).await.0, "snapshot");
    assert_eq!(next(&mut watch).await.0, "synced");
    server.register("b", EFFECT).await;
    assert_eq!(next(&mut watch).await.0, "change");
    let (code, said) = watch.end("INT").await;
    assert!(code == Some(0) && said.contains("not known any more"), "{said}");
    server.stop().await;
}

/// Nobody reads what it writes, so it is stuck in a write when the signal comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_pipe_is_full_ends_when_it_is_told_to() {
    let server = TestServer::start(Backend::Sqlite).await;
    let node = |n| json!({"node_id": format!("{n:04}-{}", "x".repeat(200)), "node_type": "effect"});
    let nodes: Vec<Value> = (0..1_000).map(node).collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let watch = ["watch", "--snapshot", "--output=jsonl"];
    let mut running = Running::start(&mut command(&server.url, &watch));
    // It has begun; after this, what the pipe and our buffer hold is less than it has to say.
    running.line().await;
    assert_eq!(running.end_unread("INT").await, Some(1));
    server.stop().await;
}
