//! The fleet at a revision. It never changes, but for the signs of life of its nodes.

use std::sync::Arc;

use crate::node::{
    DiscoveryQuery, Event, Horizon, Moment, NodeKey, Revision, Shown, ShownRecord, Summary, Ttl,
};
use crate::store::Digest;

/// The fleet at a revision.
pub struct Fleet {
    revision: Revision,
    horizon: Horizon,
}

/// A registered node.
pub struct Node {
    shown: Arc<ShownRecord>,
}

/// A page of nodes.
pub struct Found {
    /// The nodes, in the order of their ids.
    pub nodes: Vec<Arc<Node>>,
    /// Whether more follow.
    pub more: bool,
}

/// An event, and what it did.
pub struct Change {
    /// The event.
    pub event: Event,
    /// The node before it, if that is known.
    pub before: Option<Arc<Node>>,
    /// The node as it was when the event was taken: with this change and maybe with later ones; `None` if it was gone.
    pub after: Option<Arc<Node>>,
}

/// The changes that were asked for are not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Changes after this one are kept.
    pub kept_after: Revision,
}

impl Node {
    /// The node as it is shown now.
    #[must_use]
    pub fn show(&self, _horizon: &Horizon, _server_ttl: Ttl) -> Shown {
        Shown { record: Arc::clone(&self.shown), moment: self.moment() }
    }

    fn moment(&self) -> Moment {
        unreachable!("no fleet is made yet")
    }
}

impl Fleet {
    /// All changes up to this one are in it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How often the whole fleet has been loaded.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        0
    }

    /// What status is judged by: all signs of life until then are known.
    #[must_use]
    pub fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// One node.
    #[must_use]
    pub fn get(&self, _id: &NodeKey) -> Option<&Arc<Node>> {
        None
    }

    /// One page of nodes.
    #[must_use]
    pub fn discover(&self, _query: &DiscoveryQuery) -> Found {
        Found { nodes: Vec::new(), more: false }
    }

    /// Whether a node is one that a query asks for, whatever page it would be on.
    #[must_use]
    pub fn matches(&self, _query: &DiscoveryQuery, _node: &Node) -> bool {
        false
    }

    /// Whether it would be, if its status were the one that is asked for.
    #[must_use]
    pub fn may_match(&self, _query: &DiscoveryQuery, _node: &Node) -> bool {
        false
    }

    /// What tells whether the table has the same of a node.
    #[must_use]
    pub fn digest(&self, _id: &NodeKey) -> Option<Digest> {
        None
    }

    /// All nodes with their digests, in no particular order.
    pub fn digests(&self) -> impl Iterator<Item = (&NodeKey, Digest)> {
        std::iter::empty()
    }

    /// How many nodes there are. Goes through all of them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        crate::node::SummaryBuilder::default().finish()
    }

    /// The changes after a revision, in their order.
    ///
    /// # Errors
    /// If not all of them are kept.
    pub fn changes_after(&self, _after: Revision) -> Result<Vec<Arc<Change>>, Behind> {
        Ok(Vec::new())
    }
}
