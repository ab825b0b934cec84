//! The whole fleet in memory, equal to the table up to a revision.
//!
//! Readers take a [`Fleet`], which never changes, and never wait for anybody. Writers (our own batches, and the
//! follower) make the next one from it.

mod fleet;

use std::sync::Arc;

use tokio::sync::watch;

use crate::node::{NodeKey, NodeRecord, Revision, ShownRecord, Timestamp, Ttl};
use crate::store::{Followed, Loaded, Recorded, Seen};

pub use self::fleet::{Behind, Change, Fleet, Found, Node};

/// The fleet as it is now, and how it becomes what it is next.
pub struct Catalog {
    ttl: Ttl,
    revision: watch::Sender<Option<Revision>>,
}

/// What a batch of ours has left behind of a node.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is registered so, and shown so.
    Present(NodeRecord, Arc<ShownRecord>),
    /// It is gone, by the event with this number.
    Gone(NodeKey, Revision),
}

impl Catalog {
    /// A catalog that isn't loaded.
    #[must_use]
    pub fn new(ttl: Ttl) -> Self {
        Self { ttl, revision: watch::Sender::new(None) }
    }

    /// The fleet; `None` before it is loaded.
    #[must_use]
    pub fn fleet(&self) -> Option<Arc<Fleet>> {
        let _ = self.ttl;
        None
    }

    /// The revision up to which all changes are in the fleet, whenever it changes; `None` before it is loaded.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<Option<Revision>> {
        self.revision.subscribe()
    }

    /// Takes what a batch of ours has done. It can be read when this returns, before all changes that others made
    /// before it are known; the revision goes on as soon as they are.
    pub fn written(&self, _recorded: &[Recorded], _outcomes: Vec<Outcome>) {}

    /// Takes signs of life that we have noted.
    pub fn beaten(&self, _beats: &[(NodeKey, Timestamp)]) {}

    /// Begins to take the whole table. What is written meanwhile is not forgotten.
    #[must_use]
    pub fn load(&self) -> Loading<'_> {
        Loading { _catalog: self }
    }

    /// Takes what the follower has read. Nothing of it is taken twice, and nothing undoes what is newer.
    pub fn followed(&self, _followed: Followed) {}

    /// Takes some nodes as a snapshot of the table has them, whatever is known of them, except where more is known than
    /// was in the snapshot. For changes that no event tells of.
    pub fn corrected(&self, _snapshot: &Seen<()>, _records: Vec<NodeRecord>, _gone: &[NodeKey]) {}

    /// Whether a batch of ours waits for changes that others made before it, and that are not known yet.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        false
    }

    /// Waits until there is such a gap.
    pub async fn gap(&self) {
        std::future::pending().await
    }
}

/// The table, as it comes.
pub struct Loading<'a> {
    _catalog: &'a Catalog,
}

impl Loading<'_> {
    /// The next record.
    pub fn take(&mut self, _record: NodeRecord) {}

    /// All records have been taken: the fleet is this, and what was written meanwhile.
    pub fn finish(self, _loaded: &Loaded) {}
}
