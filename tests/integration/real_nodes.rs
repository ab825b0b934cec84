//! The nodes of a real fleet, as their contracts describe them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{TestServer, encoded, ids_of, node};

on_both_stores!(
    real_nodes_register_one_by_one,
    real_nodes_register_in_a_batch,
    real_nodes_are_counted_by_type_and_version,
    real_nodes_are_found_by_capability,
    real_nodes_are_found_by_metadata,
    real_nodes_are_paged_through,
);

const COUNT: usize = 115;

fn real_nodes() -> Vec<Value> {
    let lines = include_str!("../data/onex_nodes.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn register_all(server: &TestServer) -> Vec<Value> {
    let nodes = real_nodes();
    let answer = server.post("/v1/batch/nodes", json!({"nodes": nodes})).await;
    for result in answer.json()["results"].as_array().unwrap() {
        assert_eq!((&result["status"], &result["problem"]), (&json!(201), &Value::Null), "{result}");
    }
    nodes
}

/// Every record holds what was registered, and the defaults of what was not.
async fn all_are_as_they_were_registered(server: &TestServer, nodes: &[Value]) {
    let page = server.get("/v1/nodes?limit=1000").await.json();
    let records = page["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), records.len()), (COUNT, COUNT));
    let by_id: BTreeMap<&str, &Value> =
        records.iter().map(|record| (record["node_id"].as_str().unwrap(), record)).collect();
    for input in nodes {
        let id = input["node_id"].as_str().unwrap();
        for (field, value) in input.as_object().unwrap() {
            assert_eq!(&by_id[id][field], value, "{id}: {field}");
        }
        for (field, default) in
            [("health_endpoint", Value::Null), ("ttl_seconds", Value::Null), ("metadata", json!({}))]
        {
            if input.get(field).is_none() {
                assert_eq!(by_id[id][field], default, "{id}: {field}");
            }
        }
        assert_eq!(&server.get(&node(id)).await.json(), by_id[id]);
    }
}

async fn real_nodes_register_one_by_one(server: &TestServer) {
    let nodes = real_nodes();
    for input in &nodes {
        let answer = server.post("/v1/nodes", input).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    all_are_as_they_were_registered(server, &nodes).await;
    let before: Value = serde_json::from_str(&server.everything().await).unwrap();
    for input in &nodes {
        assert_eq!(server.put(&node(input["node_id"].as_str().unwrap()), input).await.status, 200);
    }
    let after: Value = serde_json::from_str(&server.everything().await).unwrap();
    for (before, after) in before["nodes"].as_array().unwrap().iter().zip(after["nodes"].as_array().unwrap())
    {
        assert_eq!(before["revision"], after["revision"], "to register again is no change: {after}");
    }
}

async fn real_nodes_register_in_a_batch(server: &TestServer) {
    let nodes = register_all(server).await;
    all_are_as_they_were_registered(server, &nodes).await;
}

/// How many nodes a query finds, which must be those for which the condition holds.
async fn count(server: &TestServer, nodes: &[Value], query: &str, holds: impl Fn(&Value) -> bool) -> usize {
    let mut expected: Vec<&str> =
        nodes.iter().filter(|input| holds(input)).map(|input| input["node_id"].as_str().unwrap()).collect();
    expected.sort_unstable();
    assert_eq!(server.ids(&format!("limit=1000&{query}")).await, expected, "{query}");
    expected.len()
}

async fn real_nodes_are_counted_by_type_and_version(server: &TestServer) {
    let nodes = register_all(server).await;
    for (node_type, expected) in [("effect", 61), ("compute", 28), ("orchestrator", 13), ("reducer", 13)] {
        let query = format!("node_type={node_type}");
        assert_eq!(count(server, &nodes, &query, |input| input["node_type"] == node_type).await, expected);
    }
    let mut pairs: BTreeMap<(String, String), usize> = BTreeMap::new();
    for input in &nodes {
        let text = |field: &str| input[field].as_str().unwrap().to_owned();
        *pairs.entry((text("node_type"), text("node_version"))).or_default() += 1;
    }
    for ((node_type, version), expected) in &pairs {
        let query = format!("node_type={node_type}&node_version={version}");
        let found = count(server, &nodes, &query, |input| {
            input["node_type"] == *node_type && input["node_version"] == *version
        });
        assert_eq!(found.await, *expected);
    }
    assert!(pairs.len() > 4, "there are several versions of a type: {pairs:?}");
    let both = "node_type=reducer&node_type=orchestrator";
    assert_eq!(
        count(server, &nodes, both, |i| i["node_type"] == "reducer" || i["node_type"] == "orchestrator")
            .await,
        26
    );
    count(server, &nodes, "version_req=%5E1", |i| i["node_version"].as_str().unwrap().starts_with("1."))
        .await;
}

/// Whether the list at a pointer has the string.
fn lists(input: &Value, pointer: &str, wanted: &str) -> bool {
    input
        .pointer(pointer)
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|item| item == wanted))
}

async fn real_nodes_are_found_by_capability(server: &TestServer) {
    let nodes = register_all(server).await;
    let mut wanted: Vec<(String, String)> = Vec::new();
    for input in &nodes {
        for (key, list) in input["capabilities"].as_object().unwrap() {
            for item in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
                wanted.push((key.clone(), item.to_owned()));
            }
        }
    }
    wanted.sort();
    wanted.dedup();
    assert!(wanted.len() > 100, "{}", wanted.len());
    for (key, item) in wanted.iter().step_by(9) {
        let query = format!("capabilities={}", encoded(&json!({key: [item]}).to_string()));
        let found =
            count(server, &nodes, &query, |input| lists(input, &format!("/capabilities/{key}"), item)).await;
        assert!(found > 0, "{query}");
    }
    let key = encoded(r#"{"publishes":[]}"#);
    count(server, &nodes, &format!("capabilities={key}"), |i| i["capabilities"]["publishes"].is_array())
        .await;
}

async fn real_nodes_are_found_by_metadata(server: &TestServer) {
    let nodes = register_all(server).await;
    let dev = encoded(r#"{"environment":"dev"}"#);
    let in_dev =
        count(server, &nodes, &format!("metadata={dev}"), |i| i["metadata"]["environment"] == "dev").await;
    assert!(in_dev > 0);
    let production = encoded(r#"{"environment":"production"}"#);
    count(server, &nodes, &format!("metadata={production}"), |i| {
        i["metadata"]["environment"] == "production"
    })
    .await;
    for tag in ["effect", "compute", "validation", "kafka-producer"] {
        let query = format!("metadata={}", encoded(&json!({"tags": [tag]}).to_string()));
        assert!(
            count(server, &nodes, &query, |input| lists(input, "/metadata/tags", tag)).await > 0,
            "{tag}"
        );
        let query = format!("{query}&node_type=effect");
        count(server, &nodes, &query, |i| i["node_type"] == "effect" && lists(i, "/metadata/tags", tag))
            .await;
    }
}

async fn real_nodes_are_paged_through(server: &TestServer) {
    let nodes = register_all(server).await;
    let mut expected: Vec<&str> = nodes.iter().map(|input| input["node_id"].as_str().unwrap()).collect();
    expected.sort_unstable();
    for limit in [1, 10, 114, 115] {
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = server.get(&format!("/v1/nodes?limit={limit}{cursor}")).await.json();
            found.extend(ids_of(&page));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "limit={limit}");
        assert_eq!(pages, COUNT.div_ceil(limit), "limit={limit}");
    }
}
