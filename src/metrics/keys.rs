//! API keys.

use prometheus::Registry;

use super::family::{Counters, Number, clamped};
use super::{AuthFailure, KeysReload, MetricsError};

/// The keys in use, and requests that were refused for want of one.
pub struct Keys {
    failures: Counters<AuthFailure>,
    count: Number,
    reloads: Counters<KeysReload>,
    outdated: Number,
}

impl Keys {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            failures: Counters::new(
                registry,
                "auth_failures_total",
                "Requests, and items of batches, that were refused for want of a key or of rights, by why.",
                "reason",
            )?,
            count: Number::new(registry, "api_keys", "API keys in use, those that have expired included.")?,
            reloads: Counters::new(
                registry,
                "api_keys_reloads_total",
                "Times that the file of API keys had changed, by what became of it.",
                "outcome",
            )?,
            outdated: Number::new(
                registry,
                "api_keys_outdated",
                "Whether older keys are in use because the file is wrong as it is: 1 yes, 0 no.",
            )?,
        })
    }

    /// A request was refused.
    pub fn refused(&self, why: AuthFailure) {
        self.failures.add(why, 1);
    }

    /// So many keys of the file as it is are in use.
    pub fn in_use(&self, count: usize) {
        self.count.set(clamped(count as u64));
        self.outdated.set(0);
    }

    /// The file had changed.
    pub fn reloaded(&self, outcome: KeysReload) {
        self.reloads.add(outcome, 1);
        if outcome == KeysReload::Refused {
            self.outdated.set(1);
        }
    }
}
