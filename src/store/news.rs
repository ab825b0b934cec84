//! What is new since a position, collected as it is read: the same rules for both stores.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::page::rendered_bytes;
use super::{EventMark, Followed, Position, Signs};
use crate::node::{Event, Horizon, NodeKey, NodeRecord, Revision};

/// So many events are read at a time.
pub(super) const MOST_EVENTS: usize = 5_000;
/// So many nodes are read in one statement. After it, those that have been read may be enough.
const NODES: usize = 500;
const ENOUGH_BYTES: usize = 16 * 1024 * 1024;

/// The next events, and the nodes that they name.
#[derive(Default)]
pub(super) struct News {
    events: Vec<Event>,
    /// The nodes, in the order in which the events name them first.
    named: Vec<NodeKey>,
    /// So many of them have been read,
    read: usize,
    /// and have so many bytes.
    bytes: usize,
    records: HashMap<NodeKey, NodeRecord>,
    /// Whether these are all the events that there are.
    complete: bool,
}

impl News {
    /// No events: there are none.
    pub(super) fn none() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// The next events in order; fewer than [`MOST_EVENTS`] are all there are.
    pub(super) fn of(events: Vec<Event>) -> Self {
        let mut seen = HashSet::new();
        let mut named = Vec::new();
        for event in &events {
            if seen.insert(&event.node_id) {
                named.push(event.node_id.clone());
            }
        }
        let complete = events.len() < MOST_EVENTS;
        Self { records: HashMap::with_capacity(named.len()), events, named, complete, ..Self::default() }
    }

    /// The nodes to read next, if any.
    pub(super) fn next(&self) -> Option<&[NodeKey]> {
        self.named[self.read..].chunks(NODES).next().filter(|_| self.bytes < ENOUGH_BYTES)
    }

    /// Takes those of them that are there.
    pub(super) fn take(&mut self, records: Vec<NodeRecord>) {
        self.read = self.named.len().min(self.read + NODES);
        self.bytes += records.iter().map(rendered_bytes).sum::<usize>();
        self.records.extend(records.into_iter().map(|record| (record.node_id.clone(), record)));
    }

    /// All that was read in a snapshot, by who was at a position before, but has read on in the journal.
    pub(super) fn finish(
        mut self,
        newest: Revision,
        horizon: Horizon,
        signs: Vec<Signs>,
        before: Position,
    ) -> Followed {
        // An event whose node hasn't been read is left for the next time.
        if let Some(unread) = self.named.get(self.read)
            && let Some(end) = self.events.iter().position(|event| event.node_id == *unread)
        {
            self.events.truncate(end);
            self.complete = false;
        }
        let last = self.events.last().map(EventMark::from);
        let revision = last.filter(|_| !self.complete).map_or(newest, |last| last.revision);
        let lag = self
            .events
            .first()
            .map_or(0, |oldest| horizon.at.unix_micros().saturating_sub(oldest.occurred_at.unix_micros()));
        Followed {
            events: self.events,
            records: self.records,
            snapshot: newest,
            signs,
            signs_are_missing: false,
            position: Position { revision, last: last.or(before.last), ..before },
            horizon,
            lag: Duration::from_micros(u64::try_from(lag).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{JsonText, Timestamp};

    fn event(number: i64, node: usize) -> Event {
        Event {
            revision: Revision::new(number).unwrap(),
            node_id: NodeKey::new(format!("n{node}")).unwrap(),
            kind: "updated".to_owned(),
            changed: Vec::new(),
            actor: "anonymous".to_owned(),
            correlation_id: None,
            occurred_at: Timestamp::from_unix_micros(number),
        }
    }

    fn record(id: &NodeKey, bytes: usize) -> NodeRecord {
        let json = JsonText::from_database("{}");
        NodeRecord {
            node_id: id.clone(),
            node_type: "effect".into(),
            node_version: "1.0.0".into(),
            capabilities: json.clone(),
            endpoints: json,
            metadata: JsonText::from_database(&format!("\"{}\"", "x".repeat(bytes))),
            health_endpoint: None,
            last_heartbeat: None,
            registered_at: Timestamp::from_unix_micros(0),
            updated_at: Timestamp::from_unix_micros(0),
            ttl_seconds: None,
            maintenance: None,
            revision: Revision::ZERO,
        }
    }

    fn read(events: Vec<Event>, newest: i64, bytes: usize) -> Followed {
        let mut news = News::of(events);
        while let Some(ids) = news.next() {
            let records = ids.iter().map(|id| record(id, bytes)).collect();
            news.take(records);
        }
        let horizon = Horizon::at(Timestamp::from_unix_micros(1_000_000));
        news.finish(Revision::new(newest).unwrap(), horizon, Vec::new(), Position::default())
    }

    #[test]
    fn fewer_events_than_are_read_at_a_time_are_all_there_are() {
        let few = read((1..=3).map(|number| event(number, 7)).collect(), 9, 0);
        assert_eq!((few.events.len(), few.records.len(), few.position.revision.get()), (3, 1, 9));
        assert!(!few.more() && few.lag == Duration::from_micros(999_999));
        let many = read((1..=5_000).map(|number| event(number, 7)).collect(), 9_000, 0);
        assert_eq!((many.events.len(), many.position.revision.get()), (5_000, 5_000));
        assert!(many.more());
    }

    #[test]
    fn large_nodes_are_read_a_few_at_a_time_and_each_event_has_its_node() {
        // Each of a thousand nodes is named twice, the second time after all of them.
        let events = |range| (1..).zip(range).map(|(number, node)| event(number, node)).collect();
        let order: Vec<usize> = (0..1_000).chain(0..1_000).collect();
        let first = read(events(order), 2_000, 40_000);
        assert_eq!((first.events.len(), first.position.revision.get()), (500, 500));
        assert!(first.more() && first.events.iter().all(|event| first.records.contains_key(&event.node_id)));
    }
}
