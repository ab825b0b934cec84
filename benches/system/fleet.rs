//! The nodes: like those of `tests/data/onex_nodes.jsonl`, as many as are wanted, each a little different.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::Connection;

const REAL_NODES: &str = include_str!("../../tests/data/onex_nodes.jsonl");
/// What ids begin with; six digits follow. About as long as a real one.
pub(crate) const ID_PREFIX: &str = "node_of_the_benchmark_";
/// So many nodes of every fleet have [`NEEDLE`].
pub(crate) const NEEDLES: usize = 10;
/// A capability that few nodes have.
pub(crate) const NEEDLE: &str = "needle_in_the_fleet";
/// Stands in the metadata of a registration for a number of twelve digits that no other registration has.
const COUNTER: &str = "@@@@@@@@@@@@";

/// The most nodes in one batch of registrations, and of heartbeats.
const BATCH: usize = 1_000;
const HEARTBEATS: usize = 10_000;

/// So many nodes.
pub(crate) struct Fleet {
    real: Vec<Value>,
    pub(crate) nodes: usize,
}

/// JSON in two parts: between them belongs a counter.
pub(crate) struct Halves {
    pub(crate) head: String,
    pub(crate) tail: String,
}

impl Halves {
    /// Parts what has the placeholder of a counter in it.
    pub(crate) fn of(json: &Value) -> anyhow::Result<Self> {
        let text = json.to_string();
        let (head, tail) = text.split_once(COUNTER).context("the counter is in it")?;
        Ok(Self { head: head.to_owned(), tail: tail.to_owned() })
    }

    /// The whole of it, unlike that of any other counter.
    pub(crate) fn with(&self, counter: u64) -> String {
        format!("{}{counter:012}{}", self.head, self.tail)
    }
}

impl Fleet {
    pub(crate) fn of(nodes: usize) -> anyhow::Result<Self> {
        let real = REAL_NODES.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        Ok(Self { real, nodes })
    }

    pub(crate) fn id(number: usize) -> String {
        format!("{ID_PREFIX}{number:06}")
    }

    /// The registration of a node, its id included, and with a placeholder for the counter.
    fn named(&self, number: usize) -> Value {
        let mut node = self.real.get(number % self.real.len()).cloned().unwrap_or_default();
        let port = 10_000 + number % 50_000;
        node["node_id"] = Self::id(number).into();
        for (_, endpoint) in node["endpoints"].as_object_mut().into_iter().flatten() {
            if let Some((host, _)) = endpoint.as_str().and_then(|text| text.rsplit_once(':')) {
                *endpoint = format!("{host}:{port}").into();
            }
        }
        if node.get("health_endpoint").is_some() {
            node["health_endpoint"] = format!("http://127.0.0.1:{port}/health").into();
        }
        let regions = ["eu-central", "eu-west", "us-east"];
        node["metadata"]["region"] = regions.get(number % regions.len()).copied().into();
        node["metadata"]["instance"] = number.into();
        node["metadata"]["counter"] = COUNTER.into();
        if number.is_multiple_of((self.nodes / NEEDLES).max(1))
            && let Some(capabilities) = node["capabilities"].as_object_mut()
        {
            let list = capabilities.entry("capabilities").or_insert_with(|| json!([]));
            list.as_array_mut().into_iter().for_each(|list| list.push(NEEDLE.into()));
        }
        node
    }

    /// What is sent to register a node that the path names.
    pub(crate) fn halves(&self, number: usize) -> anyhow::Result<Halves> {
        let mut node = self.named(number);
        node.as_object_mut().context("a real node is an object")?.remove("node_id");
        Halves::of(&node)
    }

    /// A registration of about the mean size: what pgbench writes, which has one text for all rows.
    pub(crate) fn mean(&self) -> anyhow::Result<Value> {
        let nodes: Vec<Value> = (0..self.real.len()).map(|number| self.named(number)).collect();
        let mean = nodes.iter().map(|node| node.to_string().len()).sum::<usize>() / nodes.len();
        let nearest = nodes.into_iter().min_by_key(|node| node.to_string().len().abs_diff(mean));
        nearest.context("there are real nodes")
    }

    /// The registrations, some at a time, as arrays of JSON.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Value> {
        (0..self.nodes).step_by(BATCH).map(|from| {
            let numbers = from..self.nodes.min(from + BATCH);
            numbers.map(|number| self.named(number)).collect()
        })
    }

    /// Registers all nodes at a server, and tells it that they are alive.
    pub(crate) async fn load(&self, address: SocketAddr) -> anyhow::Result<()> {
        let mut server = Connection::open(address).await?;
        for nodes in self.batches() {
            let body = json!({ "nodes": nodes }).to_string();
            let answer = server.json(Method::POST, "/v1/batch/nodes", body).await?;
            let refused = answer["results"].as_array().into_iter().flatten();
            let refused = refused.filter(|result| !result["problem"].is_null()).count();
            anyhow::ensure!(refused == 0, "{refused} nodes were refused: {answer}");
        }
        for from in (0..self.nodes).step_by(HEARTBEATS) {
            let ids: Vec<String> = (from..self.nodes.min(from + HEARTBEATS)).map(Self::id).collect();
            let body = json!({ "node_ids": ids }).to_string();
            let answer = server.json(Method::POST, "/v1/batch/heartbeats", body).await?;
            anyhow::ensure!(answer["accepted"] == ids.len(), "nodes are missing: {answer}");
        }
        Ok(())
    }

    /// Writes the nodes into a file, as `benches/wrk/load.lua` reads them.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join(format!("fleet-{}.tsv", self.nodes));
        if !path.exists() {
            let mut text = String::new();
            for number in 0..self.nodes {
                let Halves { head, tail } = self.halves(number)?;
                writeln!(text, "{}\t{head}\t{tail}", Self::id(number))?;
            }
            std::fs::write(&path, text)?;
        }
        Ok(path)
    }
}
