//! What the follower has read, taken a part at a time: it may be thousands of changes, and our own batches, whose callers
//! wait, need the catalog as well.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use std::vec::IntoIter;

use super::apply::{Applying, judge_by};
use super::node::Node;
use crate::node::{Event, Horizon, NodeKey, NodeRecord, Revision};
use crate::store::{Followed, Signs};

/// So many changes are taken at a time: some milliseconds. In tests, a fleet of a few nodes is to see what many see.
const PART: usize = if cfg!(test) { 2 } else { 500 };

/// What has been read, and how much of it has been taken.
pub(super) struct Following {
    events: IntoIter<Event>,
    records: HashMap<NodeKey, NodeRecord>,
    snapshot: Revision,
    signs: Vec<Signs>,
    /// All events up to this one have been read.
    through: Revision,
    horizon: Horizon,
    /// What the nodes were before, of those that have been taken.
    before: HashMap<NodeKey, Option<Arc<Node>>>,
    is_taken: bool,
}

impl Following {
    pub(super) fn of(followed: Followed) -> Self {
        let Followed { events, records, snapshot, signs, position, horizon, .. } = followed;
        Self {
            events: events.into_iter(),
            records,
            snapshot,
            signs,
            through: position.revision,
            horizon,
            before: HashMap::new(),
            is_taken: false,
        }
    }

    pub(super) fn has_more(&self) -> bool {
        !self.is_taken
    }

    /// Takes the next part. What status is judged by goes on with the last one.
    pub(super) fn go_on(&mut self, mut applying: Applying<'_>) {
        applying.before = std::mem::take(&mut self.before);
        let events: Vec<Event> = self.events.by_ref().take(PART).collect();
        self.is_taken = self.events.len() == 0;
        let through = match events.last() {
            Some(last) if !self.is_taken => last.revision,
            _ => self.through,
        };
        self.take(&mut applying, events, through);
        if self.is_taken {
            judge_by(applying.fleet, self.horizon);
            self.take_signs(&applying);
            applying.ahead.forget_early();
        }
        self.before = applying.before;
    }

    /// Takes events, which are all up to a revision.
    fn take(&mut self, applying: &mut Applying<'_>, events: Vec<Event>, through: Revision) {
        let known = applying.fleet.revision;
        let is_newest = self.snapshot >= known;
        for event in &events {
            if let Some(record) = self.records.remove(&event.node_id) {
                // All that the snapshot has is there, if we know of nothing newer: of rows that no event announced, too.
                let removed = applying.newest_removal(&record.node_id);
                let may_be_new =
                    is_newest && (removed < Some(record.revision) || removed <= Some(self.snapshot));
                applying.present(record, None, may_be_new);
            } else if event.revision > known && !applying.before.contains_key(&event.node_id) {
                // Of those that are known already, it would be the event that is read next that has removed it; if there is
                // none, nobody was told, and it is for the comparison to find.
                applying.gone(&event.node_id, self.snapshot);
            }
        }
        let now = Instant::now();
        let mut waited = applying.ahead.changes_up_to(through);
        for event in events {
            if event.revision > applying.fleet.revision {
                let change = waited.remove(&event.revision).unwrap_or_else(|| applying.change(event));
                applying.fleet.changes.push(change, now);
            }
        }
        applying.fleet.revision = applying.fleet.revision.max(through);
        applying.catch_up();
        applying.come_true();
    }

    fn take_signs(&self, applying: &Applying<'_>) {
        for sign in &self.signs {
            for id in &sign.alive {
                applying.fleet.seen_alive(id, sign.at);
            }
            for node in sign.renewed.iter().filter_map(|id| applying.fleet.get(id)) {
                node.renewed(sign.at);
            }
        }
    }
}
