//! When a node counts as alive, and how that is found out.

use std::time::Duration;

use clap::Args;

use super::{DAY, SECOND, Wrong, read};
use crate::registry::prober::{AddressPolicy, ProbeSettings};

/// The settings of liveness, as they were given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RawLiveness {
    /// How long a node counts as alive after a sign of life, unless it says otherwise
    #[arg(long, env = "ONEX_REGISTRY_TTL", value_name = "DURATION", default_value = "90s")]
    ttl: String,
    /// How long after it became stale a node is deregistered: a duration, or never
    #[arg(long, env = "ONEX_REGISTRY_EXPIRE_AFTER", value_name = "DURATION", default_value = "never")]
    expire_after: String,
    /// Expiry pauses if more than so many percent of those that were healthy one TTL ago are stale; 100: it never does
    #[arg(
        long,
        env = "ONEX_REGISTRY_SELF_PRESERVATION_PERCENT",
        value_name = "PERCENT",
        default_value = "15"
    )]
    self_preservation_percent: String,
    /// How often each health endpoint is probed; 0: never. At most a third of a node's TTL, and at least 1s
    #[arg(long, env = "ONEX_REGISTRY_PROBE_INTERVAL", value_name = "DURATION", default_value = "30s")]
    probe_interval: String,
    /// How long a probe may take; no longer than the interval
    #[arg(long, env = "ONEX_REGISTRY_PROBE_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    probe_timeout: String,
    /// How many probes may be under way at once; a quarter of them is for targets that fail
    #[arg(long, env = "ONEX_REGISTRY_PROBE_CONCURRENCY", value_name = "NUMBER", default_value = "256")]
    probe_concurrency: String,
    /// Networks that are not probed, separated by commas, besides link-local and cloud metadata addresses
    #[arg(long, env = "ONEX_REGISTRY_PROBE_DENY", value_name = "NETWORKS", default_value = "")]
    probe_deny: String,
    /// Networks that are probed in spite of all that, separated by commas
    #[arg(long, env = "ONEX_REGISTRY_PROBE_ALLOW", value_name = "NETWORKS", default_value = "")]
    probe_allow: String,
}

impl RawLiveness {
    pub(super) fn ttl(&self, wrong: &mut Wrong) -> Duration {
        wrong.duration("ONEX_REGISTRY_TTL", &self.ttl, SECOND..=DAY)
    }

    pub(super) fn expire_after(&self, wrong: &mut Wrong) -> Option<Duration> {
        let bounds = SECOND..=365 * DAY;
        wrong.duration_or("never", "ONEX_REGISTRY_EXPIRE_AFTER", &self.expire_after, bounds)
    }

    pub(super) fn self_preservation_percent(&self, wrong: &mut Wrong) -> u8 {
        let percent = read::percent(&self.self_preservation_percent);
        wrong.or("ONEX_REGISTRY_SELF_PRESERVATION_PERCENT", percent, 15)
    }

    pub(super) fn probing(&self, wrong: &mut Wrong) -> Option<ProbeSettings> {
        let is_off = humantime::parse_duration(&self.probe_interval).is_ok_and(|interval| interval.is_zero());
        let interval = if is_off {
            Duration::ZERO
        } else {
            wrong.duration("ONEX_REGISTRY_PROBE_INTERVAL", &self.probe_interval, SECOND..=DAY)
        };
        let settings = ProbeSettings {
            interval,
            timeout: wrong.duration("ONEX_REGISTRY_PROBE_TIMEOUT", &self.probe_timeout, SECOND / 10..=DAY),
            concurrency: wrong.or(
                "ONEX_REGISTRY_PROBE_CONCURRENCY",
                read::number(&self.probe_concurrency, 2..=10_000),
                256,
            ),
            idle_connections: MOST_IDLE_CONNECTIONS,
            addresses: AddressPolicy::new(
                wrong.or("ONEX_REGISTRY_PROBE_DENY", read::networks(&self.probe_deny), Vec::new()),
                wrong.or("ONEX_REGISTRY_PROBE_ALLOW", read::networks(&self.probe_allow), Vec::new()),
            ),
        };
        (!is_off).then_some(settings)
    }
}

/// So many connections to nodes are kept between probes, if the operating system lets us have so many open files.
const MOST_IDLE_CONNECTIONS: usize = 20_000;
