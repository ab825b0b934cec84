//! Where a watch begins: now, with a snapshot, or where another one ended.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{COMPUTE, EFFECT, event_of, gists, revision};
use crate::harness::watching::{Message, Watch};
use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

on_both_stores!(
    a_snapshot_has_all_that_matches_and_then_come_changes,
    a_snapshot_of_nothing_is_synced_at_once,
    a_watch_goes_on_where_another_ended,
    a_revision_is_a_number_that_there_was,
);

/// Nodes by their ids, as a client keeps them that takes a snapshot and then each change.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Value>);

impl Known {
    pub(super) fn take_all(&mut self, messages: &[Message]) {
        for message in messages {
            self.take(message);
        }
    }

    fn take(&mut self, message: &Message) {
        match message.name.as_str() {
            "snapshot" => self.set(&message.data),
            "change" => self.set(&message.data["node"]),
            "removed" => drop(self.0.remove(message.data["node_id"].as_str().unwrap())),
            other => panic!("{other} changes nothing"),
        }
    }

    fn set(&mut self, node: &Value) {
        let mut node = node.clone();
        // Heartbeats are no changes, nor are registrations that change nothing.
        for volatile in ["last_heartbeat", "updated_at", "status"] {
            node.as_object_mut().unwrap().remove(volatile);
        }
        self.0.insert(node["node_id"].as_str().unwrap().to_owned(), node);
    }

    /// The same of a page that has all.
    pub(super) fn of(page: &Value) -> Self {
        let mut known = Self::default();
        for node in page["nodes"].as_array().unwrap() {
            known.set(node);
        }
        known
    }

    pub(super) fn assert_same(&self, other: &Self) {
        let ids = |known: &Self| known.0.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(self), ids(other));
        assert_eq!(self.0, other.0);
    }
}

/// Reads a snapshot to its end. Returns its nodes and its revision.
pub(super) async fn snapshot(watch: &mut Watch) -> (Vec<Message>, i64) {
    let mut nodes = Vec::new();
    loop {
        let message = watch.next().await;
        if message.name == "synced" {
            assert_eq!(message.data, json!({"revision": message.id.unwrap()}));
            return (nodes, message.id.unwrap());
        }
        assert_eq!((message.name.as_str(), message.id), ("snapshot", None));
        assert_eq!(watch.last_id, "", "whoever is cut off within it begins anew");
        nodes.push(message);
    }
}

