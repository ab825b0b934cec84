//! How a replica keeps up with the table: all of it at first, and then what the events say has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::StoreError;
use crate::node::{Event, Horizon, NodeKey, NodeRecord, Revision, Timestamp};

/// Which event it is. Its number alone may be that of another one, if the database was restored since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventMark {
    /// Its number.
    pub revision: Revision,
    /// Its instant.
    pub occurred_at: Timestamp,
}

impl From<&Event> for EventMark {
    fn from(event: &Event) -> Self {
        Self { revision: event.revision, occurred_at: event.occurred_at }
    }
}

/// How far a replica has read.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// All events up to this one.
    pub revision: Revision,
    /// The newest of them that is known. If it isn't in the log any more, what follows there doesn't follow on this.
    pub last: Option<EventMark>,
    /// Which signs of life have been read. They have numbers of their own, which are not in the order of commits.
    pub(in crate::store) journal: JournalPosition,
}

/// How far a replica has read the journal of signs of life.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct JournalPosition {
    /// No row above this one has been read.
    pub(in crate::store) through: i64,
    /// Those up to there that have not been seen, since when they are missed, in the order of their numbers. Their
    /// transactions may still commit.
    pub(in crate::store) missing: Vec<(i64, Instant)>,
    /// When it was read last, by the database's clock: rows are not kept for long.
    pub(in crate::store) read_at: Option<Timestamp>,
    /// Whose rows were passed over.
    pub(in crate::store) own: Option<Arc<str>>,
}

impl Position {
    /// The same, but with all events up to this one read, at the least, of which another one is known.
    #[must_use]
    pub fn at_least(self, revision: Revision, last: Option<EventMark>) -> Self {
        Self { revision: self.revision.max(revision), last: self.last.max(last), ..self }
    }

    /// The same, but all signs of life that are in the journal are to be read again. To take them twice does no harm.
    #[must_use]
    pub fn with_journal_unread(self) -> Self {
        Self { journal: self.journal.unread(), ..self }
    }

    /// Whether it can be read on from here in a log that has a newest event, from which events up to one may have been
    /// deleted, and in which the last that is known has this instant.
    pub(in crate::store) fn is_in(
        &self,
        kept_after: Revision,
        newest: Revision,
        last: Option<Timestamp>,
    ) -> bool {
        let is_known = |mark: EventMark| mark.revision <= kept_after || last == Some(mark.occurred_at);
        (kept_after..=newest).contains(&self.revision) && self.last.is_none_or(is_known)
    }
}

impl JournalPosition {
    /// The position of who is to read all rows that there are.
    pub(in crate::store) fn unread(&self) -> Self {
        Self { read_at: self.read_at, ..Self::default() }
    }
}

/// What a replica has after it has read the whole table.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Where to read on.
    pub position: Position,
    /// What status is judged by: the database's time of the reading.
    pub horizon: Horizon,
}

/// What has happened since a position, in one snapshot.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The events, in the order of their revisions.
    pub events: Vec<Event>,
    /// The nodes that the events name, as they are in the snapshot, in no particular order. One that is missing here was
    /// not registered then.
    pub records: HashMap<NodeKey, NodeRecord>,
    /// All changes up to this one are in `records`. It is above the position if there is more to read.
    pub snapshot: Revision,
    /// Signs of life, and registrations that changed nothing, which other replicas have taken.
    pub signs: Vec<Signs>,
    /// There may have been others that are not kept any more. The table has them.
    pub signs_are_missing: bool,
    /// Where to read on.
    pub position: Position,
    /// What status is judged by: all signs of life until then have been read.
    pub horizon: Horizon,
    /// How long ago the oldest of the events was recorded.
    pub lag: Duration,
}

impl Followed {
    /// Whether there is more to read at once.
    #[must_use]
    pub fn more(&self) -> bool {
        self.position.revision < self.snapshot
    }
}

/// What was noted of some nodes at one instant, and is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signs {
    /// When, in the database's time.
    pub at: Timestamp,
    /// These gave a sign of life.
    pub alive: Vec<NodeKey>,
    /// These registered anew without a change.
    pub renewed: Vec<NodeKey>,
}

/// What a transaction of ours has added to the log.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The newest event before it, whoever recorded that: whoever knows all changes up to that one and these knows all
    /// up to the last of these.
    pub previous: Revision,
    /// The events, in the order of their revisions. There is at least one.
    pub events: Vec<Event>,
}

/// What became of the writes of a batch.
#[derive(Debug)]
pub struct Written<T> {
    /// One result per item, in order.
    pub results: Vec<Result<T, StoreError>>,
    /// What was recorded, transaction by transaction, in the order of revisions.
    pub recorded: Vec<Recorded>,
}

/// Says when there may be something to read. Hints can be lost: who follows looks by himself now and then.
#[async_trait]
pub trait Hints: Send {
    /// Waits for the next hint: the revision up to which there is something new, if the hint says so.
    ///
    /// # Errors
    /// If no hint can come any more. There may have been some that were lost.
    async fn next(&mut self) -> Result<Option<Revision>, StoreError>;
}

/// What of a registration tells whether two copies of it are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The number of the change that last changed the registration.
    pub revision: Revision,
    /// A hash over the columns of the registration, see [`super::digest`].
    pub columns: u64,
    /// Last sign of life.
    pub last_heartbeat: Option<Timestamp>,
    /// First registration.
    pub registered_at: Timestamp,
    /// Last registration.
    pub updated_at: Timestamp,
}
