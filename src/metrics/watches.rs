//! Watches: streams of changes, and long polls.

use prometheus::{IntGauge, Registry};

use super::family::{self, Counters};
use super::{MetricsError, WatchEnd};

/// Who waits for changes.
pub struct Watches {
    open: IntGauge,
    polls: IntGauge,
    ended: Counters<WatchEnd>,
}

impl Watches {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            open: family::gauge(registry, "watchers", "Streams of changes that are open.")?,
            polls: family::gauge(registry, "long_polls", "Requests that wait for a change.")?,
            ended: Counters::new(
                registry,
                "watches_ended_total",
                "Streams of changes that this server ended, by why.",
                "reason",
            )?,
        })
    }

    /// A stream has begun. It is open as long as the value lives.
    pub fn opened(&self) -> Waiting {
        Waiting::new(&self.open)
    }

    /// A request waits. It does as long as the value lives.
    pub fn polled(&self) -> Waiting {
        Waiting::new(&self.polls)
    }

    /// The server has ended a stream.
    pub fn ended(&self, why: WatchEnd) {
        self.ended.add(why, 1);
    }
}

/// One that waits for changes. It counts as long as this lives, however it ends.
#[derive(Debug)]
#[must_use = "it waits as long as this lives"]
pub struct Waiting(IntGauge);

impl Waiting {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
