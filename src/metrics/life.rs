//! Signs of life, and what follows from their absence.

use prometheus::{IntCounter, Registry};

use super::family::{Counters, Number};
use super::{HeartbeatSource, MetricsError, StatusChange, family};

/// Heartbeats, changes of status, expiries, and what holds those back.
pub struct Life {
    heartbeats: Counters<HeartbeatSource>,
    heartbeats_unknown: IntCounter,
    status_changes: Counters<StatusChange>,
    expired: IntCounter,
    self_preservation: Number,
    self_preservation_stale: Number,
    self_preservation_of: Number,
    leader: Number,
}

impl Life {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            heartbeats: Counters::new(
                registry,
                "heartbeats_total",
                "Signs of life of registered nodes, by who gave them.",
                "source",
            )?,
            heartbeats_unknown: family::counter(
                registry,
                "heartbeats_unknown_total",
                "Signs of life of nodes that are not registered.",
            )?,
            status_changes: Counters::new(
                registry,
                "status_changes_total",
                "Nodes that became healthy or stale, as this server noted it for all replicas.",
                "kind",
            )?,
            expired: family::counter(
                registry,
                "expired_total",
                "Nodes that this server deregistered because they had been stale for too long.",
            )?,
            self_preservation: Number::new(
                registry,
                "self_preservation",
                "Whether no node expires because too many are stale at once: 1 yes, 0 no.",
            )?,
            self_preservation_stale: Number::new(
                registry,
                "self_preservation_stale",
                "Stale nodes, as the decision on self-preservation counts them.",
            )?,
            self_preservation_of: Number::new(
                registry,
                "self_preservation_of",
                "Nodes that could be stale, as the decision on self-preservation counts them.",
            )?,
            leader: Number::new(
                registry,
                "leader",
                "Whether this server does what one does for all replicas: 1 yes, 0 no.",
            )?,
        })
    }

    /// Registered nodes gave signs of life.
    pub fn heartbeats(&self, source: HeartbeatSource, count: u64) {
        self.heartbeats.add(source, count);
    }

    /// Nodes gave signs of life that are not registered.
    pub fn heartbeats_unknown(&self, count: u64) {
        self.heartbeats_unknown.inc_by(count);
    }

    /// Nodes became healthy or stale.
    pub fn status_changed(&self, change: StatusChange, count: u64) {
        self.status_changes.add(change, count);
    }

    /// Nodes were deregistered because they had been stale for too long.
    pub fn expired(&self, count: u64) {
        self.expired.inc_by(count);
    }

    /// Whether nodes are kept from expiring, and why.
    pub fn set_self_preservation(&self, SelfPreservation { on, stale, of }: SelfPreservation) {
        self.self_preservation.set(on.into());
        self.self_preservation_stale.set_count(stale);
        self.self_preservation_of.set_count(of);
    }

    /// Whether this server does what one does for all replicas.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(leader.into());
    }
}

/// Whether nodes are kept from expiring, and why.
#[derive(Debug, Clone, Copy)]
pub struct SelfPreservation {
    /// Whether they are.
    pub on: bool,
    /// How many are stale.
    pub stale: u64,
    /// Of how many that could be.
    pub of: u64,
}
