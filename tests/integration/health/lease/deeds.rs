//! What the leader does for all: it tells of lives and removes the dead, once, and only as long as it leads.

use onex_registry::node::{Horizon, NodeKey, Precondition, Reason};
use onex_registry::store::health::{Census, LifeChange, ReplicaId};
use onex_registry::store::{DeregisterWrite, IfHeld, MaintenanceWrite, Store as _};
use serde_json::json;

use super::super::{ages, kinds_of};
use super::{Bench, RULES, key, origin};
use crate::harness::sql;

impl Bench {
    /// Registers nodes that are alive.
    async fn fleet(&self, ids: &[&str]) {
        for id in ids {
            self.register(id, true, &json!({"node_type": "effect"})).await;
        }
    }

    async fn census(&self) -> Census {
        self.store.census(&RULES).await.unwrap()
    }

    async fn announce(&self, leader: &ReplicaId, changes: &[LifeChange]) -> Vec<String> {
        let told = self.store.announce(leader, changes).await.unwrap();
        told.into_iter().map(|change| change.node_id.as_str().to_owned()).collect()
    }

    async fn expire(&self, leader: &ReplicaId, overdue: &[NodeKey], horizon: &Horizon) -> Vec<bool> {
        let gone = self.store.expire(leader, overdue, horizon, &RULES).await;
        gone.into_iter().map(Result::unwrap).collect()
    }

