//! Reads are answered from memory, and by the database for those that ask for it. Tests ask both, and the answers have
//! to be equal before long: what another hand does to the table is heard of a moment later.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::waiting::Waiting;
use super::{Answer, TestServer};

/// For so long the two may disagree. Changes that no event tells of are found by comparing, every second here.
const PATIENCE: Duration = Duration::from_secs(15);

impl TestServer {
    /// What is at a path. Nodes are read from memory; the database has to say the same.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let says_how = ["consistency=", "min_revision=", "since="].iter().any(|said| path.contains(said));
        let both_ways = path.starts_with("/v1/nodes") && !says_how;
        if both_ways { self.read_both_ways(path).await } else { self.get_once(path).await }
    }

    /// What is at a path, asked for once.
    pub(crate) async fn get_once(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    async fn read_both_ways(&self, path: &str) -> Answer {
        let and = if path.contains('?') { '&' } else { '?' };
        let waiting = Waiting::at_most(PATIENCE);
        loop {
            let stored = self.get_once(&format!("{path}{and}consistency=strong")).await;
            let Some(revision) = stored.header("registry-revision").filter(|_| stored.status < 500) else {
                return self.get_once(path).await;
            };
            let known = self.get_once(&format!("{path}{and}min_revision={revision}")).await;
            if known.status == stored.status && shown(&known) == shown(&stored) {
                return known;
            }
            let differ = || {
                let (known, stored) = ((known.status, &known.text), (stored.status, &stored.text));
                format!("{path}: the catalog says\n{known:?}\nand the table\n{stored:?}")
            };
            waiting.look_again(differ).await;
        }
    }
}

/// An answer without what differs between any two.
fn shown(answer: &Answer) -> Value {
    let mut body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    if body["nodes"].is_array() || answer.status >= 400 {
        for member in ["revision", "correlation_id"] {
            body.as_object_mut().map(|body| body.remove(member));
        }
    }
    body
}
