//! What became of writes, as the metrics count it.

use crate::metrics::{DeregistrationOutcome, HeartbeatSource, Metrics, RegistrationOutcome};
use crate::store::{Deregistered, Heartbeat, Registered, StoreError};

pub(super) fn registrations(metrics: &Metrics, results: &[Result<Registered, StoreError>]) {
    for result in results {
        metrics.writes.registered(match result {
            Ok(registered) if registered.created => RegistrationOutcome::Created,
            Ok(_) => RegistrationOutcome::Renewed,
            Err(error) if is_refusal(error) => RegistrationOutcome::Refused,
            Err(_) => RegistrationOutcome::Failed,
        });
    }
}

pub(super) fn deregistrations(metrics: &Metrics, results: &[Result<Deregistered, StoreError>]) {
    for result in results {
        metrics.writes.deregistered(match result {
            Ok(_) => DeregistrationOutcome::Removed,
            Err(StoreError::NotFound) => DeregistrationOutcome::NotFound,
            Err(error) if is_refusal(error) => DeregistrationOutcome::Refused,
            Err(_) => DeregistrationOutcome::Failed,
        });
    }
}

/// Those that clients sent.
pub(super) fn heartbeats(metrics: &Metrics, results: &[Result<Heartbeat, StoreError>]) {
    let noted = results.iter().filter(|result| result.is_ok()).count();
    let unknown = results.iter().filter(|result| matches!(result, Err(StoreError::NotFound))).count();
    metrics.life.heartbeats(HeartbeatSource::Client, noted as u64);
    metrics.life.heartbeats_unknown(unknown as u64);
}

/// Whether somebody's condition or rule was against it, and nothing is wrong with the database.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::PreconditionFailed { .. } | StoreError::Refused(_))
}
