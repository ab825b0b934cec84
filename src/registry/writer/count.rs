//! What became of writes, as the metrics count it. What comes back to be tried again has not come to an end.

use super::work::{Callers, Work};
use crate::metrics::{DeregistrationOutcome, HeartbeatSource, Metrics, RegistrationOutcome};
use crate::registry::{RegistryError, SignOfLife};
use crate::store::{Deregistered, Registered};

pub(super) fn registrations(metrics: &Metrics, results: &[Result<Registered, RegistryError>]) {
    let (mut created, mut renewed, mut refused, mut failed) = (0, 0, 0, 0);
    for result in results {
        match result {
            Ok(registered) if registered.created => created += 1,
            Ok(_) => renewed += 1,
            Err(RegistryError::Held) => {}
            Err(error) if is_refusal(error) => refused += 1,
            Err(_) => failed += 1,
        }
    }
    for (outcome, count) in [
        (RegistrationOutcome::Created, created),
        (RegistrationOutcome::Renewed, renewed),
        (RegistrationOutcome::Refused, refused),
        (RegistrationOutcome::Failed, failed),
    ] {
        if count > 0 {
            metrics.writes.registered(outcome, count);
        }
    }
}

pub(super) fn deregistrations(metrics: &Metrics, results: &[Result<Deregistered, RegistryError>]) {
    let (mut removed, mut not_found, mut refused, mut failed) = (0, 0, 0, 0);
    for result in results {
        match result {
            Ok(_) => removed += 1,
            Err(RegistryError::Held) => {}
            Err(RegistryError::NotFound) => not_found += 1,
            Err(error) if is_refusal(error) => refused += 1,
            Err(_) => failed += 1,
        }
    }
    for (outcome, count) in [
        (DeregistrationOutcome::Removed, removed),
        (DeregistrationOutcome::NotFound, not_found),
        (DeregistrationOutcome::Refused, refused),
        (DeregistrationOutcome::Failed, failed),
    ] {
        if count > 0 {
            metrics.writes.deregistered(outcome, count);
        }
    }
}

/// Signs of life, each as often as it was given.
#[derive(Default)]
pub(super) struct Beats {
    client: u64,
    probe: u64,
    unknown: u64,
}

impl Beats {
    pub(super) fn note(&mut self, callers: &Callers, result: &Result<SignOfLife, RegistryError>) {
        for caller in callers.all() {
            match (result, caller.source) {
                (Ok(_), HeartbeatSource::Client) => self.client += 1,
                (Ok(_), HeartbeatSource::Probe) => self.probe += 1,
                // A probe's node may have gone a moment ago. That is no mistake of anybody's.
                (Err(RegistryError::NotFound), HeartbeatSource::Client) => self.unknown += 1,
                (Err(_), _) => {}
            }
        }
    }

    pub(super) fn count(&self, metrics: &Metrics) {
        metrics.life.heartbeats(HeartbeatSource::Client, self.client);
        metrics.life.heartbeats(HeartbeatSource::Probe, self.probe);
        metrics.life.heartbeats_unknown(self.unknown);
    }
}

/// Items that were not tried.
pub(super) fn untried<'w>(metrics: &Metrics, items: impl Iterator<Item = &'w Work>) {
    let (mut registrations, mut deregistrations) = (0, 0);
    for item in items {
        match item {
            Work::Register(..) => registrations += 1,
            Work::Deregister(..) => deregistrations += 1,
            Work::Maintain(..) | Work::Heartbeat(_) => {}
        }
    }
    metrics.writes.registered(RegistrationOutcome::Failed, registrations);
    metrics.writes.deregistered(DeregistrationOutcome::Failed, deregistrations);
}

/// Whether somebody's condition or rule was against it, and nothing is wrong with the database.
fn is_refusal(error: &RegistryError) -> bool {
    matches!(error, RegistryError::PreconditionFailed { .. } | RegistryError::Refused(_))
}
