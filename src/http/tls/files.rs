//! The files of TLS: read, and made sense of.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{ClientAuth, TlsSettings};
use crate::metrics::Metrics;
use crate::small_file;

const CERT: &str = "ONEX_REGISTRY_TLS_CERT";
const KEY: &str = "ONEX_REGISTRY_TLS_KEY";
const CLIENT_CA: &str = "ONEX_REGISTRY_TLS_CLIENT_CA";

/// No certificates or keys are larger than this.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What is in the files, or why that can't be said. It has a private key in it: it must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificates: Result<Vec<u8>, String>,
    key: Result<Vec<u8>, String>,
    client_ca: Option<Result<Vec<u8>, String>>,
}

/// Reads the files. A slow file system holds up nobody but whoever waits for this.
pub(super) async fn read(settings: TlsSettings) -> Result<Contents, String> {
    let reading = tokio::task::spawn_blocking(move || Contents {
        certificates: read_file(CERT, &settings.certificate),
        key: read_file(KEY, &settings.key),
        client_ca: settings.client_auth.as_ref().map(|auth| read_file(CLIENT_CA, &auth.authorities)),
    });
    reading.await.map_err(|error| format!("{CERT}: the files can't be read ({error})"))
}

fn read_file(name: &str, path: &Path) -> Result<Vec<u8>, String> {
    small_file::read(path, MAX_FILE_BYTES).map_err(|why| format!("{name}: '{}' {why}", path.display()))
}

/// What the files come to.
pub(super) struct Understood {
    pub(super) server: ServerConfig,
    pub(super) expiry: Expiry,
}

/// When a certificate expires, and whether that has been said.
pub(super) struct Expiry {
    /// In seconds since 1970.
    at: i64,
    told: bool,
}

impl Expiry {
    fn at(at: i64) -> Self {
        Self { at, told: false }
    }

    /// Tells the metrics when it is, and the log once it is over.
    pub(super) fn look(&mut self, metrics: &Metrics) {
        metrics.door.set_certificate_expiry(self.at);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let is_over = i64::try_from(now.as_secs()).is_ok_and(|now| now >= self.at);
        // Not refused: clients decide what they trust, and some don't look.
        if is_over && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(setting = CERT, "the certificate has expired: most clients will refuse it");
        }
    }
}

/// Makes sense of what is in the files.
///
/// # Errors
/// All that is wrong with them.
pub(super) fn understand(contents: &Contents, settings: &TlsSettings) -> Result<Understood, Vec<String>> {
    // Named, not taken from the process: which provider is the default there depends on who comes first.
    let provider = Arc::new(ring::default_provider());
    let mut wrong = Vec::new();
    let chain = note(&mut wrong, contents.certificates.clone().and_then(|pem| chain(&pem)));
    let key = note(&mut wrong, contents.key.clone().and_then(|pem| private_key(&pem)));
    let verifier = settings.client_auth.as_ref().zip(contents.client_ca.clone()).map(|(auth, pem)| {
        note(&mut wrong, pem.and_then(|pem| client_verifier(&pem, auth, Arc::clone(&provider))))
    });
    let certified = match (chain, key) {
        (Some((chain, expires)), Some(key)) => {
            note(&mut wrong, certify(chain, key, &provider)).map(|certified| (certified, expires))
        }
        _ => None,
    };
    // Without a fault, there is all of it.
    let (Some((certified, expires)), true) = (certified, wrong.is_empty()) else { return Err(wrong) };
    let server = server_config(certified, verifier.flatten(), provider)
        .map_err(|error| vec![format!("{CERT}: TLS can't be set up ({error})")])?;
    Ok(Understood { server, expiry: Expiry::at(expires) })
}

fn note<T>(wrong: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|reason| wrong.push(reason)).ok()
}

/// The certificates, that of the server first, and when that expires.
fn chain(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, i64), String> {
    let chain = certificates(CERT, pem)?;
    let broken = || format!("{CERT}: the first certificate is broken");
    let first = chain.first().ok_or_else(broken)?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|_| broken())?;
    let expires = certificate.validity().not_after.timestamp();
    Ok((chain, expires))
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| format!("{name}: the file is not in PEM format, or cut short"))?;
    if found.is_empty() {
        return Err(format!("{name}: the file has no certificate in PEM format (BEGIN CERTIFICATE)"));
    }
    Ok(found)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // What the error says may be part of the key: it is not repeated.
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound if pem.windows(9).any(|part| part == b"ENCRYPTED") => {
            format!("{KEY}: the key is encrypted; the server needs it in the clear, readable by nobody else")
        }
        pem::Error::NoItemsFound => {
            format!("{KEY}: the file has no private key in PEM format (BEGIN PRIVATE KEY)")
        }
        _ => format!("{KEY}: the file is not in PEM format, or cut short"),
    })
}

/// Puts certificate and key together, and checks that they belong so.
fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| format!("{KEY}: the key is broken, or of a kind that is not supported"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err(format!("{KEY}: the key is not that of the certificate in {CERT}"))
        }
        Err(error) => Err(format!("{CERT}: the certificate can't be used ({error})")),
    }
}

fn client_verifier(
    pem: &[u8],
    auth: &ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, pem)? {
        authorities
            .add(certificate)
            .map_err(|error| format!("{CLIENT_CA}: a certificate is no authority's ({error})"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let builder = if auth.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| format!("{CLIENT_CA}: {error}"))
}

fn server_config(
    certified: CertifiedKey,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
    let asks_clients = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Only(Arc::new(certified))));
    if asks_clients {
        // A session that is resumed is not verified again, and the certificate may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The one certificate, whatever name a client asks for.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
