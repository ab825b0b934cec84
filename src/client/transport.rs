//! Connections to the server, with or without TLS. Redirects are not followed: a key goes where it was sent, and nowhere
//! else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::settings::{BadClientSettings, ClientSettings};
use crate::small_file;

pub(super) type Transport = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Servers close idle connections, and a request on one that is being closed fails: ours are closed first.
const IDLE: Duration = Duration::from_secs(5);

/// Some hundred authorities take 300 kB.
const MAX_AUTHORITIES_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn connect(settings: &ClientSettings) -> Result<Transport, BadClientSettings> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(settings.connect_timeout));
    http.set_keepalive(Some(Duration::from_secs(30)));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(settings)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector))
}

fn tls(settings: &ClientSettings) -> Result<ClientConfig, BadClientSettings> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        let wrong = |reason: String| BadClientSettings(vec![format!("ONEX_REGISTRY_CA_FILE: {reason}")]);
        let pem = small_file::read(path, MAX_AUTHORITIES_BYTES)
            .map_err(|reason| wrong(format!("'{}' {reason}", path.display())))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| wrong(format!("'{}' is not PEM", path.display())))?;
            roots
                .add(certificate)
                .map_err(|_| wrong(format!("'{}' has a certificate that can't be read", path.display())))?;
        }
        if roots.is_empty() {
            return Err(wrong(format!("'{}' has no certificate in it", path.display())));
        }
    } else if settings.url.is_encrypted() {
        // To read them takes time, which those don't spend who need none. If there are none, that is said by the first
        // certificate that nobody vouches for.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    // Named, not taken from the process: which provider is the default there depends on who comes first.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|reason| BadClientSettings(vec![format!("TLS: {reason}")]))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
