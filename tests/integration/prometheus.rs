//! Service discovery for Prometheus, asked by us and by a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::keys::{KeyFile, secret};
use crate::harness::prometheus::Prometheus;
use crate::harness::{Answer, Backend, TestServer, encoded, node, sql};

on_both_stores!(
    real_nodes_are_targets,
    filters_are_those_of_discovery,
    a_fleet_of_many_parts_is_one_list,
    no_nodes_are_an_empty_list,
    hostile_nodes_break_nothing,
    all_that_is_wrong_with_the_query_is_named,
);

const PATH: &str = "/v1/discovery/prometheus";

fn real_nodes() -> Vec<Value> {
    let lines = include_str!("../data/onex_nodes.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn register(server: &TestServer, nodes: &[Value]) {
    for part in nodes.chunks(1_000) {
        let answer = server.post("/v1/batch/nodes", json!({ "nodes": part })).await.json();
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["status"], 201, "{result}");
        }
    }
}

async fn groups(server: &TestServer, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("{PATH}?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("registry-revision").is_some());
    answer.json().as_array().unwrap().clone()
}

fn ids(groups: &[Value]) -> Vec<&str> {
    groups.iter().map(|group| group["labels"]["__meta_onex_node_id"].as_str().unwrap()).collect()
}

async fn real_nodes_are_targets(server: &TestServer) {
    let nodes = real_nodes();
    register(server, &nodes).await;
    let groups = groups(server, "").await;
    let by_id: BTreeMap<&str, &Value> = ids(&groups).into_iter().zip(&groups).collect();
    let with_http: Vec<&Value> = nodes.iter().filter(|node| node["endpoints"]["http"].is_string()).collect();
    assert_eq!((groups.len(), by_id.len()), (with_http.len(), with_http.len()));
    for node in with_http {
        let id = node["node_id"].as_str().unwrap();
        let url = url::Url::parse(node["endpoints"]["http"].as_str().unwrap()).unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
        let mut labels = json!({
            "__meta_onex_node_id": id,
            "__meta_onex_node_type": node["node_type"],
            "__meta_onex_node_version": node["node_version"],
            "__meta_onex_status": "unknown",
            "__meta_onex_endpoint": "http",
            "__scheme__": url.scheme(),
        });
        for (key, value) in node["metadata"].as_object().into_iter().flatten() {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => continue,
            };
            labels[format!("__meta_onex_metadata_{key}")] = json!(text);
        }
        assert_eq!(*by_id[id], json!({"targets": [target], "labels": labels}));
    }
}

