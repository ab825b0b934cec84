//! One node of the fleet.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use super::index::Unlisted;
use super::lists::Kind;
use crate::node::{
    Horizon, JsonColumn, Life, Moment, NodeKey, NodeRecord, Revision, Shown, ShownRecord, Status, Timestamp,
    Ttl,
};
use crate::store::Digest;
use crate::store::digest::of_columns;
use crate::store::page::rendered_bytes;

/// A registered node. It never changes, but for the signs of life, which all fleets that have it share.
pub struct Node {
    shown: Arc<ShownRecord>,
    kind: Arc<Kind>,
    ttl_seconds: Option<i64>,
    in_maintenance: bool,
    /// Whether it was ever seen alive. Before it is, nobody looks at `last_heartbeat`.
    seen_alive: AtomicBool,
    last_heartbeat: AtomicI64,
    updated_at: AtomicI64,
    /// What a page counts for it.
    rendered_bytes: usize,
    unlisted: Unlisted,
    /// The hash of its columns, once somebody has asked for it.
    columns: OnceLock<u64>,
}

/// What a fleet keeps of a record.
pub(super) struct Parts {
    pub(super) shown: Arc<ShownRecord>,
    pub(super) kind: Arc<Kind>,
    pub(super) unlisted: Unlisted,
}

impl Node {
    pub(super) fn new(record: &NodeRecord, parts: Parts) -> Self {
        Self {
            shown: parts.shown,
            kind: parts.kind,
            ttl_seconds: record.ttl_seconds,
            in_maintenance: record.maintenance.is_some(),
            seen_alive: AtomicBool::new(record.last_heartbeat.is_some()),
            last_heartbeat: AtomicI64::new(record.last_heartbeat.map_or(i64::MIN, Timestamp::unix_micros)),
            updated_at: AtomicI64::new(record.updated_at.unix_micros()),
            rendered_bytes: rendered_bytes(record),
            unlisted: parts.unlisted,
            columns: OnceLock::new(),
        }
    }

    /// Which node.
    #[must_use]
    pub fn id(&self) -> &NodeKey {
        self.shown.node_id()
    }

    /// The number of the change that last changed the registration.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shown.revision()
    }

    /// The node as it is shown now.
    #[must_use]
    pub fn show(&self, horizon: &Horizon, server_ttl: Ttl) -> Shown {
        Shown { record: Arc::clone(&self.shown), moment: self.moment(horizon, server_ttl) }
    }

    /// Whether its registration is this one, and shown so.
    pub(super) fn is_shown_as(&self, shown: &Arc<ShownRecord>) -> bool {
        Arc::ptr_eq(&self.shown, shown) || self.shown == *shown
    }

    /// The status, judged by a horizon.
    #[must_use]
    pub fn status(&self, horizon: &Horizon, server_ttl: Ttl) -> Status {
        self.life().status(horizon, server_ttl)
    }

    /// What tells this copy of the registration from others.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let moment = Moment {
            last_heartbeat: self.last_heartbeat(),
            updated_at: self.updated_at(),
            status: Status::Unknown,
        };
        // What was written here can be read back.
        let read_back = || self.shown.read_back(&moment).map_or(0, |record| of_columns(&record));
        Digest {
            revision: self.revision(),
            columns: *self.columns.get_or_init(read_back),
            last_heartbeat: moment.last_heartbeat,
            registered_at: self.shown.registered_at(),
            updated_at: moment.updated_at,
        }
    }

    fn moment(&self, horizon: &Horizon, server_ttl: Ttl) -> Moment {
        let life = self.life();
        Moment {
            last_heartbeat: life.last_heartbeat,
            updated_at: self.updated_at(),
            status: life.status(horizon, server_ttl),
        }
    }

    fn life(&self) -> Life {
        Life {
            last_heartbeat: self.last_heartbeat(),
            ttl_seconds: self.ttl_seconds,
            in_maintenance: self.in_maintenance,
        }
    }

    pub(super) fn last_heartbeat(&self) -> Option<Timestamp> {
        // Who sees that there is one sees which: it was written before.
        self.seen_alive
            .load(Ordering::Acquire)
            .then(|| Timestamp::from_unix_micros(self.last_heartbeat.load(Ordering::Relaxed)))
    }

    pub(super) fn updated_at(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.updated_at.load(Ordering::Relaxed))
    }

    /// Notes a sign of life. A later one stays what it is.
    pub(super) fn seen_alive(&self, at: Timestamp) {
        self.last_heartbeat.fetch_max(at.unix_micros(), Ordering::Relaxed);
        self.seen_alive.store(true, Ordering::Release);
    }

    /// Notes a registration that changed nothing. A later one stays what it is.
    pub(super) fn renewed(&self, at: Timestamp) {
        self.updated_at.fetch_max(at.unix_micros(), Ordering::Relaxed);
    }

    pub(super) fn registered_at(&self) -> Timestamp {
        self.shown.registered_at()
    }

    pub(super) fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// The JSON of a column; `None` if the column holds none.
    pub(super) fn column(&self, column: JsonColumn) -> Option<&str> {
        self.shown.column(column)
    }

    pub(super) fn unlisted(&self) -> &Unlisted {
        &self.unlisted
    }

    pub(super) fn rendered_bytes(&self) -> usize {
        self.rendered_bytes
    }
}
