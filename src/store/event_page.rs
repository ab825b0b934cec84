//! A page of the audit trail, collected as the log is scanned: the same rules for both stores.

use super::StoreError;
use crate::node::{Event, EventQuery, Revision};

/// Some events in the order of their revisions.
///
/// No page has to end early for its size: an event has less than 3 KiB, for its longest text is an id of 255
/// characters.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The log was scanned up to this revision: the next page begins after it.
    pub next_after: Revision,
}

/// So many events are looked at for one page. A kind that hardly occurs is found in several pages, some of them empty.
const MAX_SCANNED: usize = 10_000;
/// How many events are fetched at a time if not all of them may be of the kind that is asked for.
const CHUNK: usize = 1_000;

/// What a snapshot has of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogEnds {
    /// Events up to this one may have been deleted.
    pub(super) pruned_through: Revision,
    /// No event is newer.
    pub(super) newest: Revision,
}

/// A page that is being collected.
pub(super) struct EventScan<'q> {
    query: &'q EventQuery,
    newest: Revision,
    events: Vec<Event>,
    /// The last revision that was scanned.
    through: Revision,
    scanned: usize,
    /// Whether the end of the log was reached.
    ended: bool,
}

/// The next events to fetch: so many after a revision, of the nodes that are asked for.
pub(super) struct Chunk {
    pub(super) after: Revision,
    pub(super) limit: usize,
}

impl<'q> EventScan<'q> {
    pub(super) fn new(query: &'q EventQuery, ends: LogEnds) -> Result<Self, StoreError> {
        let through = query.after.unwrap_or(ends.pruned_through);
        if through < ends.pruned_through || through > ends.newest {
            return Err(StoreError::EventsGone { kept_after: ends.pruned_through, newest: ends.newest });
        }
        Ok(Self { query, newest: ends.newest, events: Vec::new(), through, scanned: 0, ended: false })
    }

    /// What to fetch next, if anything.
    pub(super) fn next(&self) -> Option<Chunk> {
        let room = self.query.limit.get() - self.events.len();
        let left = MAX_SCANNED.saturating_sub(self.scanned);
        if self.ended || room == 0 || left == 0 {
            return None;
        }
        let limit = if self.query.kinds.is_empty() { room } else { CHUNK.min(left) };
        Some(Chunk { after: self.through, limit })
    }

    /// Takes what was fetched, in the order of revisions.
    pub(super) fn take(&mut self, chunk: &Chunk, events: Vec<Event>) {
        let complete = events.len() < chunk.limit;
        for event in events {
            self.through = event.revision;
            self.scanned += 1;
            if event.is_of(&self.query.kinds) {
                self.events.push(event);
                if self.events.len() == self.query.limit.get() {
                    return;
                }
            }
        }
        self.ended = complete;
    }

    pub(super) fn finish(self) -> EventPage {
        // Whoever asks for a few nodes, or a rare kind, need not look through the rest again.
        let next_after = if self.ended { self.newest } else { self.through };
        EventPage { events: self.events, next_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{EventKind, NodeKey, PageLimit, Timestamp};

    fn revision(number: usize) -> Revision {
        Revision::new(i64::try_from(number).unwrap()).unwrap()
    }

    /// A log of so many events, the last of which alone is `stale`.
    fn log(length: usize) -> Vec<Event> {
        let kind = |number| if number == length { "stale" } else { "updated" };
        let event = |number| Event {
            revision: revision(number),
            node_id: NodeKey::new("n").unwrap(),
            kind: kind(number).to_owned(),
            changed: Vec::new(),
            actor: "anonymous".to_owned(),
            correlation_id: None,
            occurred_at: Timestamp::from_unix_micros(0),
        };
        (1..=length).map(event).collect()
    }

    fn page(log: &[Event], query: &EventQuery) -> EventPage {
        let ends = LogEnds { pruned_through: Revision::ZERO, newest: revision(log.len() + 5) };
        let mut scan = EventScan::new(query, ends).unwrap();
        while let Some(chunk) = scan.next() {
            let rest = log.iter().filter(|event| event.revision > chunk.after);
            let events = rest.take(chunk.limit).cloned().collect();
            scan.take(&chunk, events);
        }
        scan.finish()
    }

    #[test]
    fn a_page_is_full_or_goes_to_the_end_or_has_looked_at_enough() {
        let log = log(2 * MAX_SCANNED + 1);
        let limit = PageLimit::new(3).unwrap();
        let full = page(&log, &EventQuery { limit, ..EventQuery::default() });
        assert_eq!((full.events.len(), full.next_after), (3, revision(3)));
        let after = Some(revision(log.len() - 3));
        let exact = page(&log, &EventQuery { after, limit, ..EventQuery::default() });
        assert_eq!((exact.events.len(), exact.next_after), (3, revision(log.len())));

        let kinds = vec![EventKind::Stale];
        let mut query = EventQuery { kinds, ..EventQuery::default() };
        for round in 1..=2 {
            let empty = page(&log, &query);
            assert_eq!((empty.events.len(), empty.next_after), (0, revision(round * MAX_SCANNED)));
            query.after = Some(empty.next_after);
        }
        let last = page(&log, &query);
        assert_eq!((last.events.len(), last.next_after), (1, revision(log.len() + 5)), "up to the newest");
    }

    #[test]
    fn what_is_behind_or_beyond_the_log_is_gone() {
        let ends = LogEnds { pruned_through: revision(5), newest: revision(9) };
        let begins = |after: Option<usize>| {
            let query = EventQuery { after: after.map(revision), ..EventQuery::default() };
            EventScan::new(&query, ends).map(|scan| scan.through)
        };
        assert_eq!(begins(None).unwrap(), revision(5));
        for after in [5, 7, 9] {
            assert_eq!(begins(Some(after)).unwrap(), revision(after));
        }
        for after in [0, 4, 10] {
            assert!(matches!(begins(Some(after)), Err(StoreError::EventsGone { .. })), "{after}");
        }
    }
}
