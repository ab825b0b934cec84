//! Judges histories. Every write has a correlation id, by which the log of events tells its revision: so each operation
//! is a version of its node, and an order that explains all answers is found without trying out orders.
//!
//! `scripts/chaos` has its histories judged here, too.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

/// What a client asked of a node, and what it was told. Times are ticks of one counter for all clients.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// Of the process that answered: what was restarted is another one.
    pub(crate) replica: usize,
    pub(crate) node: String,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Acknowledged or not; the correlation id tells what it did.
    Write {
        correlation_id: String,
        acknowledged: bool,
        /// What was written, if readers look at it.
        value: Option<i64>,
        on: Option<Condition>,
    },
    /// A write that was not done, because this did not hold.
    Refused(Condition),
    /// What was read: the registration's revision, or that there is none, and up to which revision all is in it.
    Read {
        found: Option<i64>,
        /// What was in it, if the reader looked.
        value: Option<i64>,
        /// `None` if it wasn't said.
        seen: Option<i64>,
        at_least: Option<i64>,
        source: Source,
    },
}

/// On what a write depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The registration has this revision.
    Revision(i64),
    /// There is no registration.
    Absent,
}

/// Who has answered a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The replica, from its memory: it has what was acknowledged by itself.
    Replica,
    /// The database: it has what was acknowledged by anybody.
    Database,
}

/// A change of a node, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    revision: i64,
    present: bool,
    /// When the write that made it was begun; 0 if that isn't known.
    began: u64,
    /// What it wrote, if that is known.
    value: Option<i64>,
}

/// The log of events, all of it, as `/v1/events` has it.
pub(crate) struct Log(pub(crate) Vec<Value>);

/// The revisions that a request has given a node.
type Requests<'l> = HashMap<(&'l str, &'l str), Vec<i64>>;

impl Log {
    fn revision(event: &Value) -> i64 {
        event["revision"].as_i64().unwrap()
    }

    fn node(event: &Value) -> &str {
        event["node_id"].as_str().unwrap()
    }

    fn requests(&self) -> Requests<'_> {
        let mut found = Requests::new();
        for event in &self.0 {
            if let Some(id) = event["correlation_id"].as_str() {
                found.entry((id, Self::node(event))).or_default().push(Self::revision(event));
            }
        }
        found
    }

    /// The changes of registration of each node, in order.
    fn versions(&self, history: &[Operation]) -> HashMap<&str, Vec<Version>> {
        let mut writes: HashMap<(&str, &str), (u64, Option<i64>)> = HashMap::new();
        for operation in history {
            if let What::Write { correlation_id, value, .. } = &operation.what {
                writes.insert((correlation_id, &operation.node), (operation.began, *value));
            }
        }
        let mut nodes: HashMap<&str, Vec<Version>> = HashMap::new();
        for event in &self.0 {
            let present = match event["kind"].as_str().unwrap() {
                "registered" | "updated" | "maintenance" => true,
                "deregistered" | "expired" => false,
                _ => continue,
            };
            let node = Self::node(event);
            let write = event["correlation_id"].as_str().and_then(|id| writes.get(&(id, node)));
            let (began, value) = write.copied().unwrap_or_default();
            let version = Version { revision: Self::revision(event), present, began, value };
            nodes.entry(node).or_default().push(version);
        }
        nodes
    }
}

/// What was known when: the highest revision of all that had ended before.
#[derive(Default)]
struct Known(Vec<(u64, i64)>);

impl Known {
    /// In the order of ends.
    fn push(&mut self, ended: u64, revision: i64) {
        let before = self.0.last().map_or(0, |(_, highest)| *highest);
        self.0.push((ended, before.max(revision)));
    }

