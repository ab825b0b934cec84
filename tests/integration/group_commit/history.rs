//! Clients do all kinds of writes to a few nodes at once. The log of events says in which order they took effect; what
//! each client was answered must be true at some moment between its request and its answer.

use std::collections::HashMap;
use std::time::Instant;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{TestServer, node};

on_both_stores!(what_each_client_is_answered_was_true_at_some_moment);

const CLIENTS: usize = 24;
const ROUNDS: usize = 25;
const IDS: [&str; 4] = ["a", "b", "c", "d"];

/// A request, and what it was answered.
struct Operation {
    id: &'static str,
    kind: Kind,
    status: u16,
    correlation_id: String,
    begun: Instant,
    ended: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Register,
    Deregister,
    Maintain,
    Beat,
}

impl Operation {
    async fn perform(server: &TestServer, client: usize, round: usize) -> Self {
        let number = client * 7 + round * 13;
        let id = IDS[number % IDS.len()];
        let kind = match (client + round * 3) % 7 {
            0..3 => Kind::Register,
            3 | 4 => Kind::Deregister,
            5 => Kind::Maintain,
            _ => Kind::Beat,
        };
        let correlation_id = format!("{client}-{round}");
        let path = node(id);
        let (method, path, body) = match kind {
            Kind::Register => {
                (Method::PUT, path, json!({"node_type": "effect", "metadata": {"by": correlation_id}}))
            }
            Kind::Deregister => (Method::DELETE, path, Value::Null),
            Kind::Maintain => (Method::PUT, format!("{path}/maintenance"), json!({"reason": correlation_id})),
            Kind::Beat => (Method::POST, format!("{path}/heartbeat"), Value::Null),
        };
        let begun = Instant::now();
        let fields = [("x-correlation-id", correlation_id.as_str())];
        let answer = server.send(method, &path, body.to_string(), &fields).await;
        let ended = Instant::now();
        Self { id, kind, status: answer.status, correlation_id, begun, ended }
    }
}

/// What happened to a node, in order. Before the first event it was not registered.
#[derive(Default)]
struct Life {
    kinds: Vec<String>,
    /// By correlation id: how many events there were when the request had taken effect.
    places: HashMap<String, usize>,
}

impl Life {
    /// Whether it was registered after so many events.
    fn is_registered(&self, place: usize) -> bool {
        place > 0 && self.kinds[place - 1] != "deregistered"
    }
}

async fn lives(server: &TestServer) -> HashMap<String, Life> {
    let mut lives: HashMap<String, Life> = HashMap::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("/v1/events?limit=1000{after}")).await.json();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return lives;
        }
        for event in events {
            let kind = event["kind"].as_str().unwrap();
            if ["registered", "updated", "deregistered", "maintenance"].contains(&kind) {
                let life = lives.entry(event["node_id"].as_str().unwrap().to_owned()).or_default();
                life.kinds.push(kind.to_owned());
                let correlation_id = event["correlation_id"].as_str().unwrap().to_owned();
                assert_eq!(life.places.insert(correlation_id, life.kinds.len()), None, "one event each");
            }
        }
        after = format!("&after={}", page["next_after"]);
    }
}

async fn what_each_client_is_answered_was_true_at_some_moment(server: &TestServer) {
    let client = async |client: usize| {
        let mut operations = Vec::new();
        for round in 0..ROUNDS {
            operations.push(Operation::perform(server, client, round).await);
        }
        operations
    };
    let operations: Vec<Operation> = join_all((0..CLIENTS).map(client)).await.into_iter().flatten().collect();
    let lives = lives(server).await;
    let mut told = [0; 2];
    for operation in &operations {
        let life = &lives[operation.id];
        check(operation, life, &operations);
        told[usize::from(operation.status == 404)] += 1;
    }
    assert!(told.iter().all(|count| *count > 50), "both answers were given: {told:?}");
}

fn check(operation: &Operation, life: &Life, operations: &[Operation]) {
    let Operation { id, kind, status, correlation_id, .. } = operation;
    let told = format!("{kind:?} of {id}: {status} ({correlation_id})");
    if let Some(place) = life.places.get(correlation_id) {
        let expected = match life.kinds[place - 1].as_str() {
            "registered" => (Kind::Register, 201, false),
            "updated" => (Kind::Register, 200, true),
            "deregistered" => (Kind::Deregister, 204, true),
            _ => (Kind::Maintain, 200, true),
        };
        assert_eq!((*kind, *status, life.is_registered(place - 1)), expected, "{told}");
        return;
    }
    let registered = match (kind, status) {
        (Kind::Deregister | Kind::Maintain | Kind::Beat, 404) => false,
        (Kind::Beat, 200) => true,
        _ => panic!("{told}, and there is no event of it"),
    };
    // All that had been answered before it was asked had happened, and nothing of what was asked later.
    let place = |other: &Operation| life.places.get(&other.correlation_id).copied();
    let of_id = || operations.iter().filter(|other| other.id == *id);
    let earlier = of_id().filter(|other| other.ended < operation.begun).filter_map(place).max().unwrap_or(0);
    let later = of_id().filter(|other| other.begun > operation.ended).filter_map(place).min();
    let later = later.map_or(life.kinds.len(), |place| place - 1);
    let fits = (earlier..=later).any(|place| life.is_registered(place) == registered);
    assert!(fits, "{told}, and it was so at no moment between {earlier} and {later}");
}
