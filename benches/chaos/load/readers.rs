//! Readers: of single nodes and of lists, from memory and from the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::ids;
use crate::checker::{Operation, Source, What};
use crate::client::{Client, Reply, Request, Site};
use crate::dice::Dice;
use crate::rules::Kind;

/// Between two reads of a reader.
const PAUSE: Duration = Duration::from_millis(60);

/// What was read of a node: its revision and what its writer wrote.
type Found = (i64, Option<i64>);

/// Reads the nodes of so many writers until told to stop.
pub(crate) async fn read(
    site: Arc<Site>,
    number: usize,
    writers: usize,
    seed: u64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let client = Client::new(&site)?;
    let dice = Dice(seed.wrapping_mul(37).wrapping_add(1_000 + number as u64));
    let mut reader = Reader { client, writers, tags: HashMap::new(), dice };
    while !stop.is_cancelled() {
        reader.turn().await;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

struct Reader {
    client: Client,
    writers: usize,
    /// What it has of each node, and the tag of that.
    tags: HashMap<String, (String, Found)>,
    dice: Dice,
}

impl Reader {
    async fn turn(&mut self) {
        let server = self.dice.below(self.client.site.servers.len());
        let writer = self.dice.below(self.writers);
        let nodes = ids(writer);
        let id = &nodes[self.dice.below(nodes.len())];
        match self.dice.below(20) {
            0..7 => self.one(server, id, Kind::Read).await,
            7..9 => self.one(server, id, Kind::Strong).await,
            9..12 => self.one(server, id, Kind::AtLeast).await,
            12..14 => self.again(server, id).await,
            14..19 => self.list(server, writer, Kind::Read).await,
            _ => self.list(server, writer, Kind::Strong).await,
        }
    }

    async fn one(&mut self, server: usize, id: &str, kind: Kind) {
        let at_least = (kind == Kind::AtLeast).then(|| self.client.site.book.newest());
        let query = match at_least {
            Some(revision) => format!("?min_revision={revision}"),
            None => consistency("?", kind),
        };
        let reply = self.client.ask(server, &get(id, &query, kind)).await;
        if reply.status == 200 {
            let found = found(&reply.body);
            if let (Some(found), Some(tag)) = (found, reply.tag.clone()) {
                self.tags.insert(id.to_owned(), (tag, found));
            }
            self.note(&reply, id, found, at_least, kind);
        } else if reply.status == 404 {
            self.note(&reply, id, None, at_least, kind);
        }
    }

    /// Asks whether it is still as it was.
    async fn again(&mut self, server: usize, id: &str) {
        let Some((tag, found)) = self.tags.get(id).cloned() else { return };
        let request = Request { headers: vec![("if-none-match", tag.as_str())], ..get(id, "", Kind::Read) };
        let reply = self.client.ask(server, &request).await;
        if reply.status == 304 {
            self.note(&reply, id, Some(found), None, Kind::Read);
        }
    }

    /// All nodes of a writer: those that are not on the page are not there.
    async fn list(&mut self, server: usize, writer: usize, kind: Kind) {
        let request = Request {
            method: Method::GET,
            template: "/v1/nodes",
            path: format!("/v1/nodes?node_id_prefix=w{writer:02}-&limit=1000{}", consistency("&", kind)),
            body: None,
            headers: Vec::new(),
            kind,
        };
        let reply = self.client.ask(server, &request).await;
        let Some(nodes) = reply.body["nodes"].as_array().filter(|_| reply.status == 200) else { return };
        for id in ids(writer) {
            let node = nodes.iter().find(|node| node["node_id"] == id.as_str());
            self.note(&reply, &id, node.and_then(found), None, kind);
        }
    }

    fn note(&self, reply: &Reply, id: &str, found: Option<Found>, at_least: Option<i64>, kind: Kind) {
        // Answers whose process is not known say nothing about any.
        let Some(replica) = reply.replica else { return };
        let source = if kind == Kind::Strong { Source::Database } else { Source::Replica };
        let what = What::Read {
            found: found.map(|(revision, _)| revision),
            value: found.and_then(|(_, value)| value),
            seen: reply.seen,
            at_least,
            source,
        };
        let operation =
            Operation { replica, node: id.to_owned(), began: reply.began, ended: reply.ended, what };
        self.client.site.book.history().push(operation);
    }
}

fn get(id: &str, query: &str, kind: Kind) -> Request<'static> {
    Request {
        method: Method::GET,
        template: "/v1/nodes/{node_id}",
        path: format!("/v1/nodes/{id}{query}"),
        body: None,
        headers: Vec::new(),
        kind,
    }
}

fn consistency(mark: &str, kind: Kind) -> String {
    if kind == Kind::Strong { format!("{mark}consistency=strong") } else { String::new() }
}

/// `None` for what is no record.
fn found(record: &Value) -> Option<Found> {
    Some((record["revision"].as_i64()?, record["metadata"]["value"].as_i64()))
}
