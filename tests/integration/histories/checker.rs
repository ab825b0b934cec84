//! Judges histories. Every write has a correlation id, by which the log of events tells its revision: so each operation
//! is a version of its node, and an order that explains all answers is found without trying out orders.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// What a client asked of a node, and what it was told. Times are ticks of one counter for all clients.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) replica: usize,
    pub(crate) node: String,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Acknowledged or not; the correlation id tells what it did.
    Write { correlation_id: String, acknowledged: bool },
    /// What was read: the registration's revision, or that there is none, and up to which revision all is in it.
    Read { found: Option<i64>, seen: i64, at_least: Option<i64> },
}

/// A change of a node, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    revision: i64,
    present: bool,
    /// When the write that made it was begun; 0 if that isn't known.
    began: u64,
}

/// The log of events, all of it, as `/v1/events` has it.
pub(crate) struct Log(pub(crate) Vec<Value>);

impl Log {
    fn revision(event: &Value) -> i64 {
        event["revision"].as_i64().unwrap()
    }

    /// The revisions that a correlation id has.
    fn of_request(&self) -> HashMap<&str, Vec<i64>> {
        let mut found: HashMap<&str, Vec<i64>> = HashMap::new();
        for event in &self.0 {
            if let Some(id) = event["correlation_id"].as_str() {
                found.entry(id).or_default().push(Self::revision(event));
            }
        }
        found
    }

    /// The changes of registration of each node, in order.
    fn versions(&self, starts: &HashMap<String, u64>) -> HashMap<String, Vec<Version>> {
        let mut nodes: HashMap<String, Vec<Version>> = HashMap::new();
        for event in &self.0 {
            let present = match event["kind"].as_str().unwrap() {
                "registered" | "updated" | "maintenance" => true,
                "deregistered" | "expired" => false,
                _ => continue,
            };
            let began = event["correlation_id"].as_str().and_then(|id| starts.get(id)).copied().unwrap_or(0);
            nodes.entry(event["node_id"].as_str().unwrap().to_owned()).or_default().push(Version {
                revision: Self::revision(event),
                present,
                began,
            });
        }
        nodes
    }
}

/// Everything that is wrong with a history. `linearizable`: reads of a replica have to show what was acknowledged by the
/// same replica before they began; a read with `min_revision` always has to.
pub(crate) fn judge(history: &[Operation], log: &Log) -> Vec<String> {
    let mut wrong = Vec::new();
    if !log.0.windows(2).all(|pair| Log::revision(&pair[0]) < Log::revision(&pair[1])) {
        wrong.push("the log is not in the order of revisions".to_owned());
    }
    let starts: HashMap<String, u64> = history
        .iter()
        .filter_map(|operation| match &operation.what {
            What::Write { correlation_id, .. } => Some((correlation_id.clone(), operation.began)),
            What::Read { .. } => None,
        })
        .collect();
    let requests = log.of_request();
    let versions = log.versions(&starts);
    let mut by_node: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        by_node.entry(&operation.node).or_default().push(operation);
        if let What::Write { correlation_id, acknowledged: true } = &operation.what
            && !requests.contains_key(correlation_id.as_str())
        {
            wrong.push(format!("an acknowledged write is missing: {operation:?}"));
        }
    }
    for (node, operations) in by_node {
        let none = Vec::new();
        judge_node(&operations, versions.get(node).unwrap_or(&none), &requests, &mut wrong);
    }
    judge_horizons(history, &mut wrong);
    wrong
}

/// The operations on one node. Its versions are in the order of revisions, which has to be an order in which the
/// operations can have happened.
fn judge_node(
    operations: &[&Operation],
    versions: &[Version],
    requests: &HashMap<&str, Vec<i64>>,
    wrong: &mut Vec<String>,
) {
    // What is known to have happened on a replica when: (ended, revision), in the order of ends.
    let mut known: Vec<(u64, usize, i64)> = Vec::new();
    let mut in_order: Vec<&&Operation> = operations.iter().collect();
    in_order.sort_by_key(|operation| operation.ended);
    for operation in in_order {
        let floor = |replica: Option<usize>| {
            let counts = |of: usize| replica.is_none_or(|replica| replica == of);
            known
                .iter()
                .filter(|(ended, of, _)| *ended < operation.began && counts(*of))
                .map(|(_, _, revision)| *revision)
                .max()
                .unwrap_or(0)
        };
        match &operation.what {
            What::Write { correlation_id, acknowledged } => {
                let Some(revisions) = requests.get(correlation_id.as_str()) else { continue };
                // Writes of all replicas are in one order.
                let before = known_writes(operations, requests, operation.began);
                if revisions.iter().any(|revision| *revision <= before) {
                    wrong.push(format!(
                        "a write is numbered before one that it followed ({before}): {operation:?}"
                    ));
                }
                if *acknowledged {
                    let last = revisions.iter().copied().max().unwrap_or(0);
                    known.push((operation.ended, operation.replica, last));
                }
            }
            What::Read { found, seen, at_least } => {
                let floor = floor(Some(operation.replica)).max(at_least.unwrap_or(0));
                match explain(*found, floor, operation.ended, versions) {
                    Some(revision) => known.push((operation.ended, operation.replica, revision)),
                    None => wrong.push(format!(
                        "a read shows what was not there then (known: {floor}, versions: {versions:?}): {operation:?}"
                    )),
                }
                if at_least.is_some_and(|at_least| *seen < at_least) {
                    wrong.push(format!("a read is older than was asked for: {operation:?}"));
                }
            }
        }
    }
}

