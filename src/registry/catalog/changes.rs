//! The last changes, in the order of their revisions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imbl::Vector;

use super::node::Node;
use crate::node::{Event, Revision};
use crate::store::{EventMark, Recorded};

/// So many changes are kept,
const MAX_CHANGES: usize = 16_384;
/// and so many bytes of what they keep alive.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// More are kept for so long: whoever has read all there was before a large batch is given the time to read that.
const GRACE: Duration = Duration::from_secs(2);
/// But no more than this, whoever is cut off then: several of the largest batches.
const MOST_CHANGES: usize = 4 * MAX_CHANGES;
const MOST_BYTES: usize = 16 * MAX_BYTES;

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

#[derive(Clone)]
struct Kept {
    change: Arc<Change>,
    since: Instant,
}

/// All changes after a revision and up to that of the fleet. A copy costs nothing.
#[derive(Clone)]
pub(super) struct Changes {
    kept: Vector<Kept>,
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

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn kept(&self, revision: Revision) -> Option<&Event> {
        let place = self.kept.binary_search_by(|kept| kept.change.event.revision.cmp(&revision)).ok()?;
        Some(&self.kept.get(place)?.change.event)
    }

    /// The next change.
    pub(super) fn push(&mut self, change: Arc<Change>, now: Instant) {
        self.bytes += change.bytes();
        self.newest = Some(EventMark::from(&change.event));
        self.kept.push_back(Kept { change, since: now });
        self.trim(now);
    }

    /// Lets go of what is too old and too much.
    pub(super) fn trim(&mut self, now: Instant) {
        while let Some(Kept { change: oldest, since }) = self.kept.front() {
            let is_much = self.kept.len() > MAX_CHANGES || self.bytes > MAX_BYTES;
            let is_too_much = self.kept.len() > MOST_CHANGES || self.bytes > MOST_BYTES;
            let is_old = now.saturating_duration_since(*since) > GRACE;
            if !(is_too_much || is_much && is_old) {
                return;
            }
            self.bytes -= oldest.bytes();
            self.kept_after = oldest.event.revision;
            self.kept.pop_front();
        }
    }

    /// See [`super::Fleet::changes_after`].
    pub(super) fn since(&self, after: Revision, at_most: usize) -> Result<Vec<Arc<Change>>, Behind> {
        if after < self.kept_after {
            return Err(Behind { kept_after: self.kept_after });
        }
        let first = match self.kept.binary_search_by(|kept| kept.change.event.revision.cmp(&after)) {
            Ok(found) => found + 1,
            Err(place) => place,
        };
        let end = self.kept.len().min(first.saturating_add(at_most));
        // Most who ask have read nearly all.
        let kept = self.kept.focus().narrow(first..end);
        Ok(kept.into_iter().map(|kept| Arc::clone(&kept.change)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{NodeKey, Timestamp};
    use crate::registry::catalog::Catalog;
    use crate::registry::catalog::tests::{TTL, loaded, record};

    fn change(revision: i64, before: Option<&Arc<Node>>) -> Arc<Change> {
        let event = Event {
            revision: Revision::new(revision).unwrap(),
            node_id: NodeKey::new("n").unwrap(),
            kind: "updated".into(),
            changed: vec![],
            actor: "anonymous".into(),
            correlation_id: None,
            occurred_at: Timestamp::from_unix_micros(0),
        };
        Arc::new(Change { event, before: before.cloned(), after: None })
    }

    fn kept_after(changes: &Changes) -> i64 {
        changes.since(Revision::ZERO, usize::MAX).err().map_or(0, |behind| behind.kept_after.get())
    }

    /// A node of so many bytes.
    fn node(bytes: usize) -> Arc<Node> {
        let catalog = Catalog::new(TTL);
        let mut loading = catalog.load();
        let mut large = record("n", 1);
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        large.metadata = crate::node::JsonText::from_database(&text);
        loading.take(large);
        loading.finish(&loaded(1, 0)).unwrap();
        Arc::clone(catalog.fleet().unwrap().get(&NodeKey::new("n").unwrap()).unwrap())
    }

    #[test]
    fn changes_are_kept_up_to_a_number_and_a_size() {
        let begun = Instant::now();
        let later = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut changes = Changes::after(Revision::ZERO, None);
        for revision in 1..=20_000 {
            changes.push(change(revision, None), begun);
        }
        assert_eq!(kept_after(&changes), 0, "nobody can have read them yet");
        changes.trim(later(1));
        assert_eq!(kept_after(&changes), 0);
        changes.trim(later(3));
        assert_eq!(kept_after(&changes), 20_000 - 16_384);
        let large = node(5 * 1024 * 1024);
        for revision in 20_001..=20_010 {
            changes.push(change(revision, Some(&large)), later(3));
        }
        assert_eq!(kept_after(&changes), 20_000, "of those before there is too much now");
        changes.trim(later(6));
        assert_eq!(kept_after(&changes), 20_007);
        assert_eq!(changes.since(Revision::new(20_007).unwrap(), usize::MAX).unwrap().len(), 3);
    }

    #[test]
    fn not_even_for_a_moment_more_is_kept_than_memory_has_room_for() {
        let now = Instant::now();
        let mut changes = Changes::after(Revision::ZERO, None);
        for revision in 1..=100_000 {
            changes.push(change(revision, None), now);
        }
        assert_eq!(kept_after(&changes), 100_000 - 65_536);
        let large = node(100 * 1024 * 1024);
        for revision in 100_001..=100_003 {
            changes.push(change(revision, Some(&large)), now);
        }
        assert_eq!(kept_after(&changes), 100_001);
    }
}
