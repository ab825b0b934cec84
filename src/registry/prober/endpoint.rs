//! A `health_endpoint`: text that anybody may have written, parsed once, and the connection that is kept to it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hyper::Uri;
use hyper::header::HeaderValue;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use super::connection::Connection;

/// What is probed.
pub(super) struct Endpoint {
    url: String,
    /// `None` if it is nothing that is probed.
    pub(super) route: Option<Route>,
    /// The connection of the last probe, if it can be used again. At most one probe of a target is under way, so there
    /// is never a second one to keep. The lock is held to take or put it only.
    parked: Mutex<Option<Connection>>,
}

impl Endpoint {
    pub(super) fn new(url: String) -> Self {
        let route = Route::parse(&url);
        Self { url, route, parked: Mutex::new(None) }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Takes the kept connection.
    pub(super) fn unpark(&self) -> Option<Connection> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps a connection.
    pub(super) fn park(&self, connection: Connection) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

/// The way to an endpoint, and what to ask there.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) place: Place,
    pub(super) port: u16,
    /// For `https`: whose certificate is expected.
    pub(super) tls: Option<ServerName<'static>>,
    pub(super) host_header: HeaderValue,
    /// Path and query.
    pub(super) target: Uri,
}

/// Who is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An address that stood in the URL, in whichever spelling.
    Address(IpAddr),
    /// A name to resolve.
    Name(String),
}

impl Route {
    /// `None` if it is not an `http` or `https` URL without user info. URLs that registration refuses get here from
    /// those who write to the table themselves.
    fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let place = match url.host()? {
            Host::Ipv4(address) => Place::Address(address.into()),
            Host::Ipv6(address) => Place::Address(address.into()),
            Host::Domain(name) => Place::Name(name.to_owned()),
        };
        let tls = if tls {
            Some(match &place {
                Place::Address(address) => ServerName::from(*address),
                // Certificates are issued to names without the dot of the root (RFC 6066, section 3).
                Place::Name(name) => {
                    ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).ok()?
                }
            })
        } else {
            None
        };
        Some(Self {
            place,
            port: url.port_or_known_default()?,
            tls,
            host_header: HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()?,
            target: url[Position::BeforePath..Position::AfterQuery].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_go_and_what_to_ask() {
        let route = Route::parse("https://Node.example:8443/health/live?deep=1&x=%20#part").unwrap();
        assert_eq!(route.place, Place::Name("node.example".to_owned()));
        assert_eq!((route.port, route.host_header.as_bytes()), (8443, &b"node.example:8443"[..]));
        assert_eq!(route.target, "/health/live?deep=1&x=%20");
        assert!(route.tls.is_some());
        let route = Route::parse("http://[::1]").unwrap();
        assert_eq!(route.place, Place::Address("::1".parse().unwrap()));
        assert_eq!((route.port, route.host_header.as_bytes()), (80, &b"[::1]"[..]));
        assert_eq!(route.target, "/");
        assert!(route.tls.is_none());
    }

    #[test]
    fn an_address_is_one_in_every_spelling() {
        let metadata = Place::Address("169.254.169.254".parse().unwrap());
        for host in ["2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.169.254.", "169.254.43518"] {
            let route = Route::parse(&format!("http://{host}/")).unwrap();
            assert_eq!(route.place, metadata, "{host}");
        }
    }

    #[test]
    fn what_is_no_plain_web_address_is_not_probed() {
        let everything = [
            "",
            "/health",
            "localhost:80",
            "ftp://h/",
            "file:///etc/passwd",
            "unix:/run/x.sock",
            "http://",
            "http://user@h/",
            "http://:secret@h/",
            "http://h:99999/",
            "http://[::1/",
            "http://a b/",
            "\0",
            "http://256.1.1.1/",
            "http://[fe80::1%25eth0]/",
        ];
        for url in everything {
            assert!(Route::parse(url).is_none(), "{url:?}");
        }
    }
}
