//! A change that is told late, when the node is another one already, or on a connection that has told nothing yet.

use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{IfHeld, Store as _};
use serde_json::json;

use super::{Bench, RULES, TTL, key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_can_announce() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    bench.register("n", true, &json!({"node_type": "effect"})).await;
    let changes = bench.store.census(&RULES).await.unwrap().changes;
    let fresh = PostgresStore::connect(&bench.database.url(), 1, TTL).await.unwrap();
    let first = fresh.announce(&leader, &changes).await;
    let second = fresh.announce(&leader, &changes).await;
    assert!(first.is_ok(), "{first:?}, then {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_back_in_silence_is_not_said_to_be_healthy() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    bench.register("n", true, &json!({"node_type": "effect"})).await;
    let changes = bench.store.census(&RULES).await.unwrap().changes;
    let write = onex_registry::store::DeregisterWrite {
        node_id: key("n"),
        precondition: onex_registry::node::Precondition::None,
        origin: super::origin(),
    };
    bench.store.deregister(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    bench.register("n", false, &json!({"node_type": "effect"})).await;
    assert_eq!(bench.store.announce(&leader, &changes).await.unwrap(), []);
}
