//! What the follower does when events alone don't tell all.

use std::collections::HashSet;

use super::Catalog;
use super::apply::Applying;
use crate::node::{NodeKey, NodeRecord, Revision};
use crate::store::Seen;

impl Catalog {
    /// Takes some nodes as a snapshot of the table has them, whatever is known of them, except those that have changed
    /// since. For changes that no event tells of.
    pub fn corrected(&self, snapshot: &Seen<()>, records: Vec<NodeRecord>, gone: &[NodeKey]) {
        self.change(&mut self.write(), |applying| applying.corrected(snapshot, records, gone));
    }

    /// Whether a batch of ours, or somebody else, waits for changes that others made, and that are not known yet.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        let writer = self.write();
        writer.ahead.has_gap() || self.fleet().is_some_and(|fleet| fleet.revision() < writer.wanted)
    }

    /// Has the changes up to a revision read now, and not when it is time, and waits for them. In vain while the
    /// database can't be read.
    pub async fn reaches(&self, revision: Revision) {
        let mut known = self.revision();
        let is_there = |known: &Option<Revision>| known.is_some_and(|known| known >= revision);
        if !is_there(&known.borrow_and_update()) {
            let mut writer = self.write();
            writer.wanted = writer.wanted.max(revision);
            drop(writer);
            self.gap.notify_one();
        }
        // The sender is ours.
        drop(known.wait_for(is_there).await);
    }

    /// Waits until there is such a gap.
    pub async fn gap(&self) {
        self.gap.notified().await;
    }
}

impl Applying<'_> {
    fn corrected(self, snapshot: &Seen<()>, records: Vec<NodeRecord>, gone: &[NodeKey]) {
        // What is not known to be the same as then is left for the next time.
        let Ok(since) = self.fleet.changes_after(snapshot.revision, usize::MAX) else { return };
        let since: HashSet<&NodeKey> =
            since.iter().chain(self.ahead.changes()).map(|change| &change.event.node_id).collect();
        let unchanged = |id: &NodeKey| {
            !since.contains(id)
                && !self.ahead.is_removed(id)
                && self.fleet.get(id).is_none_or(|node| {
                    node.revision() <= snapshot.revision
                        && node.updated_at() <= snapshot.horizon.at
                        && node.last_heartbeat().is_none_or(|at| at <= snapshot.horizon.at)
                })
        };
        let records: Vec<NodeRecord> =
            records.into_iter().filter(|record| unchanged(&record.node_id)).collect();
        let gone: Vec<&NodeKey> = gone.iter().filter(|id| unchanged(id)).collect();
        for record in records {
            self.fleet.put(record);
        }
        for id in gone {
            self.fleet.remove(id);
        }
    }
}
