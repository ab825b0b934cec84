//! Certificates, a server that has one, and clients that look at it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onex_registry::http::{Door, Ended, Tls};
use onex_registry::metrics::Metrics;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio_util::sync::CancellationToken;

/// Somebody who vouches for names.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "an authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Vouches for a server at `127.0.0.1`.
    pub(crate) fn server(&self) -> Identity {
        self.server_until(4096)
    }

    /// The same until the first day of a year.
    pub(crate) fn server_until(&self, year: i32) -> Identity {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    /// Vouches for a client.
    pub(crate) fn client(&self, common_name: Option<&str>, dns_names: &[&str]) -> Identity {
        let names: Vec<String> = dns_names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Identity {
    /// Writes `cert.pem` and `key.pem` into a folder, and returns the arguments that name them.
    pub(crate) fn write(&self, folder: &Path) -> [String; 2] {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        [format!("--tls-cert={}", certificate.display()), format!("--tls-key={}", key.display())]
    }
}

/// Who connects, and how.
#[derive(Clone)]
pub(crate) struct Caller<'c> {
    /// Whom it trusts, as PEM.
    pub trusted: String,
    pub identity: Option<&'c Identity>,
    pub alpn: &'static [&'static str],
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl Caller<'_> {
    pub(crate) fn trusting(authority: &Authority) -> Self {
        static VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        Self { trusted: authority.pem(), identity: None, alpn: &["h2", "http/1.1"], versions: &VERSIONS }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusted.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.identity {
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await
    }

    /// GET over whatever is agreed upon; the status and the body.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
        let stream = self.connect(address).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let request = get(path);
        let response = if is_http2 {
            over_http2(stream).await.map_err(io::Error::other)?.send_request(request).await
        } else {
            over_http1(stream).await.map_err(io::Error::other)?.send_request(request).await
        };
        Ok(read(response.map_err(io::Error::other)?).await)
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "registry").body(Full::default()).unwrap()
}

pub(crate) async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(crate) async fn over_http1<S>(stream: S) -> hyper::Result<http1::SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) async fn over_http2<S>(stream: S) -> hyper::Result<http2::SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A door with a router of the test's behind it, and no database.
pub(crate) struct Served {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    serving: JoinHandle<Ended>,
    _folder: TempDir,
}

impl Served {
    /// Serves with the settings of the door that are given, such as `--max-connections=1`.
    pub(crate) async fn start(router: axum::Router, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = super::server::settings("sqlite://unused.db", arguments);
        let metrics = Arc::new(Metrics::new().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = match settings.tls {
            Some(files) => Some(Tls::load(files, Arc::clone(&metrics)).await.unwrap()),
            None => None,
        };
        let door = Door { listener, tls, limits: settings.connections, metrics: Arc::clone(&metrics) };
        let stop = CancellationToken::new();
        let limit = settings.shutdown_timeout;
        let serving =
            tokio::spawn(onex_registry::http::serve(door, router, stop.clone().cancelled_owned(), limit));
        Self { address, metrics, stop, serving, _folder: folder }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The value of a metric without its prefix.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("onex_registry_")?.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(' ')).map(|value| value.parse().unwrap())
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops, and tells whether no request was cut off.
    pub(crate) async fn stop(self) -> bool {
        self.stop.cancel();
        self.serving.await.unwrap().in_time
    }
}

/// An answer of so many bytes, all at once.
pub(crate) fn large(bytes: usize) -> Body {
    Body::from(vec![b'x'; bytes])
}
