//! Writers: each changes nodes that nobody else does, by every call that writes, and on any of the servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::ids;
use crate::checker::{Condition, Operation, Source, What};
use crate::client::{Client, Reply, Request, Site};
use crate::dice::Dice;
use crate::rules::{Beat, Kind};

/// Between two writes of a writer.
const PAUSE: Duration = Duration::from_millis(70);

/// Writes until told to stop.
pub(crate) async fn write(
    site: Arc<Site>,
    number: usize,
    seed: u64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let client = Client::new(&site)?;
    let dice = Dice(seed.wrapping_mul(31).wrapping_add(number as u64));
    let mut writer = Writer { client, ids: ids(number), revisions: HashMap::new(), dice };
    while !stop.is_cancelled() {
        writer.turn().await;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

struct Writer {
    client: Client,
    ids: Vec<String>,
    /// The last revisions that it knows of, the newest last.
    revisions: HashMap<String, Vec<i64>>,
    dice: Dice,
}

impl Writer {
    async fn turn(&mut self) {
        let server = self.dice.below(self.client.site.servers.len());
        let id = self.ids[self.dice.below(self.ids.len())].clone();
        match self.dice.below(20) {
            0..8 => self.put(server, &id, None).await,
            8..11 => {
                // Mostly the newest, and sometimes the one before it.
                let back = 1 + usize::from(self.dice.below(4) == 0);
                let known =
                    self.revisions.get(&id).and_then(|all| all.len().checked_sub(back).map(|at| all[at]));
                self.put(server, &id, known.map(Condition::Revision)).await;
            }
            11 => self.put(server, &id, Some(Condition::Absent)).await,
            12..14 => self.beat(server, &id).await,
            14 | 15 => self.delete(server, &id).await,
            16 | 17 => self.put_all(server).await,
            18 => self.beat_all(server).await,
            _ => self.delete_some(server).await,
        }
    }

    async fn put(&mut self, server: usize, id: &str, on: Option<Condition>) {
        let value = self.client.site.book.next_value();
        let correlation_id = format!("put-{value}");
        let tag = match on {
            Some(Condition::Revision(revision)) => format!("\"{revision}.0\""),
            _ => "*".to_owned(),
        };
        let mut headers = vec![("x-correlation-id", correlation_id.as_str())];
        match on {
            Some(Condition::Revision(_)) => headers.push(("if-match", &tag)),
            Some(Condition::Absent) => headers.push(("if-none-match", &tag)),
            None => {}
        }
        let request = Request {
            method: Method::PUT,
            template: "/v1/nodes/{node_id}",
            path: format!("/v1/nodes/{id}"),
            body: Some(registration(value)),
            headers,
            kind: Kind::Write,
        };
        let reply = self.client.ask(server, &request).await;
        match on {
            Some(condition) if reply.status == 412 => self.note(&reply, id, What::Refused(condition)),
            _ => {
                let acknowledged = reply.is_success();
                self.note(&reply, id, What::Write { correlation_id, acknowledged, value: Some(value), on });
            }
        }
        self.learn(id, &reply.body, reply.is_success());
    }

    async fn delete(&mut self, server: usize, id: &str) {
        let correlation_id = format!("delete-{}", self.client.site.book.next_value());
        let request = Request {
            method: Method::DELETE,
            template: "/v1/nodes/{node_id}",
            path: format!("/v1/nodes/{id}"),
            body: None,
            headers: vec![("x-correlation-id", &correlation_id)],
            kind: Kind::Write,
        };
        let reply = self.client.ask(server, &request).await;
        self.note_deleted(&reply, id, &correlation_id, reply.status == 404);
    }

    async fn beat(&mut self, server: usize, id: &str) {
        let request = Request {
            method: Method::POST,
            template: "/v1/nodes/{node_id}/heartbeat",
            path: format!("/v1/nodes/{id}/heartbeat"),
            body: None,
            headers: Vec::new(),
            kind: Kind::Write,
        };
        let reply = self.client.ask(server, &request).await;
        if reply.status == 404 {
            self.note(&reply, id, absent());
        }
        if let Some(at) = reply.body["last_heartbeat"].as_str().filter(|_| reply.status == 200) {
            self.note_beat(id, at);
        }
    }

    async fn put_all(&mut self, server: usize) {
        let value = self.client.site.book.next_value();
        let correlation_id = format!("batch-{value}");
        let nodes: Vec<Value> = self
            .ids
            .iter()
            .map(|id| {
                let mut node = registration(value);
                node["node_id"] = json!(id);
                node
            })
            .collect();
        let request = Request {
            method: Method::POST,
            template: "/v1/batch/nodes",
            path: "/v1/batch/nodes".to_owned(),
            body: Some(json!({ "nodes": nodes })),
            headers: vec![("x-correlation-id", &correlation_id)],
            kind: Kind::Write,
        };
        let reply = self.client.ask(server, &request).await;
        for (index, id) in self.ids.clone().iter().enumerate() {
            let result = &reply.body["results"][index];
            let acknowledged = reply.status == 200 && matches!(result["status"].as_u64(), Some(200 | 201));
            let correlation_id = correlation_id.clone();
            self.note(&reply, id, What::Write { correlation_id, acknowledged, value: Some(value), on: None });
            self.learn(id, result, acknowledged);
        }
    }

    async fn beat_all(&mut self, server: usize) {
        let request = Request {
            method: Method::POST,
            template: "/v1/batch/heartbeats",
            path: "/v1/batch/heartbeats".to_owned(),
            body: Some(json!({ "node_ids": self.ids })),
            headers: Vec::new(),
            kind: Kind::Write,
        };
        let reply = self.client.ask(server, &request).await;
        let Some(at) = reply.body["last_heartbeat"].as_str().filter(|_| reply.status == 200) else { return };
        for id in self.ids.clone() {
            if names(&reply.body["unknown"], &id) {
                self.note(&reply, &id, absent());
            } else {
                self.note_beat(&id, at);
            }
        }
    }

    async fn delete_some(&mut self, server: usize) {
        let some = self.ids[..2].to_vec();
        let correlation_id = format!("batch-delete-{}", self.client.site.book.next_value());
        let request = Request {
            method: Method::POST,
            template: "/v1/batch/deregister",
            path: "/v1/batch/deregister".to_owned(),
            body: Some(json!({ "node_ids": some })),
            headers: vec![("x-correlation-id", &correlation_id)],
            kind: Kind::Write,
        };
        let reply = self.client.ask(server, &request).await;
        for id in some {
            let unknown = reply.status == 200 && names(&reply.body["unknown"], &id);
            self.note_deleted(&reply, &id, &correlation_id, unknown);
        }
    }

    fn note_deleted(&mut self, reply: &Reply, id: &str, correlation_id: &str, was_absent: bool) {
        if was_absent {
            return self.note(reply, id, absent());
        }
        let (correlation_id, acknowledged) = (correlation_id.to_owned(), reply.is_success());
        self.note(reply, id, What::Write { correlation_id, acknowledged, value: None, on: None });
    }

    fn note(&self, reply: &Reply, id: &str, what: What) {
        // An answer of a process that is gone by now counts, too, and says nothing about its successor.
        let replica = reply.replica.unwrap_or(usize::MAX);
        let operation =
            Operation { replica, node: id.to_owned(), began: reply.began, ended: reply.ended, what };
        self.client.site.book.history().push(operation);
    }

    fn note_beat(&self, id: &str, at: &str) {
        let beat = Beat { node: id.to_owned(), at: at.to_owned() };
        self.client.site.book.beats().push(beat);
    }

    fn learn(&mut self, id: &str, told: &Value, acknowledged: bool) {
        if let Some(revision) = told["revision"].as_i64().filter(|_| acknowledged) {
            self.client.site.book.is_told_of(revision);
            self.revisions.entry(id.to_owned()).or_default().push(revision);
        }
    }
}

fn registration(value: i64) -> Value {
    json!({"node_type": "compute", "metadata": {"value": value}, "capabilities": {"publishes": ["chaos.v1"]}})
}

/// The database has said that there is no such node.
fn absent() -> What {
    What::Read { found: None, value: None, seen: None, at_least: None, source: Source::Database }
}

fn names(list: &Value, id: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|name| name == id))
}
