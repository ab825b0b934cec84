//! The whole fleet in memory, equal to the table up to a revision.
//!
//! Readers take a [`Fleet`], which never changes, and never wait for anybody. Writers (our own batches, and the
//! follower) make the next one from it: `apply` has the rules, `following` takes what the follower brings. A fleet is
//! made of tables that share what hasn't changed: the nodes by number (`slots`), the lists in the order of ids (`lists`),
//! and who has what in its JSON (`index`, by `tokens`). `find` answers queries from these.

mod apply;
mod changes;
mod find;
mod fleet;
mod following;
mod index;
mod lists;
mod loading;
mod mending;
mod node;
mod postings;
mod postings_by_token;
mod slots;
#[cfg(test)]
pub(super) mod tests;
mod tokens;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use self::apply::{Ahead, Applying};
use self::following::Following;
use self::loading::Meanwhile;
use crate::node::{NodeKey, Revision, Timestamp, Ttl};
use crate::store::{Digest, Followed, Recorded};

pub use self::apply::Outcome;
pub use self::changes::{Behind, Change};
pub use self::find::Conditions;
pub use self::fleet::{Fleet, Found};
pub(super) use self::loading::Records;
pub use self::loading::{Loading, NotAll};
pub use self::mending::Correction;
pub use self::node::Node;

/// The fleet as it is now, and how it becomes what it is next.
pub struct Catalog {
    ttl: Ttl,
    /// What readers take. `None` before it is loaded, and while it is known to be wrong.
    current: ArcSwapOption<Fleet>,
    /// Who makes the next fleet holds this while doing so. Not an async lock: it is held for the time of a computation,
    /// some microseconds for each node that changes.
    writer: Mutex<Writer>,
    /// Given whenever there is a gap between the fleet's revision and a batch of ours, or one that somebody waits for, or
    /// no fleet any more.
    gap: Notify,
    /// The revision of `current`, for those that wait for it.
    revision: watch::Sender<Option<Revision>>,
    /// Counts how often what readers are shown, signs of life included, begins to change or has changed: it is odd in
    /// between.
    edition: AtomicU64,
}

/// What readers are shown for a time. As long as it is this one, equal questions have equal answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition(u64);

#[cfg(test)]
impl Edition {
    pub(crate) fn for_test(number: u64) -> Self {
        Self(number)
    }
}

/// What writers know that readers don't.
#[derive(Default)]
struct Writer {
    ahead: Ahead,
    /// What is done while the table is being read, if it is.
    meanwhile: Option<Meanwhile>,
    /// How many loadings have begun,
    loadings: u64,
    /// and how many have come to their end.
    epoch: u64,
    /// Somebody waits for the changes up to this one.
    wanted: Revision,
    /// Somebody was shown this one by the store, as there was no fleet.
    shown: Revision,
    /// What is loaded is about to become the fleet: until then nobody is to be shown what is newer.
    is_closing: bool,
}

impl Catalog {
    /// A catalog that isn't loaded.
    #[must_use]
    pub fn new(ttl: Ttl) -> Self {
        Self {
            ttl,
            current: ArcSwapOption::empty(),
            writer: Mutex::default(),
            gap: Notify::new(),
            revision: watch::Sender::new(None),
            edition: AtomicU64::new(0),
        }
    }

    /// The present edition; `None` if no fleet is loaded, or one is about to change: who has seen what is new must not find
    /// what is old after that. It has to be taken before the fleet: what is found then is of this edition, or of a later
    /// one, and that is no harm.
    #[must_use]
    pub fn edition(&self) -> Option<Edition> {
        let edition = self.edition.load(Ordering::Acquire);
        (edition.is_multiple_of(2) && self.current.load().is_some()).then_some(Edition(edition))
    }

    /// The fleet; `None` before it is loaded, and after [`Catalog::unload`].
    #[must_use]
    pub fn fleet(&self) -> Option<Arc<Fleet>> {
        self.current.load_full()
    }

