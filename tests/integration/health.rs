//! The life of nodes: stale and healthy again, told once; expiry; self-preservation; who sees to it.

mod census;
pub(crate) mod cut_off;
mod expiry;
mod lease;
mod probed;
mod told;

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::harness::{TestServer, encoded, sql};

/// Registers a node that has given a sign of life.
async fn alive(server: &TestServer, id: &str, ttl_seconds: Option<i32>) -> Value {
    let body = json!({"node_type": "effect", "ttl_seconds": ttl_seconds}).to_string();
    let answer = server.put(&format!("/v1/nodes/{id}?alive=true"), body).await;
    assert!(answer.status == 200 || answer.status == 201, "{}", answer.text);
    answer.json()
}

/// Moves the last sign of life of nodes, and their registration, into the past: to them, time has passed.
async fn ages(owner: &mut PgConnection, condition: &str, interval: &str) {
    let update = format!(
        "UPDATE node_registrations SET last_heartbeat = last_heartbeat - interval '{interval}',
                updated_at = updated_at - interval '{interval}' WHERE {condition}"
    );
    sql::run(owner, update).await;
}

/// The events of a node after a revision, as kinds.
async fn kinds_of(owner: &mut PgConnection, id: &str) -> Vec<String> {
    let of_node = |(node, kind): (String, String)| (node == id).then_some(kind);
    sql::kinds(owner, 0).await.into_iter().filter_map(of_node).collect()
}

/// The same by the API, of either store.
async fn told_of(server: &TestServer, id: &str) -> Vec<String> {
    let events = server.get(&format!("/v1/events?node_id={}", encoded(id))).await.json();
    let kinds = events["events"].as_array().unwrap().iter();
    kinds.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}