async fn register_many(server: &TestServer, count: usize) {
    let nodes: Vec<Value> = (0..count)
        .map(|n| json!({"node_id": format!("n{n:04}"), "node_type": if n % 2 == 0 { "effect" } else { "compute" }}))
        .collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn a_snapshot_has_all_that_matches_and_then_come_changes(server: &TestServer) {
    register_many(server, 500).await;
    let page = server.get("/v1/nodes?node_type=effect&limit=1000").await.json();
    let mut watch = server.watch("node_type=effect&snapshot=true").await;
    assert_eq!(watch.headers["registry-revision"], page["revision"].to_string().as_str());
    server.register("n0000", COMPUTE).await;
    server.register("n0001", EFFECT).await;
    let (nodes, synced) = snapshot(&mut watch).await;
    let nodes: Vec<Value> = nodes.into_iter().map(|message| message.data).collect();
    assert_eq!(nodes.len(), 250);
    assert_eq!(Value::from(nodes), page["nodes"], "as they were when it began, in the order of discovery");
    assert_eq!((synced, watch.last_id.as_str()), (revision(&page), page["revision"].to_string().as_str()));
    assert_eq!(
        gists(&watch.take(2).await),
        [("removed", "updated", "n0000"), ("change", "updated", "n0001")]
    );
    // Whoever reconnects with it has the nodes anew.
    let mut again = server.watch_after("node_type=effect&snapshot=true", Some("1")).await;
    again.last_id.clear();
    assert_eq!(snapshot(&mut again).await.0.len(), 250);
}

async fn a_snapshot_of_nothing_is_synced_at_once(server: &TestServer) {
    let mut watch = server.watch("snapshot=true").await;
    assert_eq!(snapshot(&mut watch).await, (Vec::new(), 0));
    server.register("n", EFFECT).await;
    let mut other = server.watch("snapshot=true&node_type=reducer").await;
    assert_eq!(snapshot(&mut other).await, (Vec::new(), 1));
    assert_eq!(watch.next().await.gist(), ("change", "registered", "n"));
}

async fn a_watch_goes_on_where_another_ended(server: &TestServer) {
    let mut first = server.watch("").await;
    server.register("a", EFFECT).await;
    let seen = first.next().await.id.unwrap();
    assert_eq!(first.last_id, seen.to_string());
    drop(first);
    server.register("b", EFFECT).await;
    server.register("b", COMPUTE).await;
    server.delete(&node("a")).await;
    let expected = [("registered", "b"), ("updated", "b"), ("deregistered", "a")];
    for (query, last_id) in [
        (format!("after={seen}"), None),
        (String::new(), Some(seen.to_string())),
        (format!("after={seen}"), Some("0".to_owned())),
        (format!("after={seen}&snapshot=false"), Some("of another server".to_owned())),
    ] {
        let mut watch = server.watch_after(&query, last_id.as_deref()).await;
        let told = watch.take(3).await;
        let kinds: Vec<_> = told.iter().map(|message| (message.gist().1, message.gist().2)).collect();
        assert_eq!(kinds, expected, "{query} {last_id:?}");
        assert_eq!(told[0].data["node"]["node_type"], "compute", "the present record");
    }
    let mut all = server.watch("after=0").await;
    assert_eq!(all.take(4).await[0].data["kind"], "registered");
}

async fn a_revision_is_a_number_that_there_was(server: &TestServer) {
    let newest = revision(&server.register("n", EFFECT).await);
    for absurd in ["-1", "9223372036854775808", "1.0", "+1", "", "0x1", "%00", "1%20"] {
        let refused = server.refused_watch(&format!("after={absurd}"), None).await;
        assert_eq!(refused.problem(400, "invalid-request"), ["?after"], "{absurd}");
    }
    for garbage in ["-1", "9223372036854775808", "x", "1.0", "\u{e9}"] {
        let refused = server.refused_watch("", Some(garbage)).await;
        assert_eq!(refused.problem(400, "invalid-request"), ["Last-Event-ID:"], "{garbage}");
    }
    let refused = server.refused_watch("after=1&snapshot=true", None).await;
    assert_eq!(refused.problem(400, "invalid-request"), ["?after"]);
    for above in [newest + 1, i64::MAX] {
        let gone = server.refused_watch(&format!("after={above}"), None).await;
        assert!(gone.problem(410, "events-gone").is_empty());
        assert_eq!(gone.header("registry-revision"), Some(newest.to_string().as_str()));
        server.refused_watch("", Some(&above.to_string())).await.problem(410, "events-gone");
    }
    // An empty one is none.
    let mut watch = server.watch_after("", Some("")).await;
    server.register("m", EFFECT).await;
    assert_eq!(watch.next().await.gist(), ("change", "registered", "m"));
}

/// A server on a database that outlives it.
async fn restart(server: TestServer, url: &str) -> TestServer {
    server.stop().await;
    TestServer::start_on(url, &[]).await
}

/// Changes that only the log has, more of them than are read at once, and then those that come.
async fn across_a_restart(url: &str) {
    let server = TestServer::start_on(url, &[]).await;
    server.register("first", EFFECT).await;
    let mut watch = server.watch("").await;
    server.register("second", EFFECT).await;
    assert_eq!(watch.next().await.gist(), ("change", "registered", "second"));
    let stopping = tokio::spawn(async move { (watch.rest().await, watch.last_id) });
    let server = restart(server, url).await;
    let (closed, last_id) = stopping.await.unwrap();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].data, json!({"reason": "shutdown"}));

    register_many(&server, 500).await;
    server.delete(&node("n0000")).await;
    server.register("n0001", EFFECT).await;
    let server = restart(server, url).await;
    let mut watch = server.watch_after("node_type=effect", Some(&last_id)).await;
    let mut all = server.watch_after("", Some(&last_id)).await;
    let mut ends = server.watch_after("kind=deregistered&node_id=n0000", Some(&last_id)).await;
    let mut of_id = server.watch_after("node_id_prefix=n0001", Some(&last_id)).await;
    let newest = revision(&server.register("last", EFFECT).await);

    let told = server.told_up_to(&mut all, newest).await;
    let path = format!("/v1/events?after={last_id}&limit=1000");
    let events = server.get(&path).await.json();
    assert_eq!(Value::from(told.iter().map(event_of).collect::<Vec<_>>()), events["events"]);
    let told = server.told_up_to(&mut watch, newest).await;
    let mut known = Known::default();
    known.take_all(&told);
    known.0.remove("second");
    let mut present = Known::of(&server.get("/v1/nodes?node_type=effect&limit=1000").await.json());
    for earlier in ["first", "second"] {
        present.0.remove(earlier);
    }
    known.assert_same(&present);
    assert_eq!(ends.next().await.gist(), ("removed", "deregistered", "n0000"));
    // What the nodes were that changed before is not known; but an id is always the same.
    assert_eq!(
        gists(&of_id.take(2).await),
        [("change", "registered", "n0001"), ("change", "updated", "n0001")]
    );
    let last = revision(&server.register("n0001", COMPUTE).await);
    assert_eq!(of_id.next().await.id, Some(last));
    for watch in [all, watch, ends, of_id] {
        drop(watch);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_after_a_restart_on_postgres() {
    let database = TestDatabase::create().await;
    across_a_restart(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_after_a_restart_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    across_a_restart(&format!("sqlite://{}", folder.path().join("registry.db").display())).await;
}

/// What lies after a revision was deleted before anybody asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_has_forgotten_is_gone() {
    let database = TestDatabase::create().await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    server.register("n", EFFECT).await;
    let second = revision(&server.register("n", COMPUTE).await);
    server.stop().await;
    let mut owner = database.connect().await;
    let forget = format!(
        "DELETE FROM node_events WHERE revision < {second};
         UPDATE onex_registry_state SET pruned_through = {}",
        second - 1
    );
    sql::run(&mut owner, forget).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    let gone = server.refused_watch("after=0", None).await;
    gone.problem(410, "events-gone");
    let mut kept = server.watch(&format!("after={}", second - 1)).await;
    assert_eq!(kept.next().await.gist(), ("change", "updated", "n"));
    drop(kept);
    server.stop().await;
}

/// Changes by plain SQL, and by another replica, are changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_elsewhere_are_told() {
    let server = TestServer::start(Backend::Postgres).await;
    let database = server.database.as_ref().unwrap();
    let replica = TestServer::start_on(&database.url(), &[]).await;
    let mut watch = server.watch("").await;
    let mut connection = database.connect().await;
    sql::upsert(&mut connection, "by-sql", "effect", "{}").await.unwrap();
    let told = watch.next().await;
    assert_eq!(told.gist(), ("change", "registered", "by-sql"));
    assert_eq!(told.data["actor"], "sql:postgres");
    let theirs = replica.register("by-replica", EFFECT).await;
    let told = watch.next().await;
    assert_eq!((told.gist(), told.id), (("change", "registered", "by-replica"), Some(revision(&theirs))));
    assert_eq!(told.data["node"], theirs);
    // Who has heard of a change elsewhere goes on here, even if it isn't known here yet.
    let newest = revision(&replica.register("by-replica", COMPUTE).await);
    let mut ahead = server.watch(&format!("after={newest}")).await;
    replica.register("by-replica", EFFECT).await;
    assert!(ahead.next().await.id.unwrap() > newest);
    sql::run(&mut connection, "TRUNCATE node_registrations").await;
    let told = watch.take(4).await;
    let mut removed: Vec<_> =
        told.iter().filter(|message| message.name == "removed").map(Message::gist).collect();
    removed.sort_unstable();
    assert_eq!(removed, [("removed", "deregistered", "by-replica"), ("removed", "deregistered", "by-sql")]);
    drop((watch, ahead));
    replica.stop().await;
    server.stop().await;
}