    /// The revision up to which all changes are in the fleet, whenever the fleet changes; `None` if there is
    /// none.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<Option<Revision>> {
        self.revision.subscribe()
    }

    /// The fleet as soon as it has a change, which may never come; `None` if it is not loaded.
    pub async fn fleet_with(&self, at_least: Revision) -> Option<Arc<Fleet>> {
        let mut revision = self.revision();
        loop {
            // Before looking: what comes while we look wakes us up again.
            revision.mark_unchanged();
            // The fleet says what it has: the number that is told is that of the one before it, or after.
            match self.fleet() {
                Some(fleet) if fleet.revision() < at_least => {}
                fleet => return fleet,
            }
            // The sender is ours.
            let _ = revision.changed().await;
        }
    }

    /// Takes what a batch of ours has done. It can be read when this returns, before all changes that others made
    /// before it are known; the revision goes on as soon as they are.
    ///
    /// Returns those that are not there as they were written: what was written changed nothing, and what there was, is
    /// not known here. Others have changed it a moment ago, or no event tells of it.
    ///
    /// If it was recorded where revisions have gone back, it would be taken for something old. So nothing is known any
    /// more, and the store is asked: there is nothing to wait for.
    pub fn written(&self, recorded: &[Recorded], outcomes: Vec<Outcome>) -> Vec<NodeKey> {
        let mut writer = self.write();
        if let Some(meanwhile) = &mut writer.meanwhile {
            meanwhile.written(recorded, &outcomes);
        }
        if self.current.load().as_ref().is_some_and(|fleet| fleet.is_contradicted_by(recorded)) {
            tracing::warn!(
                "a write was recorded in another log than the one that was followed (the database was restored)"
            );
            self.forget(&mut writer);
            return Vec::new();
        }
        let mut unknown = Vec::new();
        self.change(&mut writer, |applying| unknown = applying.written(recorded, outcomes));
        if writer.ahead.has_gap() {
            self.gap.notify_one();
        }
        unknown
    }

    /// Takes signs of life that we have noted. Returns the nodes that are not known here.
    pub fn beaten(&self, beats: &[(NodeKey, Timestamp)]) -> Vec<NodeKey> {
        let mut writer = self.write();
        if let Some(meanwhile) = &mut writer.meanwhile {
            meanwhile.beaten(beats);
        }
        // All fleets share the signs of life of a node, so no other one is made. It can't become an old one meanwhile:
        // that takes the lock.
        let mut unknown = Vec::new();
        let current = self.current.load();
        if let Some(fleet) = &*current {
            for (id, at) in beats {
                if !fleet.seen_alive(id, *at) {
                    writer.ahead.early(id, *at);
                    unknown.push(id.clone());
                }
            }
        }
        unknown
    }

    /// Takes the signs of life that the table has, of what is still registered as it was.
    pub fn lived(&self, lives: &[(NodeKey, Digest)]) {
        let _writer = self.write();
        let current = self.current.load();
        let Some(fleet) = &*current else { return };
        for (id, digest) in lives {
            let node = fleet.get(id).filter(|node| node.registered_at() == digest.registered_at);
            if let Some(node) = node {
                digest.last_heartbeat.into_iter().for_each(|at| node.seen_alive(at));
                if node.revision() == digest.revision {
                    node.renewed(digest.updated_at);
                }
            }
        }
    }

    /// Begins to take the whole table. What is written meanwhile is not forgotten, and what was there is served until
    /// then. A loading that was begun before comes to nothing.
    #[must_use]
    pub fn load(&self) -> Loading<'_> {
        Loading::begin(self)
    }

    /// Takes what the follower has read. Nothing of it is taken twice, and nothing undoes what is newer. Our own batches
    /// have their turns in between.
    pub fn followed(&self, followed: Followed) {
        let mut following = Following::of(followed);
        // What is left is of no use to a catalog that has been unloaded meanwhile.
        while following.has_more() && self.change(&mut self.write(), |applying| following.go_on(applying)) {}
    }

    /// The instant up to which all signs of life are known, when nothing else has been read.
    #[cfg(test)]
    pub(crate) fn judged_by(&self, horizon: crate::node::Horizon) {
        let _writer = self.write();
        if let Some(fleet) = self.fleet() {
            let mut fleet = Fleet::clone(&fleet);
            if apply::judge_by(&mut fleet, horizon) {
                self.current.store(Some(Arc::new(fleet)));
            }
        }
    }

    /// Lets go of the changes that it lets go of when so much time has passed.
    #[cfg(test)]
    pub(crate) fn trim_as_after(&self, time: std::time::Duration) {
        self.change(&mut self.write(), |applying| applying.fleet.changes.trim(Instant::now() + time));
    }

    /// Makes the next fleet and shows it. Returns whether there is one.
    fn change(&self, writer: &mut Writer, change: impl FnOnce(Applying<'_>)) -> bool {
        let Some(fleet) = self.fleet() else { return false };
        let before = fleet.revision();
        let mut next = Fleet::clone(&fleet);
        change(Applying::new(&mut next, &mut writer.ahead));
        if writer.ahead.is_too_far() {
            tracing::warn!("changes of others were waited for in vain: all is read anew");
            self.forget(writer);
            return false;
        }
        next.changes.trim(Instant::now());
        let revision = next.revision();
        self.current.store(Some(Arc::new(next)));
        if revision != before {
            self.revision.send_replace(Some(revision));
        }
        true
    }

    /// A panic while the next fleet is made leaves the present one as it is: the lock is as good as before. What it was to
    /// bring is seen to be missing when table and catalog are compared.
    fn write(&self) -> Writing<'_> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.edition.fetch_add(1, Ordering::AcqRel);
        Writing { writer, edition: &self.edition }
    }
}

/// Whoever has this may change what readers are shown. When it is dropped, there is another edition: before another
/// writer begins, and before anybody is told that something was written.
struct Writing<'c> {
    writer: MutexGuard<'c, Writer>,
    edition: &'c AtomicU64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.edition.fetch_add(1, Ordering::Release);
    }
}

impl Deref for Writing<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}
