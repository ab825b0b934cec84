//! The last changes, in the order of their revisions.

use std::sync::Arc;

use imbl::Vector;

use super::node::Node;
use crate::node::{Event, Revision};
use crate::store::{EventMark, Recorded};

/// So many changes are kept,
const MAX_CHANGES: usize = 16_384;
/// and so many bytes of what they keep alive.
const MAX_BYTES: usize = 16 * 1024 * 1024;

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

impl Change {
    /// What it takes of memory. What the node is after it is in the fleet, or before a later change.
    pub(super) fn bytes(&self) -> usize {
        const FRAME: usize = 512;
        FRAME + self.before.as_ref().map_or(0, |node| node.rendered_bytes())
    }
}

/// All changes after a revision and up to that of the fleet. A copy costs nothing.
#[derive(Clone)]
pub(super) struct Changes {
    kept: Vector<Arc<Change>>,
    kept_after: Revision,
    bytes: usize,
    /// The newest event up to the revision of the fleet, kept or not.
    newest: Option<EventMark>,
}

impl Changes {
    /// None yet: the fleet was read as it is at this revision, and the newest event was this one.
    pub(super) fn after(revision: Revision, newest: Option<EventMark>) -> Self {
        Self { kept: Vector::new(), kept_after: revision, bytes: 0, newest }
    }

    /// The newest event up to the revision of the fleet.
    pub(super) fn newest(&self) -> Option<EventMark> {
        self.newest
    }

    /// Whether a batch was recorded in another log than these are of, while all changes up to a revision are known. Then
    /// the database was restored, or another one has taken its place.
    pub(super) fn contradict(&self, known: Revision, recorded: &Recorded) -> bool {
        let (Some(newest), Some(first)) = (self.newest, recorded.events.first()) else { return false };
        // What was the newest before it is older than one that we have seen.
        if first.revision > known && recorded.previous < newest.revision {
            return true;
        }
        recorded.events.iter().take_while(|event| event.revision <= known).any(|event| {
            if event.revision > self.kept_after {
                self.kept(event.revision).is_none_or(|kept| EventMark::from(kept) != event.into())
            } else {
                // It may have been there when the table was read, but then it is not the youngest.
                event.occurred_at > newest.occurred_at
            }
        })
    }

    fn kept(&self, revision: Revision) -> Option<&Event> {
        let place = self.kept.binary_search_by(|change| change.event.revision.cmp(&revision)).ok()?;
        Some(&self.kept.get(place)?.event)
    }

    /// The next change.
    pub(super) fn push(&mut self, change: Arc<Change>) {
        self.bytes += change.bytes();
        self.newest = Some(EventMark::from(&change.event));
        self.kept.push_back(change);
        while self.kept.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.kept_after = oldest.event.revision;
        }
    }

    /// See [`super::Fleet::changes_after`].
    pub(super) fn since(&self, after: Revision, at_most: usize) -> Result<Vec<Arc<Change>>, Behind> {
        if after < self.kept_after {
            return Err(Behind { kept_after: self.kept_after });
        }
        let first = match self.kept.binary_search_by(|change| change.event.revision.cmp(&after)) {
            Ok(found) => found + 1,
            Err(place) => place,
        };
        let end = self.kept.len().min(first.saturating_add(at_most));
        // Most who ask have read nearly all.
        Ok(self.kept.focus().narrow(first..end).into_iter().cloned().collect())
    }
}
