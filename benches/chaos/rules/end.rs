//! What there is at the end is what was acknowledged.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Beat;

/// What is wrong with the nodes at the end, by the log of events: what it tells of last is there, and nothing else.
pub(crate) fn table(nodes: &[Value], events: &[Value]) -> Vec<String> {
    let mut expected: BTreeMap<&str, i64> = BTreeMap::new();
    for event in events {
        let (Some(node), Some(revision)) = (event["node_id"].as_str(), event["revision"].as_i64()) else {
            return vec![format!("an event without node or revision: {event}")];
        };
        match event["kind"].as_str() {
            Some("registered" | "updated" | "maintenance") => drop(expected.insert(node, revision)),
            Some("deregistered" | "expired") => drop(expected.remove(node)),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    let mut there: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["node_id"].as_str()?, node))).collect();
    for (node, revision) in expected {
        match there.remove(node) {
            Some(record) if record["revision"] == revision => {}
            found => wrong.push(format!("{node} is not there as revision {revision} has it: {found:?}")),
        }
    }
    wrong
        .extend(there.into_values().map(|record| format!("a node that was deregistered is there: {record}")));
    wrong
}

/// What is wrong with the signs of life at the end: none that was acknowledged is gone. A node that was registered anew
/// begins without one.
pub(crate) fn beats(beats: &[Beat], nodes: &[Value], events: &[Value]) -> Vec<String> {
    let mut registered: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events.iter().filter(|event| event["kind"] == "registered") {
        if let (Some(node), Some(at)) = (event["node_id"].as_str(), event["occurred_at"].as_str()) {
            registered.insert(node, at);
        }
    }
    let last: BTreeMap<&str, &str> = nodes
        .iter()
        .filter_map(|node| Some((node["node_id"].as_str()?, node["last_heartbeat"].as_str().unwrap_or(""))))
        .collect();
    // Times of this form are in the order of their texts.
    let is_gone = |beat: &&Beat| {
        let since = registered.get(beat.node.as_str()).copied().unwrap_or_default();
        let last = last.get(beat.node.as_str());
        beat.at.as_str() > since && last.is_some_and(|last| *last < beat.at.as_str())
    };
    let gone = beats.iter().filter(is_gone);
    gone.map(|beat| format!("a sign of life is gone: {beat:?}")).collect()
}
