//! How many nodes there are: the same numbers as discovery gives.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Backend, TestServer, encoded, node, sql};

on_both_stores!(
    of_no_nodes_there_are_none,
    real_nodes_are_counted_as_discovery_finds_them,
    a_summary_takes_no_parameters,
    the_history_begins_with_the_server_and_has_what_the_summary_has,
    lists_are_bounded_and_say_what_they_leave_out,
);

async fn summary(server: &TestServer) -> Value {
    let answer = server.get("/v1/summary").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(answer.header("registry-revision").unwrap(), body["revision"].to_string());
    body
}

async fn of_no_nodes_there_are_none(server: &TestServer) {
    let expected = json!({
        "nodes": 0, "by_type": [], "by_type_and_version": [],
        "by_status": {"healthy": 0, "stale": 0, "unknown": 0, "maintenance": 0}, "by_type_and_status": [],
        "not_listed": {"by_type": 0, "by_type_and_version": 0, "by_type_and_status": 0},
        "self_preservation": {"active": false, "since": null, "taking_part": 0, "healthy": 0, "were_healthy": 0,
                              "turned_stale": 0},
        "revision": 0,
    });
    assert_eq!(summary(server).await, expected);
}

async fn a_summary_takes_no_parameters(server: &TestServer) {
    let places = server.get("/v1/summary?node_type=effect&x").await.problem(400, "invalid-request");
    assert_eq!(places, ["?node_type", "?x"]);
}

async fn the_history_begins_with_the_server_and_has_what_the_summary_has(server: &TestServer) {
    // It is counted soon after the start, and then once a minute: what the first count has is what there was then.
    let mut history = json!(null);
    sql::eventually("the nodes are counted", async || {
        let answer = server.get("/v1/summary/history").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.header("registry-revision").is_some());
        history = answer.json();
        history["since"].is_string()
    })
    .await;
    let none = json!({"healthy": 0, "stale": 0, "unknown": 0, "maintenance": 0});
    let sample = json!({"at": history["since"], "nodes": 0, "by_status": none});
    assert_eq!(history, json!({"since": history["since"], "interval_seconds": 60, "samples": [sample]}));
    let places = server.get("/v1/summary/history?x").await.problem(400, "invalid-request");
    assert_eq!(places, ["?x"]);
}

/// The counts of a list, and that the largest are first, and equal ones in the order of their names.
fn counts(summary: &Value, list: &str, fields: [&str; 2]) -> BTreeMap<[String; 2], u64> {
    let entries: Vec<([String; 2], u64)> = summary[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                fields.map(|field| entry[field].as_str().unwrap_or_default().to_owned()),
                entry["nodes"].as_u64().unwrap(),
            )
        })
        .collect();
    let ordered = entries.is_sorted_by_key(|(names, nodes)| (std::cmp::Reverse(*nodes), names.clone()));
    assert!(ordered || list == "by_type_and_status", "{list}: {entries:?}");
    assert!(entries.is_sorted_by_key(|(_, nodes)| std::cmp::Reverse(*nodes)), "{list}: {entries:?}");
    assert_eq!(summary["not_listed"][list], 0);
    entries.into_iter().collect()
}

/// Compares the summary with what discovery finds for each of its entries.
async fn agrees_with_discovery(server: &TestServer) -> Value {
    let nodes = server.get("/v1/nodes?limit=1000").await.json();
    let nodes = nodes["nodes"].as_array().unwrap();
    let summary = summary(server).await;
    assert_eq!(summary["nodes"], nodes.len());
    for (list, fields) in [
        ("by_type", ["node_type", ""]),
        ("by_type_and_version", ["node_type", "node_version"]),
        ("by_type_and_status", ["node_type", "status"]),
    ] {
        let mut expected: BTreeMap<[String; 2], u64> = BTreeMap::new();
        for node in nodes {
            let names = fields.map(|field| node[field].as_str().unwrap_or_default().to_owned());
            *expected.entry(names).or_default() += 1;
        }
        assert_eq!(counts(&summary, list, fields), expected, "{list}");
    }
    let by_type_and_status = counts(&summary, "by_type_and_status", ["node_type", "status"]);
    for ([node_type, status], expected) in by_type_and_status {
        let query = format!("limit=1000&node_type={}&status={status}", encoded(&node_type));
        assert_eq!(server.ids(&query).await.len() as u64, expected, "{query}");
    }
    for (status, expected) in summary["by_status"].as_object().unwrap() {
        let found = server.ids(&format!("limit=1000&status={status}")).await.len();
        assert_eq!(found as u64, expected.as_u64().unwrap(), "{status}");
    }
    summary
}

