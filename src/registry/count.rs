//! What became of writes, as the metrics count it.

use crate::metrics::{DeregistrationOutcome, Metrics, RegistrationOutcome};
use crate::store::{Registered, StoreError};

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

pub(super) fn deregistrations(metrics: &Metrics, results: &[Result<(), StoreError>]) {
    for result in results {
        metrics.writes.deregistered(match result {
            Ok(()) => DeregistrationOutcome::Removed,
            Err(StoreError::NotFound) => DeregistrationOutcome::NotFound,
            Err(error) if is_refusal(error) => DeregistrationOutcome::Refused,
            Err(_) => DeregistrationOutcome::Failed,
        });
    }
}

/// Whether somebody's condition or rule was against it, and nothing is wrong with the database.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::PreconditionFailed { .. } | StoreError::Refused(_))
}
