//! What the follower does when events alone don't tell all.

use std::collections::HashSet;
use std::sync::Arc;

use super::apply::Applying;
use super::{Catalog, Writer};
use crate::node::{NodeKey, NodeRecord, Revision};
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

    /// Takes some nodes as a snapshot of the table has them, except those that have changed since. An event is still to
    /// tell of them: by that, whoever watches is told what they were before this.
    pub fn untold(&self, snapshot: &Seen<()>, records: Vec<NodeRecord>) {
        if !records.is_empty() {
            self.change(&mut self.write(), |applying| applying.untold(snapshot, records));
        }
    }

    /// What is known is not what the table is: from now on the store is asked, until all has been loaded anew.
    pub fn unload(&self) {
        self.forget(&mut self.write());
    }

    /// The same for who makes the next fleet.
    pub(super) fn forget(&self, writer: &mut Writer) {
        self.current.store(None);
        self.revision.send_replace(None);
        // Revisions may have gone back: nobody would ever get to this one.
        writer.wanted = Revision::ZERO;
        writer.shown = Revision::ZERO;
        self.gap.notify_one();
    }

    /// Whether a batch of ours, or somebody else, waits for changes that others made, and that are not known yet.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        let writer = self.write();
        writer.ahead.has_gap() || self.fleet().is_some_and(|fleet| fleet.revision() < writer.wanted)
    }

    /// Has the changes up to a revision read now, and not when it is time, and waits for them. In vain while the
    /// database can't be read. If nothing is known, there is nothing to wait for: the store is asked.
    pub async fn reaches(&self, revision: Revision) {
        let mut known = self.revision();
        let is_there = |known: &Option<Revision>| known.is_none_or(|known| known >= revision);
        if !is_there(&known.borrow_and_update()) {
            let mut writer = self.write();
            writer.wanted = writer.wanted.max(revision);
            drop(writer);
            self.gap.notify_one();
        }
        // The sender is ours.
        drop(known.wait_for(is_there).await);
    }

    /// Somebody is about to be shown this revision by the store, as there was no fleet: who is shown the fleet afterwards must
    /// not find something older. Whether that can't be. If not, there is a fleet now, which is to be shown instead. Waits for
    /// one that is about to be there.
    pub async fn may_be_shown(&self, revision: Revision) -> bool {
        let mut known = self.revision();
        loop {
            // Before looking: what comes while we look wakes us up again.
            known.mark_unchanged();
            {
                let mut writer = self.write();
                match &*self.current.load() {
                    Some(fleet) => return fleet.revision() >= revision,
                    None if writer.is_closing => {}
                    None => {
                        writer.shown = writer.shown.max(revision);
                        return true;
                    }
                }
            }
            // The sender is ours.
            let _ = known.changed().await;
        }
    }

    /// Nothing is about to be there any more: who waited for it goes on without it.
    pub(super) fn reopen(&self, writer: &mut Writer) {
        if std::mem::take(&mut writer.is_closing) {
            self.revision.send_modify(|_| {});
        }
    }

    /// Waits until there is such a gap, or all has to be loaded anew.
    pub async fn gap(&self) {
        self.gap.notified().await;
    }
}

impl Applying<'_> {
    fn corrected(self, snapshot: &Seen<()>, corrections: Vec<Correction>) {
        let Some(since) = self.changed_since(snapshot) else { return };
        let times = |digest: &Digest| (digest.last_heartbeat, digest.updated_at);
        for Correction { record, noted } in corrections {
            let node = self.fleet.get(&record.node_id).map(Arc::clone);
            let is_as_noted = node.is_some_and(|node| times(&node.digest()) == times(&noted));
            if is_as_noted && self.is_as_in(snapshot, &since, &record.node_id) {
                self.fleet.put(record);
            }
        }
    }

    fn untold(mut self, snapshot: &Seen<()>, records: Vec<NodeRecord>) {
        let Some(since) = self.changed_since(snapshot) else { return };
        for mut record in records {
            if !self.is_as_in(snapshot, &since, &record.node_id) {
                continue;
            }
            let was = self.fleet.get(&record.node_id).cloned();
            if let Some(node) = was.as_ref().filter(|node| node.registered_at() == record.registered_at) {
                record.last_heartbeat = record.last_heartbeat.max(node.last_heartbeat());
                record.updated_at = record.updated_at.max(node.updated_at());
            }
            self.ahead.untold(&record.node_id, was.clone());
            self.touch(&record.node_id, was);
            self.fleet.put(record);
        }
        self.come_true();
    }

    /// What has changed since a snapshot. `None`: what is not known to be the same as then is left for the next time.
    fn changed_since(&self, snapshot: &Seen<()>) -> Option<HashSet<NodeKey>> {
        let since = self.fleet.changes_after(snapshot.revision, usize::MAX).ok()?;
        Some(since.iter().chain(self.ahead.changes()).map(|change| change.event.node_id.clone()).collect())
    }

    /// Whether a node is there, or not, as it was when the snapshot was taken.
    fn is_as_in(&self, snapshot: &Seen<()>, since: &HashSet<NodeKey>, id: &NodeKey) -> bool {
        let is_newer = self.fleet.get(id).is_some_and(|node| node.revision() > snapshot.revision);
        !is_newer && !since.contains(id) && !self.ahead.is_removed(id)
    }
}
