//! Judges histories. Every write has a correlation id, by which the log of events tells its revision: so each operation
//! is a version of its node, and an order that explains all answers is found without trying out orders.
//!
//! `scripts/chaos` has its histories judged here, too.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

/// How what is wrong with a write that was acknowledged and is not in the log begins.
pub(crate) const MISSING: &str = "an acknowledged write is missing";

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

    /// Of the writes that were acknowledged: when that was, and with which revision.
    #[allow(dead_code, reason = "for scripts/chaos")]
    pub(crate) fn acknowledged(&self, history: &[Operation]) -> Vec<(u64, i64)> {
        let requests = self.requests();
        let writes = history.iter().filter_map(|operation| match &operation.what {
            What::Write { correlation_id, acknowledged: true, .. } => {
                let revisions = requests.get(&(correlation_id.as_str(), operation.node.as_str()))?;
                Some((operation.ended, revisions.iter().copied().max()?))
            }
            _ => None,
        });
        writes.collect()
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
            wrong.push(format!("{MISSING}: {operation:?}"));
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
            // What the database says passes the replica by.
            if !matches!(operation.what, What::Read { source: Source::Database, .. }) {
                replicas.entry(operation.replica).or_default().push(operation.ended, revision);
            }
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
