//! Many watchers, and many who write meanwhile.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::begin::{Known, snapshot};
use super::{EFFECT, event_of, revision};
use crate::harness::watching::{Message, Watch};
use crate::harness::{Backend, TestServer, node};

const WRITERS: u64 = 6;
const ROUNDS: u64 = 40;

/// Registers, changes and removes nodes, some of which others write too.
async fn write(server: Arc<TestServer>, writer: u64) {
    let mut random = writer.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for round in 0..ROUNDS {
        let id = format!("n{}", below(15));
        let node_type = if below(2) == 0 { "effect" } else { "compute" };
        let body = json!({"node_type": node_type, "metadata": {"by": [writer, round]}});
        match below(5) {
            0 => assert!([204, 404].contains(&server.delete(&node(&id)).await.status)),
            1 => {
                let nodes: Vec<Value> = (0..5)
                    .map(|n| json!({"node_id": format!("w{writer}-{n}"), "node_type": node_type}))
                    .collect();
                let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
            _ => drop(server.register(&id, body).await),
        }
    }
}

/// All events there are.
async fn log(server: &TestServer) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, revision);
        let page = server.get(&format!("/v1/events?limit=1000&after={after}")).await.json();
        let page = page["events"].as_array().unwrap().clone();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// Reads what a watch is told up to the mark that ends all writing.
async fn up_to_the_mark(watch: &mut Watch) -> Vec<Message> {
    let mut told = Vec::new();
    loop {
        told.push(watch.next().await);
        if told.last().unwrap().gist() == ("change", "registered", "mark") {
            return told;
        }
    }
}

async fn each_is_told_each_change_once_and_in_order(backend: Backend) {
    let server = Arc::new(TestServer::start(backend).await);
    let mut watching = JoinSet::new();
    for _ in 0..4 {
        let mut watch = server.watch("").await;
        watching.spawn(async move { up_to_the_mark(&mut watch).await });
    }
    let mut writing: JoinSet<()> = (0..WRITERS).map(|writer| write(Arc::clone(&server), writer)).collect();
    let mut with_snapshot = JoinSet::new();
    let mut resumed = JoinSet::new();
    // They begin while others write.
    for round in 0..6 {
        let query = if round % 2 == 0 { "" } else { "node_type=effect" };
        let mut watch = server.watch(&format!("snapshot=true&{query}")).await;
        with_snapshot.spawn(async move {
            let mut known = Known::default();
            let (nodes, synced) = snapshot(&mut watch).await;
            known.take_all(&nodes);
            let told = up_to_the_mark(&mut watch).await;
            assert!(told.iter().all(|message| message.id.unwrap() > synced));
            known.take_all(&told);
            (query, known)
        });
        let mut watch = server.watch("after=0").await;
        resumed.spawn(async move { up_to_the_mark(&mut watch).await });
    }
    while let Some(done) = writing.join_next().await {
        done.unwrap();
    }
    server.register("mark", EFFECT).await;
    let log = log(&server).await;
    assert!(log.len() > 100, "{}", log.len());
    for mut watches in [watching, resumed] {
        while let Some(told) = watches.join_next().await {
            let told: Vec<Value> = told.unwrap().iter().map(event_of).collect();
            assert_eq!(told, log);
        }
    }
    while let Some(done) = with_snapshot.join_next().await {
        let (query, known) = done.unwrap();
        let page = server.get(&format!("/v1/nodes?limit=1000&{query}")).await.json();
        known.assert_same(&Known::of(&page));
    }
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_each_change_once_and_in_order_on_postgres() {
    each_is_told_each_change_once_and_in_order(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_each_change_once_and_in_order_on_sqlite() {
    each_is_told_each_change_once_and_in_order(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_reaches_hundreds() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut watching = JoinSet::new();
    for _ in 0..300 {
        let mut watch = server.watch("node_type=effect").await;
        watching.spawn(async move { watch.next().await });
    }
    let registered = server.register("n", EFFECT).await;
    while let Some(told) = watching.join_next().await {
        assert_eq!(told.unwrap().data["node"], registered);
    }
    server.stop().await;
}
