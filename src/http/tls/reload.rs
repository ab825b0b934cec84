//! Certificates are renewed while the server runs. The files are looked at every second, and at SIGHUP.
//!
//! What counts is what is in them: times of files say little, and nothing where a folder is swapped by a symbolic link,
//! as Kubernetes does it.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Acceptors;
use super::files::{self, Contents, Expiry};
use crate::config::TlsSettings;
use crate::metrics::Metrics;

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps certificate, key and authorities as they are in the files.
pub(in crate::http) struct Reloader {
    settings: TlsSettings,
    /// What was tried last, whether it was good or not.
    tried: Contents,
    /// Of the certificate in use.
    expiry: Expiry,
    acceptors: Acceptors,
    metrics: Arc<Metrics>,
    /// `None` if the signal can't be handled.
    hangup: Option<Signal>,
}

impl Reloader {
    pub(super) fn new(
        settings: TlsSettings,
        tried: Contents,
        expiry: Expiry,
        acceptors: Acceptors,
        metrics: Arc<Metrics>,
    ) -> Self {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(%error, "SIGHUP can't be handled; changes of the TLS files are seen anyway"))
            .ok();
        Self { settings, tried, expiry, acceptors, metrics, hangup }
    }

    /// Reads what changes, for ever.
    pub(in crate::http) async fn keep_current(mut self) {
        let mut seen = self.tried.clone();
        loop {
            let told = tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => false,
                () = hung_up(&mut self.hangup) => true,
            };
            self.expiry.look(&self.metrics);
            let found = match files::read(self.settings.clone()).await {
                Ok(found) => found,
                Err(reason) => {
                    tracing::error!(reason, "the TLS files were not looked at");
                    continue;
                }
            };
            // Certificate and key are replaced one after the other, and seen in between they don't match: what has just
            // changed is left alone until it has stayed as it is for a moment.
            let settled = found == seen;
            if told || (settled && found != self.tried) {
                self.take(&found);
                self.tried = found.clone();
            }
            seen = found;
        }
    }

    fn take(&mut self, found: &Contents) {
        match files::understand(found, &self.settings) {
            Ok(understood) => {
                self.expiry = understood.expiry;
                self.expiry.look(&self.metrics);
                self.acceptors.set(understood.server);
                tracing::info!("the TLS files were read again: new connections use them");
            }
            Err(wrong) => {
                self.metrics.door.reload_failed();
                tracing::error!(
                    wrong = wrong.join("; "),
                    "the TLS files have changed and can't be used: what was read before stays"
                );
            }
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    let told = match signal {
        Some(signal) => signal.recv().await.is_some(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
    }
}