    fn before(&self, began: u64) -> i64 {
        let earlier = self.0.partition_point(|(ended, _)| *ended < began);
        earlier.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Everything that is wrong with a history. Reads of a replica have to show what was acknowledged by the same replica
/// before they began; a read with `min_revision` always has to, and a read of the database has to show what was
/// acknowledged by any.
pub(crate) fn judge(history: &[Operation], log: &Log) -> Vec<String> {
    let mut wrong = Vec::new();
    if !log.0.windows(2).all(|pair| Log::revision(&pair[0]) < Log::revision(&pair[1])) {
        wrong.push("the log is not in the order of revisions".to_owned());
    }
    let requests = log.requests();
    let versions = log.versions(history);
    let mut by_node: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    let mut in_order: Vec<&Operation> = history.iter().collect();
    in_order.sort_by_key(|operation| operation.ended);
    for operation in &in_order {
        by_node.entry(&operation.node).or_default().push(operation);
        if let What::Write { correlation_id, acknowledged: true, .. } = &operation.what
            && !requests.contains_key(&(correlation_id.as_str(), operation.node.as_str()))
        {
            wrong.push(format!("an acknowledged write is missing: {operation:?}"));
        }
    }
    for (node, operations) in by_node {
        let none = Vec::new();
        judge_node(&operations, versions.get(node).unwrap_or(&none), &requests, &mut wrong);
    }
    judge_order(&in_order, &requests, &mut wrong);
    judge_horizons(&in_order, &mut wrong);
    wrong
}

/// The operations on one node, in the order of their ends. Its versions are in the order of revisions, which has to be an
/// order in which the operations can have happened.
fn judge_node(operations: &[&Operation], versions: &[Version], requests: &Requests, wrong: &mut Vec<String>) {
    let mut replicas: HashMap<usize, Known> = HashMap::new();
    let mut anybody = Known::default();
    for operation in operations {
        let learnt = match &operation.what {
            What::Write { correlation_id, acknowledged, on, .. } => {
                let request = (correlation_id.as_str(), operation.node.as_str());
                let Some(revisions) = requests.get(&request) else { continue };
                if let Some(condition) = on
                    && !(revisions.len() == 1 && held(*condition, revisions[0], versions))
                {
                    wrong.push(format!("a write was done though its condition did not hold: {operation:?}"));
                }
                acknowledged.then(|| revisions.iter().copied().max().unwrap_or(0))
            }
            What::Refused(condition) => {
                if !may_have_failed(*condition, operation.ended, versions) {
                    wrong.push(format!("a write was refused though its condition held: {operation:?}"));
                }
                None
            }
            What::Read { found, value, seen, at_least, source } => {
                let known = match source {
                    Source::Replica => replicas.get(&operation.replica),
                    Source::Database => Some(&anybody),
                };
                let floor = known.map_or(0, |known| known.before(operation.began)).max(at_least.unwrap_or(0));
                if at_least.is_some_and(|at_least| seen.is_some_and(|seen| seen < at_least)) {
                    wrong.push(format!("a read is older than was asked for: {operation:?}"));
                }
                let version = explain(*found, floor, operation.ended, versions);
                if version.is_none() {
                    let near = near(versions, floor);
                    wrong.push(format!(
                        "a read shows what was not there then (known: {floor}, versions there: {near:?}): {operation:?}"
                    ));
                }
                if let (Some(read), Some(written)) = (*value, version.and_then(|version| version.value))
                    && read != written
                {
                    wrong.push(format!("a read shows what was not written ({written}): {operation:?}"));
                }
                version.map(|version| version.revision)
            }
        };
        if let Some(revision) = learnt {
            replicas.entry(operation.replica).or_default().push(operation.ended, revision);
            anybody.push(operation.ended, revision);
        }
    }
}

/// Whether this held before the change that has this revision.
fn held(condition: Condition, revision: i64, versions: &[Version]) -> bool {
    let before = versions.partition_point(|version| version.revision < revision).checked_sub(1);
    let before = before.map(|last| versions[last]).filter(|version| version.present);
    match condition {
        Condition::Revision(revision) => before.is_some_and(|version| version.revision == revision),
        Condition::Absent => before.is_none(),
    }
}

/// Whether there can have been a moment, before this one, at which this did not hold any more.
fn may_have_failed(condition: Condition, ended: u64, versions: &[Version]) -> bool {
    versions.iter().any(|version| {
        version.began < ended
            && match condition {
                Condition::Revision(revision) => version.revision > revision,
                Condition::Absent => version.present,
            }
    })
}

/// The versions around a revision, to be shown.
fn near(versions: &[Version], revision: i64) -> &[Version] {
    let at = versions.partition_point(|version| version.revision <= revision);
    &versions[at.saturating_sub(1)..(at + 3).min(versions.len())]
}

/// The oldest version that a read can have seen: not older than the state at `floor`, and begun before the read ended.
fn explain(found: Option<i64>, floor: i64, ended: u64, versions: &[Version]) -> Option<Version> {
    let later = versions.partition_point(|version| version.revision <= floor);
    let start = Version { revision: 0, present: false, began: 0, value: None };
    let at_floor = later.checked_sub(1).map_or(start, |last| versions[last]);
    std::iter::once(at_floor).chain(versions[later..].iter().copied()).find(|version| {
        version.began < ended
            && match found {
                Some(revision) => version.present && version.revision == revision,
                None => !version.present,
            }
    })
}

/// Writes of all replicas and to all nodes are in one order: what began after another one was acknowledged comes after
/// it.
fn judge_order(in_order: &[&Operation], requests: &Requests, wrong: &mut Vec<String>) {
    let mut known = Known::default();
    for operation in in_order {
        let What::Write { correlation_id, acknowledged, .. } = &operation.what else { continue };
        let Some(revisions) = requests.get(&(correlation_id.as_str(), operation.node.as_str())) else {
            continue;
        };
        let before = known.before(operation.began);
        if revisions.iter().any(|revision| *revision <= before) {
            wrong.push(format!("a write is numbered before one that it followed ({before}): {operation:?}"));
        }
        if *acknowledged {
            known.push(operation.ended, revisions.iter().copied().max().unwrap_or(0));
        }
    }
}

/// What a replica has seen never goes back, whoever asks; nor does what the database has.
fn judge_horizons(in_order: &[&Operation], wrong: &mut Vec<String>) {
    let mut horizons: HashMap<(Source, usize), Known> = HashMap::new();
    for operation in in_order {
        if let What::Read { seen: Some(seen), source, .. } = operation.what {
            let replica = if source == Source::Replica { operation.replica } else { 0 };
            let known = horizons.entry((source, replica)).or_default();
            let before = known.before(operation.began);
            if before > seen {
                wrong.push(format!("what was seen went back from {before}: {operation:?}"));
            }
            known.push(operation.ended, seen);
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
    let known: HashSet<i64> = told.iter().copied().collect();
    for revision in expected.iter().filter(|revision| !known.contains(revision)) {
        wrong.push(format!("a watcher was not told of {revision}"));
    }
    let happened: HashSet<i64> = expected.into_iter().collect();
    for revision in told.iter().filter(|revision| !happened.contains(revision)) {
        wrong.push(format!("a watcher was told of {revision}, which did not happen"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log() -> Log {
        let event = |revision: i64, kind: &str, id: &str| json!({"revision": revision, "node_id": "n", "kind": kind, "correlation_id": id});
        Log(vec![event(1, "registered", "a"), event(2, "deregistered", "b"), event(4, "registered", "c")])
    }

    fn write(began: u64, ended: u64, id: &str) -> Operation {
        write_on(began, ended, id, None)
    }

    fn write_on(began: u64, ended: u64, id: &str, on: Option<Condition>) -> Operation {
        let value = i64::try_from(began).unwrap();
        let what = What::Write { correlation_id: id.to_owned(), acknowledged: true, value: Some(value), on };
        Operation { replica: 0, node: "n".to_owned(), began, ended, what }
    }

    fn read(began: u64, ended: u64, found: Option<i64>, seen: i64) -> Operation {
        let what =
            What::Read { found, value: None, seen: Some(seen), at_least: None, source: Source::Replica };
        Operation { replica: 0, node: "n".to_owned(), began, ended, what }
    }

    fn refused(began: u64, ended: u64, condition: Condition) -> Operation {
        Operation { replica: 0, node: "n".to_owned(), began, ended, what: What::Refused(condition) }
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
            refused(220, 230, Condition::Revision(1)),
            refused(240, 250, Condition::Absent),
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
        let what = What::Read {
            found: None,
            value: None,
            seen: Some(1),
            at_least: Some(2),
            source: Source::Replica,
        };
        assert_eq!(faults(&[Operation { what, ..read(20, 30, None, 1) }]), 2, "older than asked for");
    }

    #[test]
    fn a_read_shows_what_was_written() {
        let read_value = |value: i64, source: Source| {
            let what =
                What::Read { found: Some(4), value: Some(value), seen: Some(4), at_least: None, source };
            Operation { what, ..read(310, 320, Some(4), 4) }
        };
        assert_eq!(faults(&[read_value(210, Source::Replica)]), 0);
        assert_eq!(faults(&[read_value(209, Source::Replica)]), 1);
    }

    #[test]
    fn the_database_has_what_any_replica_has_acknowledged() {
        let other = |source: Source| {
            let what = What::Read { found: None, value: None, seen: None, at_least: None, source };
            Operation { what, replica: 1, ..read(101, 105, None, 0) }
        };
        assert_eq!(faults(&[other(Source::Replica)]), 0, "a replica may be behind another one");
        assert_eq!(faults(&[other(Source::Database)]), 1);
    }

    #[test]
    fn conditions_hold_where_a_write_was_done_and_do_not_where_it_was_refused() {
        let history =
            |a, b, c| vec![write_on(10, 100, "a", a), write_on(110, 200, "b", b), write_on(210, 300, "c", c)];
        let judged = |a, b, c| judge(&history(Some(a), Some(b), Some(c)), &log()).len();
        let (absent, first) = (Condition::Absent, Condition::Revision(1));
        assert_eq!(judged(absent, first, absent), 0);
        assert_eq!(judged(first, first, absent), 1);
        assert_eq!(judged(absent, absent, absent), 1);
        assert_eq!(judged(absent, first, Condition::Revision(2)), 1, "a deletion is no registration");
        assert_eq!(faults(&[refused(5, 9, Condition::Absent)]), 1, "there was nothing yet");
        assert_eq!(faults(&[refused(105, 109, Condition::Revision(1))]), 1, "it had not changed yet");
    }

    #[test]
    fn writes_to_several_nodes_are_in_one_order() {
        let event = |revision: i64, node: &str, id: &str| json!({"revision": revision, "node_id": node, "kind": "registered", "correlation_id": id});
        let log = Log(vec![event(1, "m", "later"), event(2, "n", "earlier")]);
        let later = Operation { node: "m".to_owned(), ..write(11, 20, "later") };
        assert_eq!(judge(&[write(1, 10, "earlier"), later.clone()], &log).len(), 1);
        assert_eq!(judge(&[write(1, 12, "earlier"), later], &log).len(), 0, "they may be in any order");
    }

    #[test]
    fn a_watcher_is_told_of_everything_once() {
        assert_eq!(judge_watcher(&[2, 4], 1, &log()).len(), 0);
        assert_eq!(judge_watcher(&[1, 4], 0, &log()).len(), 1);
        assert_eq!(judge_watcher(&[1, 2, 2, 4], 0, &log()).len(), 1);
        assert_eq!(judge_watcher(&[1, 2, 3, 4], 0, &log()).len(), 1);
    }
}
