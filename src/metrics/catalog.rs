//! The copy of the fleet in memory.

use std::time::Duration;

use prometheus::{IntCounter, Registry};

use super::family::{Number, Seconds};
use super::{MetricsError, family};

/// The copy of the fleet in memory.
pub struct Catalog {
    loaded: Number,
    loads: IntCounter,
    mended: IntCounter,
    stale: Seconds,
    changes: Number,
    snapshot: Number,
}

impl Catalog {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let loaded =
            Number::new(registry, "catalog_loaded", "Whether reads are answered from memory: 1 yes, 0 no.")?;
        loaded.set(0);
        Ok(Self {
            loaded,
            loads: family::counter(
                registry,
                "catalog_loads_total",
                "Times the whole table was read: at the start, when the events did not go on from where they were read, and when nobody recorded what the table held.",
            )?,
            mended: family::counter(
                registry,
                "catalog_mended_total",
                "Nodes that the table had otherwise than this server, found by comparing the two.",
            )?,
            stale: Seconds::new(
                registry,
                "catalog_stale_seconds",
                "Time since this server last knew that it had all that the table has.",
            )?,
            changes: Number::new(
                registry,
                "catalog_changes",
                "Changes that are kept in memory, for watches and long polls: who has not read what is let go is behind.",
            )?,
            snapshot: Number::new(
                registry,
                "snapshot_written_timestamp_seconds",
                "When the snapshot was written last, in seconds since 1970.",
            )?,
        })
    }

    /// The whole table was read.
    pub fn loaded(&self) {
        self.loaded.set(1);
        self.loads.inc();
    }

    /// Reads are answered from what was kept on disk.
    pub fn restored(&self) {
        self.loaded.set(1);
    }

    /// Reads are answered by the database until it is.
    pub fn unloaded(&self) {
        self.loaded.set(0);
    }

    /// So long it has not been known what the table has.
    pub fn set_stale(&self, time: Duration) {
        self.stale.set(time);
    }

    /// The snapshot was written, so long after the beginning of 1970.
    pub fn snapshot_written(&self, at: Duration) {
        self.snapshot.set_count(at.as_secs());
    }

    /// So many changes are kept.
    pub fn set_changes(&self, kept: usize) {
        self.changes.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    /// So many nodes were found to differ.
    pub fn mended(&self, nodes: u64) {
        self.mended.inc_by(nodes);
    }
}
