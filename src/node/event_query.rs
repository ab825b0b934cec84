//! A question to the audit trail: which events, and from where on.

use std::collections::BTreeSet;

use super::event::EventKind;
use super::query::PageLimit;
use super::revision::Revision;
use super::text::ColumnText;

/// Which events, in the order of their revisions. All conditions hold. What a client names becomes a field of this or
/// is refused; what it gives as values is bound, and never becomes SQL text.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only events after this one; `None`: from the oldest that is kept.
    pub after: Option<Revision>,
    /// Of one of these nodes; `None`: of any. A set that is empty has no events.
    pub node_ids: Option<BTreeSet<ColumnText>>,
    /// Of one of these kinds; empty: of any.
    pub kinds: Vec<EventKind>,
    /// How many events at most.
    pub limit: PageLimit,
}

impl EventQuery {
    /// So many nodes can be asked for at once: each is looked up by itself.
    pub const MAX_NODE_IDS: usize = 100;
}
