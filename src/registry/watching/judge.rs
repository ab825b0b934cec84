//! What a change means to somebody who has asked for certain nodes.

use std::sync::Arc;

use crate::node::{DiscoveryQuery, EventKind, Shown, Ttl};
use crate::registry::catalog::{Change, Conditions, Fleet};

/// A change that a watcher is told.
#[derive(Clone)]
pub struct Told {
    /// What happened.
    pub change: Arc<Change>,
    /// The node as it is now; `None` if it is gone.
    pub node: Option<Shown>,
    /// Whether the node is one that was asked for. If not, it was one before this, or may have been.
    pub matches: bool,
}

/// One who has asked for certain nodes, and looks at a fleet.
pub(super) struct Judge<'q> {
    query: &'q DiscoveryQuery,
    conditions: Conditions<'q>,
    fleet: &'q Fleet,
}

impl<'q> Judge<'q> {
    pub(super) fn new(query: &'q DiscoveryQuery, fleet: &'q Fleet) -> Self {
        Self { query, conditions: Conditions::of(query), fleet }
    }

    /// What to tell of a change, if anything. The node is judged as it is now: a later change may have come already.
    pub(super) fn told(&self, change: Arc<Change>, ttl: Ttl) -> Option<Told> {
        let present = self.fleet.get(&change.event.node_id);
        let matches =
            present.is_some_and(|node| self.fleet.has_status(self.query, node) && self.conditions.hold(node));
        if !matches && !self.concerns(&change) {
            return None;
        }
        let node = present.map(|node| node.show(self.fleet.horizon(), ttl));
        Some(Told { change, node, matches })
    }

    /// Whether the node may have matched before the change or after it. Its status isn't looked at: what it was is not
    /// known any more, and a change may be that it is another one.
    pub(super) fn concerns(&self, change: &Change) -> bool {
        let registered = change.event.kind == EventKind::Registered.as_str();
        let before = match &change.before {
            Some(node) => self.conditions.hold(node),
            // There was none, or nobody knows any more which.
            None => !registered,
        };
        let after = match &change.after {
            Some(node) => self.conditions.hold(node),
            // Of one that was registered and is gone again, nobody knows what it was.
            None => registered,
        };
        before || after
    }
}
