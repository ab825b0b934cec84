//! What a change means to somebody who has asked for certain nodes.

use std::sync::Arc;

use super::WatchQuery;
use crate::node::{DiscoveryQuery, EventKind, Shown, Ttl};
use crate::registry::catalog::{Change, Fleet, Node};

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

/// What to tell of a change, if anything. The node is judged as it is now: a later change may have come already.
pub(super) fn judge(fleet: &Fleet, ttl: Ttl, query: &WatchQuery, change: Arc<Change>) -> Option<Told> {
    if !change.event.is_of(&query.kinds) {
        return None;
    }
    let present = fleet.get(&change.event.node_id);
    let matches = present.is_some_and(|node| fleet.matches(&query.nodes, node));
    if !matches && !concerns(fleet, &query.nodes, &change) {
        return None;
    }
    let node = present.map(|node| node.show(fleet.horizon(), ttl));
    Some(Told { change, node, matches })
}

/// Whether the node may have matched before the change or after it. Its status isn't looked at: what it was is not known
/// any more, and a change may be that it is another one.
pub(super) fn concerns(fleet: &Fleet, query: &DiscoveryQuery, change: &Change) -> bool {
    let may_match = |node: &Arc<Node>| fleet.may_match(query, node);
    let registered = change.event.kind == EventKind::Registered.as_str();
    let before = match &change.before {
        Some(node) => may_match(node),
        // There was none, or nobody knows any more which.
        None => !registered,
    };
    let after = match &change.after {
        Some(node) => may_match(node),
        // Of one that was registered and is gone again, nobody knows what it was.
        None => registered,
    };
    before || after
}
