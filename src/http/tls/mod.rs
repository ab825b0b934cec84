//! TLS: connections are encrypted with the certificate that is in the files at the time, and clients may show theirs.
//!
//! Only TLS 1.2 and 1.3. Who is connected already stays so when the files change.

mod files;
mod reload;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::config::TlsSettings;
use crate::metrics::Metrics;

pub(super) use self::reload::Reloader;

/// The certificate and key that connections are encrypted with, and what keeps them current.
pub struct Tls {
    pub(super) acceptors: Acceptors,
    pub(super) reloader: Reloader,
}

/// All that is wrong with the files.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadTls(Vec<String>);

impl Tls {
    /// Reads the files. From now on, SIGHUP doesn't end the process: the files are read again.
    ///
    /// # Errors
    /// All that is wrong with them, each with the name of its variable.
    pub async fn load(settings: TlsSettings, metrics: Arc<Metrics>) -> Result<Self, BadTls> {
        let contents = files::read(settings.clone()).await.map_err(|reason| BadTls(vec![reason]))?;
        let config = files::understand(&contents, &settings).map_err(BadTls)?;
        let mut expiry = config.expiry;
        expiry.look(&metrics);
        let acceptors = Acceptors(Arc::new(ArcSwap::from_pointee(config.server)));
        let reloader = Reloader::new(settings, contents, expiry, acceptors.clone(), metrics);
        Ok(Self { acceptors, reloader })
    }
}

/// What to greet the next connection with.
#[derive(Clone)]
pub(super) struct Acceptors(Arc<ArcSwap<ServerConfig>>);

impl Acceptors {
    pub(super) fn current(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }

    fn set(&self, config: ServerConfig) {
        self.0.store(Arc::new(config));
    }
}
