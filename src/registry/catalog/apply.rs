//! How what happens gets into the fleet, in whatever order it is heard of. What the follower reads comes by way of
//! `following`.
//!
//! Three things are heard: what our own batches have done, as soon as they are durable; what the follower reads, which is
//! everything, but later; and signs of life. A batch of ours may come before changes of others that are older than it, and
//! what the follower brings may be older than what we have. So:
//!
//! - Of a node, the higher revision of its registration counts.
//! - The fleet's revision is a horizon: all changes up to it are in the fleet. A registration at or below it that isn't
//!   there is one that was removed later.
//! - Above it, removals are remembered: an older registration may still come.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::changes::Change;
use super::fleet::Fleet;
use super::node::Node;
use crate::node::{Event, Horizon, NodeKey, NodeRecord, Revision, ShownRecord, Timestamp};
use crate::store::Recorded;

/// A sign of life may be heard of before the registration, by the transaction that took it, and be younger than what that
/// has read. Not by more than this.
const LATE_MICROS: i64 = 60_000_000;
/// So many changes wait for older ones. If there are more, the follower brings them.
const MAX_WAITING: usize = 65_536;
/// So many removals are remembered, each of another node: several fleets of them.
const MAX_REMOVED: usize = if cfg!(test) { 1_000 } else { 1 << 19 };
/// So many signs of life are remembered of nodes that we don't know yet.
const MAX_EARLY: usize = 65_536;
/// So many nodes are remembered as what they were before they were put in without an event. Whoever watches the others
/// is told that they are what they were already.
const MAX_UNTOLD: usize = 65_536;

/// What a batch of ours has left behind of a node.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is registered so, and shown so.
    Present(NodeRecord, Arc<ShownRecord>),
    /// It is gone, by the event with this number.
    Gone(NodeKey, Revision),
}

/// What is known beside the fleet, until all that came before is known, too.
#[derive(Default)]
pub(super) struct Ahead {
    /// Removed by changes above the fleet's revision.
    removed: HashMap<NodeKey, Revision>,
    /// Batches of ours that come after changes which we haven't heard of, by their last revision.
    waiting: BTreeMap<Revision, Waiting>,
    /// How many changes these have.
    waiting_changes: usize,
    /// Signs of life of nodes that we don't know. The follower brings those; what isn't there the second time is gone.
    early: [HashMap<NodeKey, Timestamp>; 2],
    /// What nodes were that were put in without an event: their next event is to tell of that, too.
    untold: HashMap<NodeKey, Option<Arc<Node>>>,
}

struct Waiting {
    previous: Revision,
    changes: Vec<Arc<Change>>,
}

/// A fleet that is being changed.
pub(super) struct Applying<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) ahead: &'a mut Ahead,
    /// What the nodes were that are changed by this.
    pub(super) before: HashMap<NodeKey, Option<Arc<Node>>>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(fleet: &'a mut Fleet, ahead: &'a mut Ahead) -> Self {
        Self { fleet, ahead, before: HashMap::new() }
    }

    /// See [`super::Catalog::written`].
    pub(super) fn written(mut self, recorded: &[Recorded], outcomes: Vec<Outcome>) -> Vec<NodeKey> {
        let known = self.fleet.revision;
        let mut unknown = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Present(record, shown) => {
                    // What isn't there, and is not newer than all that we know, was removed since.
                    let may_be_new = record.revision > known
                        && self.newest_removal(&record.node_id) < Some(record.revision);
                    let id = record.node_id.clone();
                    if !self.present(record, Some(shown), may_be_new) {
                        unknown.push(id);
                    }
                }
                Outcome::Gone(id, revision) => self.gone(&id, revision),
            }
        }
        for Recorded { previous, events } in recorded {
            let Some(last) = events.last().map(|event| event.revision) else { continue };
            if last <= self.fleet.revision {
                continue;
            }
            let changes: Vec<_> = events.iter().map(|event| self.change(event.clone())).collect();
            self.ahead.wait(last, Waiting { previous: *previous, changes });
        }
        self.catch_up();
        self.come_true();
        unknown
    }

    /// A node as somebody has read it, and its JSON if it is at hand. Returns whether it is there so now, or as something
    /// newer.
    pub(super) fn present(
        &mut self,
        mut record: NodeRecord,
        shown: Option<Arc<ShownRecord>>,
        may_be_new: bool,
    ) -> bool {
        let present = self.fleet.get(&record.node_id).cloned();
        match &present {
            None if !may_be_new => {
                self.touch(&record.node_id, present);
                return false;
            }
            Some(node) if node.revision() > record.revision => {
                self.touch(&record.node_id, present);
                return true;
            }
            Some(node) if node.revision() == record.revision => {
                let is_same = shown.is_none_or(|shown| node.is_shown_as(&shown));
                if node.registered_at() == record.registered_at {
                    node.renewed(record.updated_at);
                    if let Some(at) = record.last_heartbeat {
                        node.seen_alive(at);
                    }
                }
                self.touch(&record.node_id, present);
                return is_same;
            }
            Some(node) => {
                let late = self.late();
                let is_same = node.registered_at() == record.registered_at;
                // Or it was taken of this one already, when we only knew the one before.
                let is_its = |at: &Timestamp| *at >= late && (is_same || *at >= record.registered_at);
                record.last_heartbeat = record.last_heartbeat.max(node.last_heartbeat().filter(is_its));
                if is_same && node.updated_at() >= late {
                    record.updated_at = record.updated_at.max(node.updated_at());
                }
            }
            None => {}
        }
        self.ahead.removed.remove(&record.node_id);
        self.touch(&record.node_id, present);
        match shown {
            Some(shown) => self.fleet.put_shown(&record, shown),
            None => self.fleet.put(record),
        };
        true
    }

    /// A node that was removed, at the latest by the change with this number.
    pub(super) fn gone(&mut self, id: &NodeKey, by: Revision) {
        let present = self.fleet.get(id).cloned();
        if present.as_ref().is_none_or(|node| node.revision() <= by) {
            if by > self.fleet.revision {
                let newest = self.ahead.removed.entry(id.clone()).or_insert(by);
                *newest = by.max(*newest);
            }
            // It may have been of the one that is registered next.
            let heartbeat = present.as_ref().and_then(|node| node.last_heartbeat());
            if let Some(at) = heartbeat.filter(|at| *at >= self.late()) {
                self.ahead.early(id, at);
            }
            self.fleet.remove(id);
        }
        self.touch(id, present);
    }

    /// What was noted before this is in all that is read now.
    fn late(&self) -> Timestamp {
        self.fleet.horizon.at.minus_micros(LATE_MICROS)
    }

    pub(super) fn newest_removal(&self, id: &NodeKey) -> Option<Revision> {
        self.ahead.removed.get(id).copied()
    }

    /// Remembers what a node was before this.
    pub(super) fn touch(&mut self, id: &NodeKey, was: Option<Arc<Node>>) {
        self.before.entry(id.clone()).or_insert(was);
    }

    pub(super) fn change(&mut self, event: Event) -> Arc<Change> {
        let after = self.fleet.get(&event.node_id).cloned();
        let untold = self.ahead.untold.remove(&event.node_id);
        let before =
            untold.or_else(|| self.before.get(&event.node_id).cloned()).unwrap_or_else(|| after.clone());
        Arc::new(Change { event, before, after })
    }

    /// Goes on over the batches that waited for what is known now.
    pub(super) fn catch_up(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.ahead.waiting.first_entry() {
            if first.get().previous > self.fleet.revision {
                break;
            }
            let (last, batch) = first.remove_entry();
            self.ahead.waiting_changes -= batch.changes.len();
            for change in batch.changes {
                if change.event.revision > self.fleet.revision {
                    self.fleet.changes.push(change, now);
                }
            }
            self.fleet.revision = self.fleet.revision.max(last);
        }
        let revision = self.fleet.revision;
        self.ahead.removed.retain(|_, removed| *removed > revision);
    }

    /// Notes the signs of life that came early, of those nodes of this that are known now.
    pub(super) fn come_true(&mut self) {
        for early in self.ahead.early.iter_mut().filter(|early| !early.is_empty()) {
            for id in self.before.keys() {
                let Some(node) = self.fleet.get(id) else { continue };
                // What has come since may be another with the same id.
                if let Some(at) = early.remove(id).filter(|at| *at >= node.registered_at()) {
                    node.seen_alive(at);
                }
            }
        }
    }
}

