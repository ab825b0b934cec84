//! Connections: who comes in, and who is turned away.

use prometheus::{IntCounter, IntGauge, Registry};

use super::family::{self, Counters, Number};
use super::{MetricsError, Refusal};

/// Connections and their encryption.
pub struct Door {
    open: IntGauge,
    refused: Counters<Refusal>,
    rate_limited: IntCounter,
    handshakes_failed: IntCounter,
    certificate_expiry: Number,
    reloads_failed: IntCounter,
}

impl Door {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            open: family::gauge(registry, "http_connections", "Connections that are open.")?,
            refused: Counters::new(
                registry,
                "http_connections_refused_total",
                "Connections that were turned away, by why.",
                "reason",
            )?,
            rate_limited: family::counter(
                registry,
                "http_requests_rate_limited_total",
                "Requests that were answered with 429 because their client sends too many.",
            )?,
            handshakes_failed: family::counter(
                registry,
                "tls_handshake_failures_total",
                "Connections of clients that said something, or kept silent for too long, and did not agree upon TLS.",
            )?,
            certificate_expiry: Number::new(
                registry,
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate expires that new connections are encrypted with, in seconds since 1970.",
            )?,
            reloads_failed: family::counter(
                registry,
                "tls_reload_failures_total",
                "Changes of the TLS files that could not be used.",
            )?,
        })
    }

    /// A connection has been opened. It is open as long as the value lives.
    pub fn opened(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    /// A connection was turned away.
    pub fn refused(&self, why: Refusal) {
        self.refused.add(why, 1);
    }

    /// A request was turned away because its client sends too many.
    pub fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    /// TLS was not agreed upon with a client.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// The certificate expires then, in seconds since 1970.
    pub fn set_certificate_expiry(&self, seconds: i64) {
        self.certificate_expiry.set(seconds);
    }

    /// The TLS files have changed, and can't be used.
    pub fn reload_failed(&self) {
        self.reloads_failed.inc();
    }
}

/// A connection that is open. It counts as long as this lives.
#[derive(Debug)]
#[must_use = "a connection is open as long as this lives"]
pub struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
