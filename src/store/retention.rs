//! What becomes of old events: the same words for both stores.
//!
//! Two passes, in small batches. The first follows the log as it grows old, and deletes all but the events that carry
//! the revision of a registered node. The second goes over those that were left, for the nodes that have a newer
//! revision by now, or are gone.

use std::time::Duration;

use crate::node::Revision;

/// So many events are looked at in one transaction: it is short, however many there are.
pub(super) const BATCH: i64 = 1_000;

/// What a batch of the first pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// So many events were deleted.
    pub deleted: u64,
    /// Whether there may be more that are old enough.
    pub more: bool,
}

/// What a batch of the second pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// So many events were deleted.
    pub deleted: u64,
    /// Where the pass goes on; `None`: it has come to its end.
    pub next: Option<Revision>,
}

/// What a statement found to be judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// The events after this one,
    pub(super) after: i64,
    /// up to this one, if there are any.
    pub(super) through: Option<i64>,
    /// How many there are.
    pub(super) events: i64,
}

impl Range {
    pub(super) fn is_full(&self) -> bool {
        self.events == BATCH
    }

    pub(super) fn swept(&self, deleted: u64) -> Swept {
        Swept { deleted, next: self.through.filter(|_| self.is_full()).and_then(Revision::new) }
    }
}

/// A retention in microseconds.
pub(super) fn micros(retention: Duration) -> i64 {
    i64::try_from(retention.as_micros()).unwrap_or(i64::MAX)
}
