//! The fleet at a revision. It never changes, but for the signs of life of its nodes.

use std::collections::HashMap;
use std::sync::Arc;

use imbl::{OrdMap, Vector};

use super::changes::{Behind, Change, Changes};
use super::find;
use super::index::Index;
use super::lists::Lists;
use super::node::{Node, Parts};
use super::postings::Postings;
use super::slots::Slots;
use super::tokens;
use crate::node::{
    DiscoveryQuery, Horizon, NodeKey, NodeRecord, Revision, Shown, ShownRecord, Status, Summary,
    SummaryBuilder, Timestamp, Ttl,
};
use crate::store::{Digest, EventMark, Recorded};

/// How old the horizon may be, with some to spare.
const OLDEST_HORIZON_MICROS: i64 = 5_000_000;

/// The fleet at a revision. A copy costs nothing: it shares all that neither changes.
#[derive(Clone)]
pub struct Fleet {
    pub(super) epoch: u64,
    pub(super) revision: Revision,
    pub(super) horizon: Horizon,
    pub(super) changes: Changes,
    ttl: Ttl,
    nodes: Slots<Arc<Node>>,
    /// How many nodes there are.
    count: usize,
    /// What their records take, in bytes of JSON.
    bytes: usize,
    /// Slots by the tokens of ids.
    ids: OrdMap<u64, Postings>,
    lists: Lists,
    index: Index,
    /// Slots that nodes have had. All others below the number of nodes and these are in use.
    free: Vector<u32>,
}

/// A page of nodes.
pub struct Found {
    /// The nodes, in the order of their ids, as they were judged.
    pub nodes: Vec<Shown>,
    /// Whether more follow.
    pub more: bool,
}

impl Fleet {
    /// A fleet without nodes.
    pub(super) fn empty(ttl: Ttl, epoch: u64) -> Self {
        Self {
            epoch,
            revision: Revision::ZERO,
            horizon: Horizon::at(Timestamp::NEG_INFINITY),
            changes: Changes::after(Revision::ZERO, None),
            ttl,
            nodes: Slots::default(),
            count: 0,
            bytes: 0,
            ids: OrdMap::new(),
            lists: Lists::default(),
            index: Index::default(),
            free: Vector::new(),
        }
    }

    /// A fleet without nodes, into which many are to be put before anybody asks for them.
    pub(super) fn to_be_loaded(ttl: Ttl, epoch: u64) -> Self {
        Self { index: Index::to_be_filled(), ..Self::empty(ttl, epoch) }
    }

    /// From now on a copy costs nothing.
    pub(super) fn share(&mut self) {
        self.index.share();
    }

    /// All nodes have been put in, as they are at a revision.
    pub(super) fn loaded(&mut self, revision: Revision, horizon: Horizon) {
        self.share();
        self.revision = revision;
        self.horizon = horizon;
        self.changes = Changes::after(revision, None);
    }

    /// The newest event was this one when all nodes were put in.
    pub(super) fn loaded_after(&mut self, last: Option<EventMark>) {
        self.changes = Changes::after(self.revision, last);
    }

    /// The newest event up to its revision, if one is known.
    #[must_use]
    pub fn last_event(&self) -> Option<EventMark> {
        self.changes.newest()
    }

    /// All changes up to this one are in it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How often the whole fleet has been loaded. Another number than before: revisions may have gone back, and what was
    /// seen before has nothing to do with this.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether what a batch of ours has recorded doesn't go on from what is known.
    pub(super) fn is_contradicted_by(&self, recorded: &[Recorded]) -> bool {
        recorded.iter().any(|recorded| self.changes.contradict(self.revision, recorded))
    }

    /// What status is judged by: all signs of life until then are known.
    #[must_use]
    pub fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One node.
    #[must_use]
    pub fn get(&self, id: &NodeKey) -> Option<&Arc<Node>> {
        self.node(self.slot(id.as_str())?)
    }

    /// One page of nodes.
    #[must_use]
    pub fn discover(&self, query: &DiscoveryQuery) -> Found {
        // There is no query that takes so many.
        self.discover_within(query, u64::MAX).unwrap_or(Found { nodes: Vec::new(), more: false })
    }

    /// One page of nodes, if it can be had by stepping over so many nodes. `None`: to find it takes longer, and is not to
    /// be done where others wait.
    #[must_use]
    pub fn discover_within(&self, query: &DiscoveryQuery, steps: u64) -> Option<Found> {
        find::page(self, query, steps)
    }

    /// A node as it is shown now: all signs of life are in it, whenever the fleet was made.
    #[must_use]
    pub fn show(&self, node: &Node) -> Shown {
        node.show(&self.horizon, self.ttl)
    }

