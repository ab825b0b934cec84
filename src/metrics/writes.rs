//! Registrations and deregistrations, and the batches in which they and signs of life are written.

use std::time::Duration;

use prometheus::{IntGaugeVec, Registry};

use super::family::{self, Counters, Durations, Sizes};
use super::label::Label as _;
use super::{DeregistrationOutcome, MetricsError, RegistrationOutcome, WriteLane};

/// Bounds of batches, in items.
const ITEMS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0];
/// Bounds of their durations, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Registrations and deregistrations, each item of a batch for itself; and batches.
pub struct Writes {
    registrations: Counters<RegistrationOutcome>,
    deregistrations: Counters<DeregistrationOutcome>,
    queue_lengths: IntGaugeVec,
    batch_items: Sizes<WriteLane>,
    batch_durations: Durations<WriteLane>,
    rejected: Counters<WriteLane>,
}

impl Writes {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            registrations: Counters::new(
                registry,
                "registrations_total",
                "Valid registrations, by what became of them.",
                "outcome",
            )?,
            deregistrations: Counters::new(
                registry,
                "deregistrations_total",
                "Deregistrations that were asked for, by what became of them.",
                "outcome",
            )?,
            queue_lengths: family::gauges(
                registry,
                "write_queue_length",
                "Writes and signs of life that wait to be put into a batch, by lane; held: that wait for a row.",
                &["lane"],
            )?,
            batch_items: Sizes::new(
                registry,
                "write_batch_items",
                "Items of the batches that were given to the database, by lane.",
                "lane",
                &ITEMS,
            )?,
            batch_durations: Durations::new(
                registry,
                "write_batch_duration_seconds",
                "Time that the database took for a batch, until its callers were answered, by lane.",
                "lane",
                &SECONDS,
            )?,
            rejected: Counters::new(
                registry,
                "writes_rejected_total",
                "Writes and signs of life that were refused because too many waited, or for too long, by lane.",
                "lane",
            )?,
        })
    }

    /// Registrations were done, or weren't.
    pub fn registered(&self, outcome: RegistrationOutcome, count: u64) {
        self.registrations.add(outcome, count);
    }

    /// Deregistrations were done, or weren't.
    pub fn deregistered(&self, outcome: DeregistrationOutcome, count: u64) {
        self.deregistrations.add(outcome, count);
    }

    /// So much waits.
    pub fn set_queue_lengths(&self, QueueLengths { writes, heartbeats, held }: QueueLengths) {
        for (lane, length) in
            [(WriteLane::Writes, writes), (WriteLane::Heartbeats, heartbeats), (WriteLane::Held, held)]
        {
            self.queue_lengths.with_label_values(&[lane.value()]).set(family::clamped(length as u64));
        }
    }

    /// A batch of so many items was given to the database.
    pub fn batch_begun(&self, lane: WriteLane, items: usize) {
        self.batch_items.observe(lane, items);
    }

    /// It came back.
    pub fn batch_ended(&self, lane: WriteLane, took: Duration) {
        self.batch_durations.observe(lane, took);
    }

    /// What waited was too much, or for too long.
    pub fn rejected(&self, lane: WriteLane, count: u64) {
        self.rejected.add(lane, count);
    }
}

/// How much waits to be written.
#[derive(Debug, Clone, Copy)]
pub struct QueueLengths {
    /// Registrations, deregistrations, maintenance.
    pub writes: usize,
    /// Signs of life.
    pub heartbeats: usize,
    /// What met a row that another transaction holds.
    pub held: usize,
}