    async fn remove(&self, id: &str) {
        let write = DeregisterWrite { node_id: key(id), precondition: Precondition::None, origin: origin() };
        self.store.deregister(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    }

    async fn take_out_of_service(&self, id: &str) {
        let reason = Reason::parse("new disk").unwrap();
        let write = MaintenanceWrite {
            node_id: key(id),
            reason: Some(reason),
            precondition: Precondition::None,
            origin: origin(),
        };
        self.store.set_maintenance(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    }

    /// The events of a node, as kinds.
    async fn told(&mut self, id: &str) -> Vec<String> {
        kinds_of(&mut self.owner, id).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_lead_tells_nothing_and_removes_nobody() {
    let mut bench = Bench::new().await;
    let (leader, other) = (bench.leader().await, ReplicaId::random());
    bench.fleet(&["alive", "dead"]).await;
    ages(&mut bench.owner, "node_id = 'dead'", "62 minutes").await;
    let census = bench.census().await;
    assert_eq!((census.changes.len(), census.overdue.as_slice()), (2, [key("dead")].as_slice()));
    let before = sql::events(&mut bench.owner, 0).await;
    // Nobody who never led, and nobody whose lease is over.
    for replica in [&other, &leader] {
        if replica == &leader {
            bench.the_lease_ends().await;
        }
        assert_eq!(bench.announce(replica, &census.changes).await, [""; 0]);
        assert_eq!(bench.expire(replica, &census.overdue, &census.horizon).await, [false]);
    }
    assert_eq!(sql::events(&mut bench.owner, 0).await, before);
    let nodes = "SELECT count(*) FROM node_registrations";
    assert_eq!(sql::value::<i64>(&mut bench.owner, nodes).await, 2);
    let told = "SELECT count(*) FROM onex_registry_node_health";
    assert_eq!(sql::value::<i64>(&mut bench.owner, told).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_announced_again_by_whomever_is_recorded_once() {
    let mut bench = Bench::new().await;
    let first = bench.leader().await;
    bench.fleet(&["alive", "dead"]).await;
    ages(&mut bench.owner, "node_id = 'dead'", "61 seconds").await;
    let changes = bench.census().await.changes;
    let mut told = bench.announce(&first, &changes).await;
    told.sort();
    assert_eq!(told, ["alive", "dead"]);
    assert_eq!(bench.announce(&first, &changes).await, [""; 0]);
    bench.store.resign(&first).await.unwrap();
    let second = bench.leader().await;
    assert_eq!(bench.announce(&second, &changes).await, [""; 0]);
    assert_eq!(bench.census().await.changes, [], "it is known to the next one who looks");
    assert_eq!(bench.told("alive").await, ["registered", "healthy"]);
    assert_eq!(bench.told("dead").await, ["registered", "stale"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gave_a_sign_of_life_since_the_census_or_left_is_not_said_to_be_stale() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    let ids = ["anew", "anew-silent", "beat", "gone", "out", "put", "stale"];
    bench.fleet(&ids).await;
    ages(&mut bench.owner, "TRUE", "61 seconds").await;
    let changes = bench.census().await.changes;
    assert_eq!(changes.iter().filter(|change| !change.healthy).count(), ids.len());
    bench.store.heartbeat(&[key("beat")], IfHeld::Wait).await.pop().unwrap().unwrap();
    bench.fleet(&["put"]).await;
    bench.take_out_of_service("out").await;
    for id in ["anew", "anew-silent", "gone"] {
        bench.remove(id).await;
    }
    bench.register("anew", true, &json!({"node_type": "effect"})).await;
    bench.register("anew-silent", false, &json!({"node_type": "effect"})).await;
    assert_eq!(bench.announce(&leader, &changes).await, ["stale"]);
    for id in ids {
        assert_eq!(bench.told(id).await.contains(&"stale".to_owned()), id == "stale", "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_since_the_census_is_not_said_to_be_healthy() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    bench.fleet(&["anew", "gone", "healthy", "out"]).await;
    let changes = bench.census().await.changes;
    assert_eq!(changes.iter().filter(|change| change.healthy).count(), 4);
    bench.take_out_of_service("out").await;
    for id in ["anew", "gone"] {
        bench.remove(id).await;
    }
    bench.register("anew", true, &json!({"node_type": "effect"})).await;
    let mut told = bench.announce(&leader, &changes).await;
    told.sort();
    assert_eq!(told, ["anew", "healthy"]);
    // Of the next life, which has been told of once.
    assert_eq!(bench.census().await.changes, []);
    assert_eq!(bench.told("anew").await, ["registered", "deregistered", "registered", "healthy"]);
    assert_eq!(bench.told("out").await, ["registered", "maintenance"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_of_in_an_earlier_life_is_told_of_again() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    bench.fleet(&["n"]).await;
    let changes = bench.census().await.changes;
    assert_eq!(bench.announce(&leader, &changes).await, ["n"]);
    bench.remove("n").await;
    bench.fleet(&["n"]).await;
    let changes = bench.census().await.changes;
    assert_eq!(changes.len(), 1, "what was told was told of another one");
    assert_eq!(bench.announce(&leader, &changes).await, ["n"]);
    assert_eq!(bench.told("n").await, ["registered", "healthy", "deregistered", "registered", "healthy"]);
    bench.remove("n").await;
    bench.store.forget_the_gone(&leader).await.unwrap();
    let told = "SELECT count(*) FROM onex_registry_node_health";
    assert_eq!(sql::value::<i64>(&mut bench.owner, told).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_back_since_the_census_is_not_removed_and_the_others_are_once() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    let ids = ["anew", "beat", "dead", "gone", "out", "put"];
    bench.fleet(&ids).await;
    ages(&mut bench.owner, "TRUE", "62 minutes").await;
    let mut census = bench.census().await;
    census.overdue.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(census.overdue, ids.map(key));
    bench.store.heartbeat(&[key("beat")], IfHeld::Wait).await.pop().unwrap().unwrap();
    bench.register("put", false, &json!({"node_type": "effect"})).await;
    bench.take_out_of_service("out").await;
    for id in ["anew", "gone"] {
        bench.remove(id).await;
    }
    bench.register("anew", false, &json!({"node_type": "effect"})).await;
    let gone = bench.expire(&leader, &census.overdue, &census.horizon).await;
    assert_eq!(gone, [false, false, true, false, false, false]);
    assert_eq!(bench.expire(&leader, &census.overdue, &census.horizon).await, [false; 6]);
    let left = "SELECT array_agg(node_id::text ORDER BY node_id) FROM node_registrations";
    assert_eq!(sql::value::<Vec<String>>(&mut bench.owner, left).await, ["anew", "beat", "out", "put"]);
    let expired: Vec<_> = sql::events(&mut bench.owner, 0)
        .await
        .into_iter()
        .filter(|event| event.kind == "expired")
        .map(|event| (event.node_id, event.actor))
        .collect();
    assert_eq!(expired, [("dead".to_owned(), "registry".to_owned())]);
}
