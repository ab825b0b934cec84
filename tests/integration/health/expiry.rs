//! Nodes that have been stale for too long are removed, and nobody else.

use serde_json::json;

use super::{ages, alive, kinds_of};
use crate::harness::{Backend, TestServer, node, sql};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_stale_for_too_long_expires_and_nobody_else() {
    let server = TestServer::start_with(Backend::Postgres, &["--ttl=1s", "--expire-after=1h"]).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    for id in ["dead", "stale", "back", "kept", "long"] {
        alive(&server, id, (id == "long").then_some(7_200)).await;
    }
    server.register("silent", json!({"node_type": "effect"})).await;
    sql::run(&mut owner, "UPDATE node_registrations SET maintenance = 'new disk' WHERE node_id = 'kept'")
        .await;
    ages(&mut owner, "TRUE", "61 minutes").await;
    ages(&mut owner, "node_id = 'stale'", "-2 minutes").await;
    // It came back and registered, and has had no time for a heartbeat yet.
    server.register("back", json!({"node_type": "effect"})).await;
    sql::eventually("it expires", async || server.get(&node("dead")).await.status == 404).await;
    assert_eq!(server.ids("").await, ["back", "kept", "long", "silent", "stale"]);
    let kinds = kinds_of(&mut owner, "dead").await;
    assert_eq!(kinds.last().map(String::as_str), Some("expired"), "{kinds:?}");
    let expired = sql::events(&mut owner, 0).await.into_iter().filter(|event| event.kind == "expired");
    assert_eq!(
        expired.map(|event| (event.node_id, event.actor)).collect::<Vec<_>>(),
        [("dead".to_owned(), "registry".to_owned())]
    );
    server.stop().await;
}
