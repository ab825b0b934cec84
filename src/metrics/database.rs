//! The database, and how far this server has read its events.

use std::time::Duration;

use prometheus::{IntCounter, IntGaugeVec, Registry};

use super::family::{Number, Seconds};
use super::label::Label as _;
use super::{BreakerPhase, MetricsError, family};

/// The database, and how far this server has read its events.
pub struct Database {
    up: Number,
    connections: IntGaugeVec,
    connections_max: Number,
    revision: Number,
    event_lag: Seconds,
    events_pruned: IntCounter,
    breaker: IntGaugeVec,
    breaker_opened: IntCounter,
    calls_failed: IntCounter,
    calls_refused: IntCounter,
}

impl Database {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            up: Number::new(
                registry,
                "database_up",
                "Whether the database answered when it was last asked: 1 yes, 0 no.",
            )?,
            connections: family::gauges(
                registry,
                "database_connections",
                "Connections to the database that are open, by whether they are in use.",
                &["state"],
            )?,
            connections_max: Number::new(
                registry,
                "database_connections_max",
                "Connections to the database that may be open.",
            )?,
            revision: Number::new(registry, "revision", "The newest revision that this server has seen.")?,
            event_lag: Seconds::new(
                registry,
                "event_lag_seconds",
                "Age of the oldest event that this server had not read, at the time when it read it; 0 if none.",
            )?,
            events_pruned: family::counter(
                registry,
                "events_pruned_total",
                "Events that this server deleted because they were older than events are kept.",
            )?,
            breaker: family::gauges(
                registry,
                "database_breaker",
                "Whether clients' calls go to the database: the present phase is 1, the others 0.",
                &["phase"],
            )?,
            breaker_opened: family::counter(
                registry,
                "database_breaker_opened_total",
                "Times the database failed so often in a row that it was not asked by clients any more.",
            )?,
            calls_failed: family::counter(
                registry,
                "database_calls_failed_total",
                "Calls that failed because the database could not be reached, or did not answer.",
            )?,
            calls_refused: family::counter(
                registry,
                "database_calls_refused_total",
                "Calls that were refused because the database was known to be away.",
            )?,
        })
    }

    /// Whether the database answers.
    pub fn set_up(&self, up: bool) {
        self.up.set(up.into());
    }

    /// The connections that there are.
    pub fn set_connections(&self, Connections { idle, in_use, max }: Connections) {
        self.connections.with_label_values(&["idle"]).set(idle.into());
        self.connections.with_label_values(&["in_use"]).set(in_use.into());
        self.connections_max.set(max.into());
    }

    /// The newest revision that this server has seen. It goes back when a backup of the database is restored.
    pub fn set_revision(&self, revision: i64) {
        self.revision.set(revision);
    }

    /// How old the oldest event was that had not been read when it was read; zero if there was none.
    pub fn set_event_lag(&self, lag: Duration) {
        self.event_lag.set(lag);
    }

    /// Whether clients' calls go to the database.
    pub fn set_breaker(&self, present: BreakerPhase) {
        for phase in BreakerPhase::ALL {
            let is_present = i64::from(*phase == present);
            self.breaker.with_label_values(&[phase.value()]).set(is_present);
        }
    }

    /// The database is not asked by clients any more.
    pub fn breaker_opened(&self) {
        self.breaker_opened.inc();
    }

    /// The database could not be reached, or did not answer.
    pub fn call_failed(&self) {
        self.calls_failed.inc();
    }

    /// So many calls were refused, because the database was known to be away.
    pub fn calls_refused(&self, count: u64) {
        self.calls_refused.inc_by(count);
    }

    /// Events were deleted because they were older than events are kept.
    pub fn events_pruned(&self, count: u64) {
        self.events_pruned.inc_by(count);
    }
}

/// Connections to the database.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Open, and free to be used.
    pub idle: u32,
    /// Open, and in use.
    pub in_use: u32,
    /// How many may be open.
    pub max: u32,
}