/// The newest write that was acknowledged before a moment, by whatever replica.
fn known_writes(operations: &[&Operation], requests: &HashMap<&str, Vec<i64>>, before: u64) -> i64 {
    operations
        .iter()
        .filter(|operation| operation.ended < before)
        .filter_map(|operation| match &operation.what {
            What::Write { correlation_id, acknowledged: true } => {
                requests.get(correlation_id.as_str())?.iter().copied().max()
            }
            _ => None,
        })
        .max()
        .unwrap_or(0)
}

/// The oldest version that a read can have seen: not older than the state at `floor`, and begun before the read ended.
/// The revision of that version, or `floor` if nothing had changed since.
fn explain(found: Option<i64>, floor: i64, ended: u64, versions: &[Version]) -> Option<i64> {
    let at_floor = versions.iter().rev().find(|version| version.revision <= floor);
    let later = versions.iter().filter(|version| version.revision > floor);
    let start = Version { revision: 0, present: false, began: 0 };
    std::iter::once(at_floor.unwrap_or(&start))
        .chain(later)
        .find(|version| {
            version.began < ended
                && match found {
                    Some(revision) => version.present && version.revision == revision,
                    None => !version.present,
                }
        })
        .map(|version| version.revision)
}

/// What a client has seen of a replica never goes back.
fn judge_horizons(history: &[Operation], wrong: &mut Vec<String>) {
    let mut last: HashMap<(usize, usize), (u64, i64)> = HashMap::new();
    let mut in_order: Vec<&Operation> = history.iter().collect();
    in_order.sort_by_key(|operation| operation.began);
    for operation in in_order {
        if let What::Read { seen, .. } = operation.what {
            let key = (operation.client, operation.replica);
            if let Some((ended, before)) = last.get(&key)
                && *ended < operation.began
                && *before > seen
            {
                wrong.push(format!("what a replica has seen went back from {before}: {operation:?}"));
            }
            last.insert(key, (operation.ended, seen));
        }
    }
}

/// What is wrong with what a watcher was told: every event of the log after a revision, once, in order.
pub(crate) fn judge_watcher(told: &[i64], after: i64, log: &Log) -> Vec<String> {
    let expected: Vec<i64> = log.0.iter().map(Log::revision).filter(|revision| *revision > after).collect();
    let mut wrong = Vec::new();
    if !told.windows(2).all(|pair| pair[0] < pair[1]) {
        wrong.push("a watcher was told twice, or out of order".to_owned());
    }
    for revision in &expected {
        if !told.contains(revision) {
            wrong.push(format!("a watcher was not told of {revision}"));
        }
    }
    for revision in told.iter().filter(|revision| !expected.contains(revision)) {
        wrong.push(format!("a watcher was told of {revision}, which did not happen"));
    }
    wrong
}

mod tests {
    use serde_json::json;

    use super::*;

    fn log() -> Log {
        let event = |revision: i64, kind: &str, id: &str| json!({"revision": revision, "node_id": "n", "kind": kind, "correlation_id": id});
        Log(vec![event(1, "registered", "a"), event(2, "deregistered", "b"), event(4, "registered", "c")])
    }

    fn write(began: u64, ended: u64, id: &str) -> Operation {
        let what = What::Write { correlation_id: id.to_owned(), acknowledged: true };
        Operation { client: 0, replica: 0, node: "n".to_owned(), began, ended, what }
    }

    fn read(began: u64, ended: u64, found: Option<i64>, seen: i64) -> Operation {
        let what = What::Read { found, seen, at_least: None };
        Operation { client: 1, replica: 0, node: "n".to_owned(), began, ended, what }
    }

    fn writes() -> Vec<Operation> {
        vec![write(10, 100, "a"), write(110, 200, "b"), write(210, 300, "c")]
    }

    fn faults(reads: &[Operation]) -> usize {
        let history: Vec<Operation> = writes().into_iter().chain(reads.iter().cloned()).collect();
        judge(&history, &log()).len()
    }

    #[test]
    fn a_good_history_has_no_faults() {
        let reads = [
            read(20, 30, None, 0),
            read(40, 90, Some(1), 1),
            read(120, 130, Some(1), 1),
            read(140, 190, None, 2),
            read(220, 230, None, 2),
            read(310, 320, Some(4), 4),
        ];
        assert_eq!(faults(&reads), 0);
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(faults(&[read(101, 105, None, 0)]), 1, "older than what was acknowledged");
        assert_eq!(faults(&[read(20, 30, Some(4), 4)]), 1, "before it was written");
        assert_eq!(faults(&[read(40, 50, Some(1), 1), read(60, 70, None, 1)]), 1, "gone again");
        assert_eq!(faults(&[read(310, 320, Some(3), 4)]), 1, "what never was");
        assert_eq!(faults(&[read(310, 320, Some(4), 4), read(330, 340, Some(4), 3)]), 1, "back in time");
        let lost = judge(&[write(1, 10, "z")], &log());
        assert_eq!(lost.len(), 1, "{lost:?}");
        let swapped = [write(1, 10, "b"), write(11, 20, "a")];
        assert_eq!(judge(&swapped, &log()).len(), 1);
        let what = What::Read { found: None, seen: 1, at_least: Some(2) };
        assert_eq!(faults(&[Operation { what, ..read(20, 30, None, 1) }]), 2, "older than asked for");
    }

    #[test]
    fn a_watcher_is_told_of_everything_once() {
        assert_eq!(judge_watcher(&[2, 4], 1, &log()).len(), 0);
        assert_eq!(judge_watcher(&[1, 4], 0, &log()).len(), 1);
        assert_eq!(judge_watcher(&[1, 2, 2, 4], 0, &log()).len(), 1);
        assert_eq!(judge_watcher(&[1, 2, 3, 4], 0, &log()).len(), 1);
    }
}
