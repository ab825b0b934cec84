//! Nodes that have been stale for too long are removed, and nobody else.

use serde_json::json;

use super::{alive, told_of};
use crate::harness::{Backend, TestServer, node, sql};

/// All at once, because the server looks at any time. `back` registered again, and has had no time for a heartbeat yet.
const AGE_POSTGRES: &str = "
UPDATE node_registrations
   SET last_heartbeat = last_heartbeat - CASE node_id WHEN 'stale' THEN interval '59 minutes'
                                                      ELSE interval '61 minutes' END,
       updated_at = updated_at - CASE node_id WHEN 'back' THEN interval '0'
                                              WHEN 'stale' THEN interval '59 minutes'
                                              ELSE interval '61 minutes' END,
       maintenance = CASE node_id WHEN 'kept' THEN 'new disk' END";
const AGE_SQLITE: &str = "
UPDATE node_registrations
   SET last_heartbeat = last_heartbeat - 60000000 * CASE node_id WHEN 'stale' THEN 59 ELSE 61 END,
       updated_at = updated_at - 60000000 * CASE node_id WHEN 'back' THEN 0 WHEN 'stale' THEN 59 ELSE 61 END,
       maintenance = CASE node_id WHEN 'kept' THEN 'new disk' END";

async fn who_was_stale_for_too_long_expires_and_nobody_else(backend: Backend) {
    let server = TestServer::start_with(backend, &["--ttl=1s", "--expire-after=1h"]).await;
    for id in ["dead", "stale", "back", "kept", "long"] {
        alive(&server, id, (id == "long").then_some(7_200)).await;
    }
    server.register("silent", json!({"node_type": "effect"})).await;
    sql::run_on(&server, AGE_POSTGRES, AGE_SQLITE).await;
    sql::eventually("it expires", async || server.get(&node("dead")).await.status == 404).await;
    // The server has looked again since.
    alive(&server, "witness", Some(7_200)).await;
    sql::eventually("the fleet is seen to", async || told_of(&server, "witness").await.len() == 2).await;
    assert_eq!(server.ids("").await, ["back", "kept", "long", "silent", "stale", "witness"]);
    let kinds = told_of(&server, "dead").await;
    assert_eq!(kinds.last().map(String::as_str), Some("expired"), "{kinds:?}");
    let events = server.get("/v1/events").await.json();
    let events = events["events"].as_array().unwrap();
    let expired = events.iter().filter(|event| event["kind"] == "expired");
    assert_eq!(
        expired.map(|event| (&event["node_id"], &event["actor"])).collect::<Vec<_>>(),
        [(&json!("dead"), &json!("registry"))]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_stale_for_too_long_expires_and_nobody_else_on_postgres() {
    who_was_stale_for_too_long_expires_and_nobody_else(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_stale_for_too_long_expires_and_nobody_else_on_sqlite() {
    who_was_stale_for_too_long_expires_and_nobody_else(Backend::Sqlite).await;
}