async fn real_nodes_are_counted_as_discovery_finds_them(server: &TestServer) {
    for (index, line) in include_str!("../data/onex_nodes.jsonl").lines().enumerate() {
        let registration: Value = serde_json::from_str(line).unwrap();
        let path = node(registration["node_id"].as_str().unwrap());
        let alive = if index % 3 == 0 { "?alive=true" } else { "" };
        assert_eq!(server.put(&format!("{path}{alive}"), &registration).await.status, 201);
    }
    let summary = agrees_with_discovery(server).await;
    assert_eq!(summary["nodes"], 115);
    assert!(summary["revision"].as_i64() >= Some(115), "{summary}");
    let by_type: Vec<(&str, u64)> = summary["by_type"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["node_type"].as_str().unwrap(), entry["nodes"].as_u64().unwrap()))
        .collect();
    assert_eq!(by_type, [("effect", 61), ("compute", 28), ("orchestrator", 13), ("reducer", 13)]);
    assert_eq!(summary["by_status"], json!({"healthy": 39, "stale": 0, "unknown": 76, "maintenance": 0}));
}

async fn lists_are_bounded_and_say_what_they_leave_out(server: &TestServer) {
    for half in 0..2 {
        let version = |n: usize| format!("{half}.0.{n}");
        let node = |n: usize| json!({"node_id": format!("{half}-{n}"), "node_type": "effect", "node_version": version(n)});
        let nodes: Vec<Value> = (0..600).map(node).collect();
        assert_eq!(server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await.status, 200);
    }
    let two = json!({"node_type": "effect", "node_version": "1.0.599"});
    server.register("another", two).await;
    let summary = summary(server).await;
    let versions = summary["by_type_and_version"].as_array().unwrap();
    assert_eq!(versions.len(), 1_000);
    assert_eq!(versions[0], json!({"node_type": "effect", "node_version": "1.0.599", "nodes": 2}));
    assert_eq!(versions[1], json!({"node_type": "effect", "node_version": "0.0.0", "nodes": 1}));
    let left_out = json!({"by_type": 0, "by_type_and_version": 200, "by_type_and_status": 0});
    assert_eq!((&summary["not_listed"], &summary["nodes"]), (&left_out, &json!(1_201)));
}

#[tokio::test]
async fn whatever_foreign_writers_left_is_counted_as_it_is_listed() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut writer = server.database.as_ref().unwrap().connect().await;
    // Ages around the TTLs of 90 and of 600 seconds and around an outage, far enough from their edges.
    sql::run(
        &mut writer,
        "INSERT INTO node_registrations (node_id, node_type, node_version, last_heartbeat, ttl_seconds, maintenance)
         SELECT concat_ws('-', age, ttl, maintenance), CASE WHEN age > 500 THEN 'Runtime \"host\"' ELSE 'effect' END,
                CASE WHEN ttl IS NULL THEN 'not a version' ELSE '1.0.0' END, NOW() - age * interval '1 second', ttl, maintenance
           FROM unnest(ARRAY[-100, 10, 60, 120, 300, 570, 700, 1100, 1500, 5000]) AS age,
                unnest(ARRAY[NULL, 1, 600, -5]) AS ttl, unnest(ARRAY[NULL, 'disk']) AS maintenance;
         INSERT INTO node_registrations (node_id, node_type, last_heartbeat)
         VALUES ('eternal', 'effect', 'infinity'), ('ancient', '', '-infinity'), ('silent', 'effect', NULL)",
    )
    .await;
    let calm = agrees_with_discovery(&server).await;
    // Who was alive when the outage began is alive again for a TTL.
    sql::run(
        &mut writer,
        "UPDATE onex_registry_state
            SET outage_began = NOW() - interval '1000 seconds', outage_ended = NOW() - interval '40 seconds'",
    )
    .await;
    let forgiving = agrees_with_discovery(&server).await;
    let healthy = |summary: &Value| summary["by_status"]["healthy"].as_u64().unwrap();
    assert!(healthy(&forgiving) > healthy(&calm), "{calm} {forgiving}");
    for status in ["healthy", "stale", "unknown", "maintenance"] {
        assert!(forgiving["by_status"][status].as_u64() > Some(0), "{forgiving}");
    }
    server.stop().await;
}