    /// How many nodes there are, of what. Goes through all of them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut kinds = HashMap::new();
        self.nodes.for_each(&mut |node| {
            let kind = node.kind();
            let (_, counts) = kinds.entry(kind.of_both).or_insert((kind, [0_u64; Status::ALL.len()]));
            counts[node.status(&self.horizon, self.ttl) as usize] += 1;
        });
        let mut summary = SummaryBuilder::default();
        for (kind, counts) in kinds.into_values() {
            for status in Status::ALL {
                let nodes = counts[status as usize];
                if nodes > 0 {
                    summary.add(kind.node_type.to_string(), kind.node_version.to_string(), status, nodes);
                }
            }
        }
        summary.finish()
    }

    /// Calls `visit` with each node, in no particular order.
    pub fn for_each<'f>(&'f self, mut visit: impl FnMut(&'f Node)) {
        self.nodes.for_each(&mut |node| visit(node));
    }

    /// Calls `visit` with each node and what tells its copy of the registration from others. Goes through all of them.
    pub fn for_each_digest<'f>(&'f self, mut visit: impl FnMut(&'f NodeKey, Digest)) {
        self.nodes.for_each(&mut |node| visit(node.id(), node.digest()));
    }

    /// The next changes after a revision, in their order. Fewer than are asked for are all there are.
    ///
    /// # Errors
    /// If not all of them are kept.
    pub fn changes_after(&self, after: Revision, at_most: usize) -> Result<Vec<Arc<Change>>, Behind> {
        self.changes.since(after, at_most)
    }

    /// How many changes are kept.
    #[must_use]
    pub fn kept_changes(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn lists(&self) -> &Lists {
        &self.lists
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn node(&self, slot: u32) -> Option<&Arc<Node>> {
        self.nodes.get(slot)
    }

    pub(super) fn slot(&self, id: &str) -> Option<u32> {
        let mut found = None;
        // Another id may have the same token.
        self.ids.get(&tokens::of_id(id))?.for_each(|slot| {
            if self.node(slot).is_some_and(|node| node.id().as_str() == id) {
                found = Some(slot);
            }
        });
        found
    }

    /// All nodes, in the order of their ids.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        let entries = self.lists.from(super::lists::ALL, std::ops::Bound::Unbounded);
        entries.filter_map(|entry| self.node(entry.slot).cloned()).collect()
    }

    /// Puts a node in, in place of what it was.
    pub(super) fn put(&mut self, mut record: NodeRecord) -> Arc<Node> {
        if let Some(old) = self.get(&record.node_id) {
            // The text of the id is kept once, whoever brings another copy of it.
            record.node_id.clone_from(old.id());
        }
        let shown = Arc::new(ShownRecord::of(&record));
        self.put_shown(&record, shown)
    }

    /// The same of a record whose JSON somebody has made already. Signs of life are those of the record.
    pub(super) fn put_shown(&mut self, record: &NodeRecord, shown: Arc<ShownRecord>) -> Arc<Node> {
        let (slot, old) = match self.slot(record.node_id.as_str()) {
            Some(slot) => (slot, self.node(slot).cloned()),
            None => (self.enter(&record.node_id), None),
        };
        let kind = [&*record.node_type, &*record.node_version];
        let kind = self.lists.set(&record.node_id, slot, old.as_deref().map(Node::kind), kind);
        let unlisted = self.index.set(slot, old.as_deref(), &shown, self.bytes);
        let node = Arc::new(Node::new(record, Parts { shown, kind, unlisted }));
        self.bytes += node.rendered_bytes();
        self.bytes -= old.map_or(0, |old| old.rendered_bytes());
        self.nodes.set(slot, Some(Arc::clone(&node)));
        node
    }

    /// Takes a node out.
    pub(super) fn remove(&mut self, id: &NodeKey) {
        let Some(slot) = self.slot(id.as_str()) else { return };
        let Some(old) = self.nodes.set(slot, None) else { return };
        self.lists.clear(id, old.kind());
        self.index.clear(slot, &old);
        let token = tokens::of_id(id.as_str());
        if self.ids.get_mut(&token).is_some_and(|slots| slots.remove(slot)) {
            self.ids.remove(&token);
        }
        self.count -= 1;
        self.bytes -= old.rendered_bytes();
        self.free.push_back(slot);
    }

    /// A slot for a new node.
    fn enter(&mut self, id: &NodeKey) -> u32 {
        // More nodes than numbers don't fit into any memory.
        let slot = self.free.pop_front().unwrap_or(u32::try_from(self.count).unwrap_or(u32::MAX));
        let token = tokens::of_id(id.as_str());
        match self.ids.get_mut(&token) {
            Some(slots) => slots.insert(slot),
            None => {
                self.ids.insert(token, Postings::One(slot));
            }
        }
        self.count += 1;
        slot
    }

    /// Notes a sign of life; `false` if there is no such node. One from before a node registered was of another that had
    /// its id. But a foreign writer may say that a node registers in the future: that is no reason not to believe it.
    pub(super) fn seen_alive(&self, id: &NodeKey, at: Timestamp) -> bool {
        let Some(node) = self.get(id) else { return false };
        let registered_at = node.registered_at();
        if at >= registered_at || registered_at > self.horizon.at.plus_micros(OLDEST_HORIZON_MICROS) {
            node.seen_alive(at);
        }
        true
    }

    #[cfg(test)]
    pub(super) fn leaves_nothing(&self) -> bool {
        self.count == 0
            && self.bytes == 0
            && self.ids.is_empty()
            && self.lists.is_empty()
            && self.index.is_empty()
    }
}
