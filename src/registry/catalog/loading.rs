//! Taking the whole table, while the world goes on.

use std::sync::Arc;

use super::Catalog;
use super::apply::{Ahead, Applying, Outcome};
use super::fleet::Fleet;
use super::following::Following;
use crate::node::{NodeKey, NodeRecord, Revision, Timestamp};
use crate::store::page::rendered_bytes;
use crate::store::{Followed, Loaded, Recorded};

/// So many bytes are remembered of what is written while the table is read.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// Not all that was written while the table was read could be remembered, or it was written to another database, or
/// somebody has begun to read the table anew. It is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not all is known that was written while the table was read")]
pub struct NotAll;

/// What was done since a loading began, in that order.
#[derive(Default)]
pub(super) struct Meanwhile {
    done: Vec<Done>,
    bytes: usize,
}

enum Done {
    Written(Vec<Recorded>, Vec<Outcome>),
    Beaten(Vec<(NodeKey, Timestamp)>),
}

impl Meanwhile {
    pub(super) fn written(&mut self, recorded: &[Recorded], outcomes: &[Outcome]) {
        const EVENT_BYTES: usize = 512;
        let events = recorded.iter().map(|recorded| recorded.events.len()).sum::<usize>();
        let records = outcomes.iter().map(|outcome| match outcome {
            Outcome::Present(record, _) => rendered_bytes(record),
            Outcome::Gone(..) => EVENT_BYTES,
        });
        let bytes = records.sum::<usize>() + events * EVENT_BYTES;
        self.remember(bytes, || Done::Written(recorded.to_vec(), outcomes.to_vec()));
    }

    pub(super) fn beaten(&mut self, beats: &[(NodeKey, Timestamp)]) {
        self.remember(size_of_val(beats), || Done::Beaten(beats.to_vec()));
    }

    fn is_all(&self) -> bool {
        self.bytes <= MAX_BYTES
    }

    fn remember(&mut self, bytes: usize, done: impl FnOnce() -> Done) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.is_all() {
            self.done.push(done());
        } else {
            // It can't be all any more.
            self.done = Vec::new();
        }
    }
}

/// The table, as it comes.
pub struct Loading<'a> {
    catalog: &'a Catalog,
    fleet: Fleet,
    ahead: Ahead,
    /// Whether all of the table is in the fleet.
    is_read: bool,
    /// Which loading of the catalog's this is.
    number: u64,
}

/// A loading whose records are taken elsewhere. It can't go on before it has them.
pub(in crate::registry) struct Lent<'a>(Loading<'a>);

impl<'a> Lent<'a> {
    /// All of them have been taken.
    pub(in crate::registry) fn give_back(self, records: Records) -> Loading<'a> {
        let Self(mut loading) = self;
        loading.fleet = records.0;
        loading
    }
}

/// What takes the records of a loading.
pub(in crate::registry) struct Records(Fleet);

impl Records {
    /// The next record.
    pub(in crate::registry) fn take(&mut self, record: NodeRecord) {
        self.0.put(record);
    }

    /// That was the last one.
    pub(in crate::registry) fn end(&mut self) {
        self.0.share();
    }
}

impl<'a> Loading<'a> {
    pub(super) fn begin(catalog: &'a Catalog) -> Self {
        let mut writer = catalog.write();
        writer.meanwhile = Some(Meanwhile::default());
        writer.loadings += 1;
        catalog.reopen(&mut writer);
        Self {
            catalog,
            fleet: Fleet::to_be_loaded(catalog.ttl, writer.epoch + 1),
            ahead: Ahead::default(),
            is_read: false,
            number: writer.loadings,
        }
    }

    /// The next record.
    pub fn take(&mut self, record: NodeRecord) {
        self.fleet.put(record);
    }

    /// What takes the records, to be used elsewhere.
    pub(in crate::registry) fn lend(mut self) -> (Lent<'a>, Records) {
        let nobody = Fleet::empty(self.catalog.ttl, self.fleet.epoch());
        let records = Records(std::mem::replace(&mut self.fleet, nobody));
        (Lent(self), records)
    }

    /// All records have been taken, and this has happened since. Whoever was answered by the store meanwhile has seen it,
    /// and is not to be taken back to the time before.
    pub fn followed(&mut self, loaded: &Loaded, followed: Followed) {
        self.read(loaded);
        let mut following = Following::of(followed);
        while following.has_more() {
            following.go_on(Applying::new(&mut self.fleet, &mut self.ahead));
        }
    }

    /// From now on nobody is shown by the store what is newer than this; returns whether somebody was already. Then there
    /// is more to be followed before this may be the fleet.
    pub fn close(&mut self, loaded: &Loaded) -> bool {
        let mut writer = self.catalog.write();
        if writer.loadings != self.number {
            return false;
        }
        writer.is_closing = true;
        let shown = writer.shown;
        drop(writer);
        self.read(loaded);
        self.fleet.revision() < shown
    }

    fn read(&mut self, loaded: &Loaded) {
        if !self.is_read {
            self.fleet.loaded(loaded.position.revision, loaded.horizon);
            self.fleet.loaded_after(loaded.position.last);
        }
        self.is_read = true;
    }

    /// All records have been taken: the fleet is this, and what was written meanwhile.
    ///
    /// # Errors
    /// If that isn't all known. The fleet is what it was before.
    pub fn finish(mut self, loaded: &Loaded) -> Result<(), NotAll> {
        let catalog = self.catalog;
        let mut writer = catalog.write();
        if writer.loadings != self.number {
            return Err(NotAll);
        }
        let meanwhile = writer.meanwhile.take().filter(Meanwhile::is_all).ok_or(NotAll)?;
        self.read(loaded);
        for done in meanwhile.done {
            match done {
                Done::Written(recorded, _) if self.fleet.is_contradicted_by(&recorded) => return Err(NotAll),
                Done::Written(recorded, outcomes) => {
                    Applying::new(&mut self.fleet, &mut self.ahead).written(&recorded, outcomes);
                }
                Done::Beaten(beats) => {
                    for (id, at) in beats {
                        if !self.fleet.seen_alive(&id, at) {
                            self.ahead.early(&id, at);
                        }
                    }
                }
            }
        }
        writer.ahead = std::mem::take(&mut self.ahead);
        (writer.is_closing, writer.shown) = (false, Revision::ZERO);
        writer.epoch = self.fleet.epoch();
        let revision = self.fleet.revision();
        catalog.current.store(Some(Arc::new(self.fleet.clone())));
        catalog.revision.send_replace(Some(revision));
        Ok(())
    }
}

impl Drop for Loading<'_> {
    /// Nothing is to be remembered any more.
    fn drop(&mut self) {
        let mut writer = self.catalog.write();
        if writer.loadings == self.number {
            writer.meanwhile = None;
            self.catalog.reopen(&mut writer);
        }
    }
}