async fn filters_are_those_of_discovery(server: &TestServer) {
    register(server, &real_nodes()).await;
    server.post(&format!("{}/heartbeat", node("node_baselines_batch_compute")), "").await;
    for query in [
        "node_type=reducer&node_type=orchestrator".to_owned(),
        "node_id_prefix=node_b".to_owned(),
        "status=healthy".to_owned(),
        "version_req=%5E1.0.1".to_owned(),
        format!("metadata={}", encoded(r#"{"environment": "dev"}"#)),
        "node_id=nobody".to_owned(),
    ] {
        let expected = server.ids(&format!("{query}&limit=1000")).await;
        assert_eq!(ids(&groups(server, &query).await), expected, "{query}");
        let grpc = groups(server, &format!("{query}&endpoint=grpc")).await;
        assert!(grpc.iter().all(|group| group["labels"].get("__scheme__").is_none()), "{query}");
    }
    let healthy = groups(server, "status=healthy").await;
    assert_eq!(healthy[0]["labels"]["__meta_onex_status"], "healthy");
    let grpc = groups(server, "endpoint=grpc&node_id=node_baselines_batch_compute").await;
    assert_eq!(grpc[0]["targets"], json!(["127.0.0.1:30007"]));
    assert_eq!(groups(server, "endpoint=amqp").await, Vec::<Value>::new());
}

async fn a_fleet_of_many_parts_is_one_list(server: &TestServer) {
    // Some parts have no target at all, and the last one is not full.
    let endpoints =
        |n: usize| if (300..700).contains(&n) { json!({}) } else { json!({"http": format!("10.0.0.1:{n}")}) };
    let node = |n| json!({"node_id": format!("n{n:04}"), "node_type": "effect", "endpoints": endpoints(n)});
    let nodes: Vec<Value> = (0..1_130).map(node).collect();
    register(server, &nodes).await;
    let groups = groups(server, "").await;
    let expected: Vec<String> = (0..300).chain(700..1_130).map(|n| format!("n{n:04}")).collect();
    assert_eq!(ids(&groups), expected);
}

async fn no_nodes_are_an_empty_list(server: &TestServer) {
    assert_eq!(server.get(PATH).await.text, "[]");
    server.register("n", json!({"node_type": "effect"})).await;
    assert_eq!(server.get(PATH).await.text, "[]", "one that has no endpoint");
}

async fn hostile_nodes_break_nothing(server: &TestServer) {
    let hostile = [
        (
            "<script>\"'&\u{202e}",
            json!({"http": "http://10.0.0.1:1/"}),
            json!({"a\"b\n": "x\"\u{2028}<", "a.b\\n": 1}),
        ),
        ("secret", json!({"http": "http://user:secret@10.0.0.1:1/"}), json!({})),
        ("odd", json!({"http": "not a place"}), json!({})),
        ("large", json!({"http": "10.0.0.1:2"}), json!({"note": "x".repeat(60_000), "short": "s"})),
    ];
    for (id, endpoints, metadata) in &hostile {
        let body = json!({"node_type": "effect", "endpoints": endpoints, "metadata": metadata});
        assert_eq!(server.put(&node(id), &body).await.status, 201, "{id}");
    }
    let answer = server.get(PATH).await;
    let groups = answer.json();
    let groups = groups.as_array().unwrap();
    assert_eq!(ids(groups), ["<script>\"'&\u{202e}", "large"]);
    assert!(!answer.text.contains("secret@"));
    let labels = groups[0]["labels"].as_object().unwrap();
    let is_name = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(labels.keys().all(is_name), "{labels:?}");
    assert_eq!(labels["__meta_onex_metadata_a_b_"], "x\"\u{2028}<", "{labels:?}");
    let labels = groups[1]["labels"].as_object().unwrap();
    assert_eq!(labels["__meta_onex_metadata_short"], "s");
    assert!(!labels.contains_key("__meta_onex_metadata_note"));
}

async fn all_that_is_wrong_with_the_query_is_named(server: &TestServer) {
    let answer =
        server.get(&format!("{PATH}?status=dead&endpoint=a&endpoint=b&limit=5&version_req=new")).await;
    let places = answer.problem(400, "invalid-request");
    assert_eq!(places, ["?endpoint", "?limit", "?status", "?version_req"]);
}

#[tokio::test]
async fn rows_of_foreign_writers_that_are_no_json_objects_are_left_out() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    sql::run(
        &mut owner,
        "INSERT INTO node_registrations (node_id, node_type, endpoints, metadata)
         VALUES ('array', 'effect', '[1]', '{}'), ('number', 'effect', '{\"http\": 80}', '{}'),
                ('text', 'unheard of', '{\"http\": \"10.0.0.1:80\"}', '\"text\"')",
    )
    .await;
    let answer = server.get(&format!("{PATH}?consistency=strong")).await;
    assert_eq!(answer.problem(400, "invalid-request"), ["?consistency"]);
    let revision = sql::newest(&mut owner).await;
    assert_eq!(server.get(&format!("/v1/nodes?min_revision={revision}")).await.status, 200);
    let groups = groups(&server, "").await;
    assert_eq!(ids(&groups), ["text"]);
    assert_eq!(groups[0]["labels"]["__meta_onex_node_type"], "unheard of");
    server.stop().await;
}

/// Something that has metrics, at whatever path; says what it was asked for.
async fn exporter() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
                        return;
                    }
                }
                let body = "a_metric 1\n";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_discovers_the_real_nodes_and_scrapes_them() {
    let keys = KeyFile::usual();
    let mut server = keys.serve(Backend::Postgres, &[]).await;
    server.key = Some(secret("writer"));
    let (address, serving) = exporter().await;
    let mut nodes = real_nodes();
    for node in &mut nodes {
        node["endpoints"] = json!({"http": format!("http://{address}/")});
    }
    register(&server, &nodes).await;
    let prometheus = Prometheus::start(&format!(
        "  - job_name: onex\n    \
             http_sd_configs:\n      \
               - url: {}{PATH}?node_type=effect\n        \
                 refresh_interval: 1s\n        \
                 authorization: {{type: Bearer, credentials: {}}}\n    \
             relabel_configs:\n      \
               - {{source_labels: [__meta_onex_node_id], target_label: node_id}}\n      \
               - {{source_labels: [__meta_onex_node_version], target_label: version}}\n",
        server.url,
        secret("reader"),
    ))
    .await;
    let effects: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| node["node_type"] == "effect")
        .map(|node| node["node_id"].as_str().unwrap())
        .collect();
    assert!(effects.len() > 50, "{}", effects.len());
    let are_up =
        |targets: &[Value]| targets.len() == effects.len() && targets.iter().all(|t| t["health"] == "up");
    let targets = prometheus.targets_until(are_up).await;
    let found: BTreeSet<&str> =
        targets.iter().map(|target| target["labels"]["node_id"].as_str().unwrap()).collect();
    assert_eq!(found, effects);
    assert_eq!(targets[0]["discoveredLabels"]["__meta_onex_node_type"], "effect");

    // Who leaves is scraped no more; who comes is, where its endpoint says.
    let gone = *effects.first().unwrap();
    assert_eq!(server.delete(&node(gone)).await.status, 204);
    let late = json!({"node_type": "effect", "endpoints": {"http": format!("http://{address}/own/metrics")}});
    server.register("late", late).await;
    let is_late = |target: &Value| target["labels"]["node_id"] == "late" && target["health"] == "up";
    let targets = prometheus.targets_until(|targets| targets.iter().any(is_late)).await;
    assert!(targets.iter().all(|target| target["labels"]["node_id"] != gone));
    let late = targets.iter().find(|target| is_late(target)).unwrap();
    assert_eq!(late["scrapeUrl"], format!("http://{address}/own/metrics"));
    drop(prometheus);
    serving.abort();
    server.stop().await;
}

#[tokio::test]
async fn without_a_key_nothing_is_discovered() {
    let keys = KeyFile::usual();
    let mut server = keys.serve(Backend::Sqlite, &[]).await;
    server.key = None;
    let answer: Answer = server.get(PATH).await;
    answer.problem(401, "unauthorized");
    server.stop().await;
}
