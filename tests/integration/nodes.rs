//! One node: register, get, deregister.

use serde_json::json;

use crate::harness::{TestServer, node};

on_both_stores!(
    a_node_that_registers_is_there_until_it_deregisters,
    registering_again_keeps_what_it_must_and_counts_only_changes,
);

async fn a_node_that_registers_is_there_until_it_deregisters(server: &TestServer) {
    let path = node("payments/effect");
    let body = json!({
        "node_type": "effect",
        "node_version": "1.2.3-rc.1+build",
        "capabilities": {"capabilities": ["pay"]},
        "endpoints": {"grpc": "localhost:50051"},
        "metadata": {"environment": "dev"},
        "health_endpoint": "http://127.0.0.1:9/health",
        "ttl_seconds": 60
    });
    let registered = server.put(&path, &body).await;
    assert_eq!(registered.status, 201);
    assert_eq!(registered.header("location"), Some("/v1/nodes/payments%2Feffect"));

    let record = registered.json();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&record[field], value, "{field}");
    }
    assert_eq!(record["node_id"], "payments/effect");
    assert_eq!((&record["status"], &record["last_heartbeat"]), (&json!("unknown"), &json!(null)));
    assert_eq!(record["maintenance"], json!(null));
    assert_eq!(record["registered_at"], record["updated_at"]);
    assert!(record["revision"].as_i64().unwrap() > 0);

    let found = server.get(&path).await;
    assert_eq!((found.status, &found.text), (200, &registered.text), "a read sees what the write answered");
    assert_eq!(found.header("etag"), registered.header("etag"));
    assert_eq!(found.header("registry-revision").unwrap(), record["revision"].to_string());

    assert_eq!(server.delete(&path).await.status, 204);
    server.delete(&path).await.problem(404, "node-not-found");
    let gone = server.get(&path).await;
    gone.problem(404, "node-not-found");
    let revision: i64 = gone.header("registry-revision").unwrap().parse().unwrap();
    assert!(revision > record["revision"].as_i64().unwrap(), "a deregistration is a change");
}

async fn registering_again_keeps_what_it_must_and_counts_only_changes(server: &TestServer) {
    let body = json!({"node_type": "compute", "metadata": {"n": 1}});
    let first = server.register("n", &body).await;
    let again = server.put(&node("n"), &body).await;
    assert_eq!(again.status, 200);
    let again = again.json();
    assert_eq!(again["revision"], first["revision"], "nothing changed");
    assert_eq!(again["registered_at"], first["registered_at"]);
    assert!(again["updated_at"].as_str() > first["updated_at"].as_str());

    let changed = server.register("n", json!({"node_type": "compute", "metadata": {"n": 2}})).await;
    assert!(changed["revision"].as_i64() > first["revision"].as_i64());
    assert_eq!(changed["registered_at"], first["registered_at"]);
}
