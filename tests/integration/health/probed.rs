//! Nodes with a health endpoint are probed, by one replica, which another succeeds.

use std::time::Duration;

use serde_json::{Value, json};

use super::{kinds_of, told_of};
use crate::harness::endpoints::Endpoint;
use crate::harness::process::{Process, program};
use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

/// The real nodes that have a health endpoint, each with one that is served by this test.
async fn real_nodes() -> Vec<(Value, Endpoint)> {
    let lines = include_str!("../../data/onex_nodes.jsonl").lines();
    let mut nodes = Vec::new();
    for line in lines {
        let mut node: Value = serde_json::from_str(line).unwrap();
        if node["health_endpoint"].is_string() {
            let endpoint = Endpoint::start().await;
            node["health_endpoint"] = json!(endpoint.url);
            nodes.push((node, endpoint));
        }
    }
    assert!(nodes.len() > 70);
    nodes
}

/// The ids of the nodes of a status, of all of them on one page.
async fn ids(server: &TestServer, status: &str) -> Vec<String> {
    server.ids(&format!("status={status}&limit=1000")).await
}

async fn real_nodes_live_and_die_with_their_endpoints_on(backend: Backend) {
    let server =
        TestServer::start_with(backend, &["--ttl=6s", "--probe-interval=1s", "--expire-after=12s"]).await;
    let mut nodes = real_nodes().await;
    let registrations: Vec<&Value> = nodes.iter().map(|(node, _)| node).collect();
    let answer = server.post("/v1/batch/nodes", json!({"nodes": registrations})).await;
    assert_eq!(answer.status, 200);
    server.register("silent", json!({"node_type": "effect"})).await;
    let all = nodes.len();
    sql::eventually("all are healthy", async || ids(&server, "healthy").await.len() == all).await;

    // Few enough die that nobody thinks of a cut-off, once all have been healthy for a while.
    sql::eventually("all were healthy one TTL ago", async || {
        server.get("/v1/summary").await.json()["self_preservation"]["were_healthy"] == all
    })
    .await;
    let (dying, living) = nodes.split_at_mut(5);
    let dead: Vec<String> =
        dying.iter().map(|(node, _)| node["node_id"].as_str().unwrap().to_owned()).collect();
    for (_, endpoint) in dying.iter_mut() {
        endpoint.die().await;
    }
    sql::eventually("the dead turn stale", async || {
        let stale = ids(&server, "stale").await;
        dead.iter().all(|id| stale.contains(id))
    })
    .await;
    // One comes back in time.
    dying[0].1.come_back().await;
    sql::eventually("one is back", async || ids(&server, "healthy").await.contains(&dead[0])).await;
    sql::eventually("the others are gone", async || {
        let healthy = ids(&server, "healthy").await;
        healthy.len() == living.len() + 1 && ids(&server, "stale").await.is_empty()
    })
    .await;
    for id in &dead[1..] {
        server.get(&node(id)).await.problem(404, "node-not-found");
        assert_eq!(told_of(&server, id).await, ["registered", "healthy", "stale", "expired"], "{id}");
    }
    assert_eq!(told_of(&server, &dead[0]).await[..4], ["registered", "healthy", "stale", "healthy"]);
    assert_eq!(server.get(&node("silent")).await.json()["status"], "unknown", "it takes no part");
    let preservation = &server.get("/v1/summary").await.json()["self_preservation"];
    assert_eq!(preservation["active"], false, "{preservation}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_nodes_live_and_die_with_their_endpoints_on_postgres() {
    real_nodes_live_and_die_with_their_endpoints_on(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_nodes_live_and_die_with_their_endpoints_on_sqlite() {
    real_nodes_live_and_die_with_their_endpoints_on(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_probes_and_when_it_is_killed_the_other_does() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let mut command = program(folder.path());
        command.env("DATABASE_URL", database.url()).env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0");
        command.env("ONEX_REGISTRY_TTL", "20s").env("ONEX_REGISTRY_PROBE_INTERVAL", "1s");
        Process::start(&mut command).await
    };
    let first = start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    sql::eventually("the first leads", async || {
        let ready = client.get(first.url("/readyz")).send().await.unwrap().text().await.unwrap();
        ready.contains("\"leader\":true")
    })
    .await;
    let second = start().await;
    let nodes = real_nodes().await;
    for (registration, _) in &nodes {
        let id = registration["node_id"].as_str().unwrap();
        let mut body = registration.clone();
        body.as_object_mut().unwrap().remove("node_id");
        let url = second.url(&node(id));
        let put = client.put(url).header("content-type", "application/json").body(body.to_string());
        assert_eq!(put.send().await.unwrap().status(), 201);
    }
    let probed = |times: usize| nodes.iter().all(|(_, endpoint)| endpoint.asked().len() >= times);
    sql::eventually("all are probed", async || probed(6)).await;
    let before: Vec<usize> = nodes.iter().map(|(_, endpoint)| endpoint.asked().len()).collect();
    first.signal("KILL").await;
    sql::eventually("all go on being probed", async || {
        nodes.iter().zip(&before).all(|((_, endpoint), before)| endpoint.asked().len() >= before + 4)
    })
    .await;
    // Two replicas that probed would make twice as many. A machine that is busy makes fewer and never more.
    let mut longest = Duration::ZERO;
    for (registration, endpoint) in &nodes {
        let asked = endpoint.asked();
        let took = asked[asked.len() - 1].duration_since(asked[0]);
        let due = usize::try_from(took.as_secs()).unwrap() + 3;
        assert!(asked.len() <= due, "{} times in {took:?}: {registration}", asked.len());
        longest = asked.windows(2).map(|pair| pair[1] - pair[0]).chain([longest]).max().unwrap();
    }
    let mut owner = database.connect().await;
    let id = nodes[0].0["node_id"].as_str().unwrap();
    assert_eq!(kinds_of(&mut owner, id).await, ["registered", "healthy"], "nobody turned stale; {longest:?}");
}
