//! What the follower does when events alone don't tell all.

use std::collections::HashSet;
use std::sync::Arc;

use super::Catalog;
use super::apply::Applying;
use crate::node::{NodeKey, NodeRecord};
use crate::store::{Digest, Seen};

/// A node whose registration is the one that is known, but not its times, or the number of its last change.
pub struct Correction {
    /// The node as the table has it.
    pub record: NodeRecord,
    /// What was known of it before the table was read. What has been noted since may not be in the table's copy.
    pub noted: Digest,
}

impl Catalog {
    /// Takes some nodes as a snapshot of the table has them, except those that have changed since, or given a sign of
    /// life. For what no event is ever about: whoever watches is not told.
    pub fn corrected(&self, snapshot: &Seen<()>, corrections: Vec<Correction>) {
        if !corrections.is_empty() {
            self.change(&mut self.write(), |applying| applying.corrected(snapshot, corrections));
        }
    }

    /// What is known is not what the table is: from now on the store is asked, until all has been loaded anew.
    pub fn unload(&self) {
        let _writer = self.write();
        self.forget();
    }

    /// The same for who makes the next fleet.
    pub(super) fn forget(&self) {
        self.current.store(None);
        self.revision.send_replace(None);
        self.gap.notify_one();
    }

    /// Whether a batch of ours waits for changes that others made before it, and that are not known yet.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.write().ahead.has_gap()
    }

    /// Waits until there is such a gap, or all has to be loaded anew.
    pub async fn gap(&self) {
        self.gap.notified().await;
    }
}

impl Applying<'_> {
    fn corrected(self, snapshot: &Seen<()>, corrections: Vec<Correction>) {
        // What is not known to be the same as then is left for the next time.
        let Ok(since) = self.fleet.changes_after(snapshot.revision, usize::MAX) else { return };
        let since: HashSet<&NodeKey> =
            since.iter().chain(self.ahead.changes()).map(|change| &change.event.node_id).collect();
        let times = |digest: &Digest| (digest.last_heartbeat, digest.updated_at);
        for Correction { record, noted } in corrections {
            let id = &record.node_id;
            let is_as_noted = self.fleet.get(id).map(Arc::clone).is_some_and(|node| {
                node.revision() <= snapshot.revision && times(&node.digest()) == times(&noted)
            });
            if is_as_noted && !since.contains(id) && !self.ahead.is_removed(id) {
                self.fleet.put(record);
            }
        }
    }
}
