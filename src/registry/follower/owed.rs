//! Changes of the table that no event has told of, until one does.
//!
//! The replica that leads records the event, and every other one hears of the change by it, as of any. But there may be
//! nobody who can record it: no replica leads, or another transaction holds the row. The catalog must come right anyway,
//! so a difference that stays for long is no longer waited for. The event is owed even then, and recorded once it can be.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::node::{EventKind, NodeKey, NodeRecord, Revision};
use crate::store::Unrecorded;

/// How long an event is waited for at the least: the leader compares no more often than anybody else, and then has to
/// write.
const SHORTEST_WAIT: Duration = Duration::from_secs(10);
/// How long it is owed at the most. By then whoever asks for the list has long seen what it would tell of.
const LONGEST_DEBT: Duration = Duration::from_hours(1);
/// So many events are owed at the most. What is above that is found again at the next comparison.
const MOST: usize = 100_000;

/// The events that are owed.
#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<NodeKey, Debt>);

#[derive(Debug)]
struct Debt {
    kind: EventKind,
    /// The newest number of the registration when the difference was seen.
    revision: Revision,
    since: Instant,
    /// The catalog has it by another way than by the event.
    is_known: bool,
}

impl Owed {
    /// Whose events are owed.
    pub(super) fn ids(&self) -> impl Iterator<Item = &NodeKey> {
        self.0.keys()
    }

    /// What is to be recorded.
    pub(super) fn unrecorded(&self) -> Vec<Unrecorded> {
        self.0.iter().map(unrecorded).collect()
    }

    /// The same, of these nodes.
    pub(super) fn unrecorded_of(&self, ids: &[NodeKey]) -> Vec<Unrecorded> {
        ids.iter().filter_map(|id| self.0.get_key_value(id)).map(unrecorded).collect()
    }

    /// Those of these nodes that the catalog doesn't have as the table does.
    pub(super) fn unknown_of(&self, ids: &[NodeKey]) -> Vec<NodeKey> {
        let is_unknown = |id: &&NodeKey| self.0.get(*id).is_some_and(|debt| !debt.is_known);
        ids.iter().filter(is_unknown).cloned().collect()
    }

    /// Table and catalog differ in a node; whether that is news.
    pub(super) fn note(&mut self, id: &NodeKey, kind: EventKind, revision: Revision) -> bool {
        let is_same = |debt: &Debt| debt.kind == kind && debt.revision == revision && !debt.is_known;
        if self.0.get(id).is_some_and(is_same) {
            return false;
        }
        if self.0.len() < MOST || self.0.contains_key(id) {
            self.0.insert(id.clone(), Debt { kind, revision, since: Instant::now(), is_known: false });
        }
        true
    }

    /// Table and catalog agree in a node, which the table has like this.
    pub(super) fn agree(&mut self, id: &NodeKey, record: Option<&NodeRecord>) {
        let is_owed = |debt: &mut Debt| match record {
            _ if !debt.is_known || debt.since.elapsed() > LONGEST_DEBT => false,
            // Nobody has told anything of it since.
            Some(record) => debt.kind != EventKind::Deregistered && record.revision == debt.revision,
            None => debt.kind == EventKind::Deregistered,
        };
        if self.0.get_mut(id).is_some_and(|debt| !is_owed(debt)) {
            self.0.remove(id);
        }
    }

    /// The event of a node has been recorded.
    pub(super) fn told(&mut self, id: &NodeKey) {
        self.0.remove(id);
    }

    /// How many nodes the catalog has not come right in, for so long that it isn't waited for any more.
    pub(super) fn overdue(&self, every: Duration) -> usize {
        let wait = SHORTEST_WAIT.max(every * 2);
        self.0.values().filter(|debt| !debt.is_known && debt.since.elapsed() >= wait).count()
    }

    /// The catalog has taken a node from the table.
    pub(super) fn is_known(&mut self, id: &NodeKey) {
        if let Some(debt) = self.0.get_mut(id) {
            debt.is_known = true;
        }
    }

    /// The catalog is made from the table.
    pub(super) fn all_are_known(&mut self) {
        self.0.values_mut().for_each(|debt| debt.is_known = true);
    }
}

fn unrecorded((id, debt): (&NodeKey, &Debt)) -> Unrecorded {
    Unrecorded { node_id: id.clone(), kind: debt.kind, revision: debt.revision }
}
