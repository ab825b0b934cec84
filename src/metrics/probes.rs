//! Health checks.

use std::time::Duration;

use prometheus::{Histogram, Registry};

use super::family::{Counters, Durations, Number};
use super::{MetricsError, ProbeOutcome, family};

/// A health check goes over the network, and has 10 s unless it is configured otherwise, in seconds.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];
/// From a moment to more than the interval, which is 30 s unless it is configured otherwise, in seconds.
const LATENESS_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// Health checks.
pub struct Probes {
    ended: Counters<ProbeOutcome>,
    duration: Durations<ProbeOutcome>,
    lateness: Histogram,
    targets: Number,
}

impl Probes {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            ended: Counters::new(registry, "probes_total", "Health checks, by how they ended.", "outcome")?,
            duration: Durations::new(
                registry,
                "probe_duration_seconds",
                "Time that health checks took, by how they ended.",
                "outcome",
                &DURATION_BUCKETS,
            )?,
            lateness: family::histogram(
                registry,
                "probe_lateness_seconds",
                "Time from when a health check was due to when it began.",
                &LATENESS_BUCKETS,
            )?,
            targets: Number::new(registry, "probe_targets", "Nodes whose health this server checks.")?,
        })
    }

    /// A health check begins, so long after it was due.
    pub fn begun(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// A health check has ended, so long after it began.
    pub fn ended(&self, outcome: ProbeOutcome, took: Duration) {
        self.ended.add(outcome, 1);
        self.duration.observe(outcome, took);
    }

    /// How many nodes have their health checked by this server.
    pub fn set_targets(&self, count: u64) {
        self.targets.set_count(count);
    }
}
