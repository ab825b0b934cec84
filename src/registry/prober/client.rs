//! One probe: from an endpoint to the head of its answer.
//!
//! It is no general HTTP client, on purpose. There are no redirects, proxies, cookies or credentials to turn off, and the
//! address that is judged is the one that is connected to, because both happen here, in [`Client::connect`].

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::Outcome;
use super::addresses::AddressPolicy;
use super::connection::{Connection, MAX_BODY_BYTES};
use super::endpoint::{Endpoint, Place, Route};
use super::names::Resolve;

const AGENT: &str = concat!("onex-registry/", env!("CARGO_PKG_VERSION"), " (health check)");

/// So many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

/// What probes have in common.
pub(super) struct Client {
    pub(super) addresses: AddressPolicy,
    pub(super) names: Box<dyn Resolve>,
    pub(super) tls: TlsConnector,
    /// How many connections may be kept between probes.
    pub(super) parking: Arc<Semaphore>,
}

/// The head of an answer, and the rest of it.
pub(super) struct Answer {
    status: StatusCode,
    connection: Connection,
    body: Incoming,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// For the log.
    pub(super) reason: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    fn new(outcome: Outcome) -> Self {
        Self { outcome, reason: None }
    }

    fn because(outcome: Outcome, reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { outcome, reason: Some(reason.into()) }
    }
}

impl Client {
    /// Asks an endpoint. The caller ends it when it takes too long: at `deadline`, at the latest.
    pub(super) async fn get(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Answer, Failure> {
        let Some(route) = &endpoint.route else { return Err(Failure::new(Outcome::Refused)) };
        if let Some(mut connection) = endpoint.unpark() {
            connection.parking = None;
            // The other side may close it in this very moment, which says nothing about its health: a failure on a
            // connection that was kept is no answer.
            if connection.is_usable().await
                && let Ok(answer) = Self::ask(route, connection).await
            {
                return Ok(answer);
            }
        }
        let connection = self.connect(route, deadline).await?;
        Self::ask(route, connection).await.map_err(|error| Failure::because(Outcome::Connect, error))
    }

    async fn ask(route: &Route, mut connection: Connection) -> hyper::Result<Answer> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = route.target.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, route.host_header.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let (head, body) = connection.send(request).await?.into_parts();
        Ok(Answer { status: head.status, connection, body })
    }

    async fn connect(&self, route: &Route, deadline: Instant) -> Result<Connection, Failure> {
        let resolved = match &route.place {
            Place::Address(address) => vec![*address],
            Place::Name(name) => {
                let failed = |reason| Failure::because(Outcome::Resolve, reason);
                self.names.resolve(name).await.map_err(failed)?
            }
        };
        if resolved.is_empty() {
            return Err(Failure::new(Outcome::Resolve));
        }
        let mut permitted = resolved;
        permitted.retain(|address| self.addresses.permits(*address));
        permitted.truncate(MAX_ADDRESSES);

        let stream = reach(&permitted, route.port, deadline).await?;
        let stream = match &route.tls {
            None => Connection::new(Box::new(stream)).await,
            Some(name) => {
                let encrypted = self.tls.connect(name.clone(), stream).await;
                let failed = |error| Failure::because(Outcome::Tls, error);
                Connection::new(Box::new(encrypted.map_err(failed)?)).await
            }
        };
        stream.map_err(|error| Failure::because(Outcome::Connect, error))
    }

    /// Keeps the connection of an answer for the next probe, if there is room for it. Ends early if dropped; then the
    /// connection is closed.
    pub(super) async fn keep(&self, endpoint: &Endpoint, answer: Answer) {
        let Ok(place) = Arc::clone(&self.parking).try_acquire_owned() else { return };
        if let Some(mut connection) = answer.connection.drain(answer.body).await {
            connection.parking = Some(place);
            endpoint.park(connection);
        }
    }
}

impl Answer {
    pub(super) fn outcome(&self) -> Outcome {
        if self.status.is_success() { Outcome::Success } else { Outcome::Status }
    }
}

/// Connects to the first address that can be reached. Each has its share of the time, so that one that swallows packets
/// leaves some to the next.
async fn reach(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, Failure> {
    let mut failure = Failure::new(Outcome::Refused);
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share: Duration = deadline.saturating_duration_since(Instant::now()) / untried;
        match timeout(share, open(SocketAddr::new(address.to_canonical(), port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = Failure::because(Outcome::Connect, error),
            Err(_) => failure = Failure::new(Outcome::Timeout),
        }
    }
    Err(failure)
}

async fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // What an endpoint sends without being read stays on its side.
    socket.set_recv_buffer_size(u32::try_from(MAX_BODY_BYTES).unwrap_or(u32::MAX))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
