//! Clients that write and read a few nodes, and keep what they asked and were told.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use super::checker::{Log, Operation, Source, What};
use super::dice::Dice;
use crate::harness::{Answer, TestServer, node};

/// What all clients share.
#[derive(Default)]
pub(super) struct Book {
    clock: AtomicU64,
    history: Mutex<Vec<Operation>>,
    /// The newest revision that some client was told of: to be asked for of other replicas.
    newest: AtomicI64,
}

impl Book {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn history(&self) -> Vec<Operation> {
        self.history.lock().unwrap().clone()
    }

    /// Writes and reads that were answered as they should be.
    pub(super) fn counts(&self) -> (usize, usize) {
        let history = self.history();
        let acknowledged =
            |operation: &&Operation| matches!(operation.what, What::Write { acknowledged: true, .. });
        let reads = history.iter().filter(|operation| matches!(operation.what, What::Read { .. })).count();
        (history.iter().filter(acknowledged).count(), reads)
    }
}

/// A client asks so many times, each time some replica for some node. If connections are cut, answers may be 5xx.
pub(super) async fn client(
    number: usize,
    operations: usize,
    servers: &[Arc<TestServer>],
    book: &Book,
    outages: bool,
) {
    let mut dice = Dice(number as u64 * 7_919 + 1);
    for turn in 0..operations {
        let replica = dice.below(servers.len());
        let id = format!("node-{}", dice.below(4));
        let server = &servers[replica];
        let began = book.tick();
        let (what, answer) = match dice.below(10) {
            0..4 => write(server, &id, number, turn, Method::PUT).await,
            4 => write(server, &id, number, turn, Method::DELETE).await,
            choice => {
                let newest = book.newest.load(Ordering::SeqCst);
                read(server, &id, (choice > 7).then_some(newest)).await
            }
        };
        let ended = book.tick();
        let fine = [200, 201, 204, 404].contains(&answer.status);
        assert!(fine || outages && answer.status >= 500, "{} {}", answer.status, answer.text);
        if answer.status == 200 || answer.status == 201 {
            let revision = answer.json()["revision"].as_i64().unwrap();
            book.newest.fetch_max(revision, Ordering::SeqCst);
        }
        if let Some(what) = what {
            let operation = Operation { replica, node: id, began, ended, what };
            book.history.lock().unwrap().push(operation);
        }
    }
}

async fn write(
    server: &TestServer,
    id: &str,
    client: usize,
    turn: usize,
    method: Method,
) -> (Option<What>, Answer) {
    let correlation_id = format!("client-{client}-{turn}");
    let body = if method == Method::PUT {
        json!({"node_type": "compute", "metadata": {"client": client, "turn": turn}}).to_string()
    } else {
        String::new()
    };
    let answer = server.send(method, &node(id), body, &[("x-correlation-id", &correlation_id)]).await;
    // A 404 wrote nothing, and says nothing that a read doesn't say.
    let acknowledged = answer.status < 300;
    let what =
        (answer.status != 404).then_some(What::Write { correlation_id, acknowledged, value: None, on: None });
    (what, answer)
}

async fn read(server: &TestServer, id: &str, at_least: Option<i64>) -> (Option<What>, Answer) {
    let query = at_least.map(|revision| format!("?min_revision={revision}")).unwrap_or_default();
    let answer = server.get_once(&format!("{}{query}", node(id))).await;
    if answer.status != 200 && answer.status != 404 {
        return (None, answer);
    }
    let seen = answer.header("registry-revision").unwrap().parse().unwrap();
    let found = (answer.status == 200).then(|| answer.json()["revision"].as_i64().unwrap());
    (Some(What::Read { found, value: None, seen: Some(seen), at_least, source: Source::Replica }), answer)
}

/// All events, from the first.
pub(super) async fn log(server: &TestServer) -> Log {
    let mut events: Vec<Value> = Vec::new();
    let mut after = 0;
    loop {
        let answer = server.get_once(&format!("/v1/events?after={after}&limit=1000")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let newest: i64 = answer.header("registry-revision").unwrap().parse().unwrap();
        let page = answer.json();
        events.extend(page["events"].as_array().unwrap().iter().cloned());
        after = page["next_after"].as_i64().unwrap();
        if after >= newest {
            return Log(events);
        }
    }
}
