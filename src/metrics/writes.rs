//! Registrations and deregistrations.

use prometheus::Registry;

use super::family::Counters;
use super::{DeregistrationOutcome, MetricsError, RegistrationOutcome};

/// Registrations and deregistrations, each item of a batch for itself.
pub struct Writes {
    registrations: Counters<RegistrationOutcome>,
    deregistrations: Counters<DeregistrationOutcome>,
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
        })
    }

    /// A registration was done, or wasn't.
    pub fn registered(&self, outcome: RegistrationOutcome) {
        self.registrations.add(outcome, 1);
    }

    /// A deregistration was done, or wasn't.
    pub fn deregistered(&self, outcome: DeregistrationOutcome) {
        self.deregistrations.add(outcome, 1);
    }
}