/// Judges by a horizon, unless it is older than the one that is.
pub(super) fn judge_by(fleet: &mut Fleet, horizon: Horizon) -> bool {
    let is_newer = horizon.at >= fleet.horizon.at && horizon != fleet.horizon;
    if is_newer {
        fleet.horizon = horizon;
    }
    is_newer
}

impl Ahead {
    /// The changes above the fleet's revision that are in the fleet already.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Arc<Change>> {
        self.waiting.values().flat_map(|batch| &batch.changes)
    }

    /// Whether a node was removed by one of them, or by what the follower hasn't got to yet.
    pub(super) fn is_removed(&self, id: &NodeKey) -> bool {
        self.removed.contains_key(id)
    }

    /// Whether a batch of ours waits for changes that others made before it.
    pub(super) fn has_gap(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether changes of others have been waited for for too long to remember all that has been removed meanwhile.
    pub(super) fn is_too_far(&self) -> bool {
        self.removed.len() > MAX_REMOVED
    }

    fn wait(&mut self, last: Revision, batch: Waiting) {
        self.waiting_changes += batch.changes.len();
        self.waiting.insert(last, batch);
        while self.waiting_changes > MAX_WAITING {
            // The last ones are waited for longest.
            let Some((_, batch)) = self.waiting.pop_last() else { return };
            self.waiting_changes -= batch.changes.len();
        }
    }

    /// The changes that waited, by their revisions, of the batches that begin at or below one.
    pub(super) fn changes_up_to(&self, revision: Revision) -> HashMap<Revision, Arc<Change>> {
        let begun = self.waiting.values().take_while(|batch| batch.previous < revision);
        begun
            .flat_map(|batch| &batch.changes)
            .map(|change| (change.event.revision, Arc::clone(change)))
            .collect()
    }

    /// Remembers what a node was before it was put in without an event.
    pub(super) fn untold(&mut self, id: &NodeKey, was: Option<Arc<Node>>) {
        if self.untold.len() < MAX_UNTOLD && !self.untold.contains_key(id) {
            self.untold.insert(id.clone(), was);
        }
    }

    /// Remembers a sign of life of a node that we don't know.
    pub(super) fn early(&mut self, id: &NodeKey, at: Timestamp) {
        let [early, _] = &mut self.early;
        if early.len() < MAX_EARLY || early.contains_key(id) {
            let latest = early.entry(id.clone()).or_insert(at);
            *latest = at.max(*latest);
        }
    }

    /// Forgets the signs of life that were not even of nodes that the follower has brought since.
    pub(super) fn forget_early(&mut self) {
        self.early.swap(0, 1);
        let [forgotten, _] = &mut self.early;
        forgotten.clear();
    }
}
