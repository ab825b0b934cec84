//! One connection: what it speaks, and HTTP/1. HTTP/2 is in [`super::http2`].

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::certified::CertifiedName;
use super::heads::{HEAD_TIMEOUT, Heads, Timed};
use super::http2::{self, PREFACE};
use super::peer::{Peer, Sender};
use super::problem::Problem;
use super::tls::Acceptors;
use super::transport::Transport;
use super::turned_away;
use super::watch::EVENT_STREAM;
use crate::metrics::Metrics;

/// How long a connection may be idle, a new one too. One that is held and not used costs an open file.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long TLS may take to be agreed upon.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a request, and the most header fields in it.
pub(super) const MAX_HEAD_BYTES: u32 = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// The first byte of a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What all connections share.
pub(super) struct Shared {
    pub(super) router: Router,
    /// `None`: connections are not encrypted.
    pub(super) acceptors: Option<Acceptors>,
    pub(super) metrics: Arc<Metrics>,
    /// The server is about to stop: who is answered is told to make no other request on this connection.
    pub(super) leaving: CancellationToken,
    pub(super) stopping: CancellationToken,
    /// Requests that are being answered.
    pub(super) in_flight: Arc<AtomicUsize>,
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, address: IpAddr, shared: Arc<Shared>) {
    let transport = Transport::new(stream, shared.stopping.clone());
    match &shared.acceptors {
        // Boxed, as is what is rare below: every connection would have room for it.
        Some(acceptors) => Box::pin(encrypted(transport, address, acceptors, &shared)).await,
        None => plain(transport, address, &shared).await,
    }
}

async fn plain(mut transport: Transport, address: IpAddr, shared: &Shared) {
    let limit = IDLE_TIMEOUT + HEAD_TIMEOUT;
    let Some(Ok(is_http2)) = in_time(limit, transport.begins_with(PREFACE), shared).await else { return };
    if is_http2 {
        let sender = Sender { peer: Peer::new(address, None), name: None };
        Box::pin(http2::serve(transport, sender, shared)).await;
    } else {
        let sender = Sender { peer: Peer::new(address, Some(transport.socket())), name: None };
        http1(transport, sender, HalfClose::Allowed, shared).await;
    }
}

async fn encrypted(transport: Transport, address: IpAddr, acceptors: &Acceptors, shared: &Shared) {
    let handshake = async {
        match transport.first_byte().await? {
            Some(byte) if byte == HANDSHAKE_RECORD || !byte.is_ascii_uppercase() => {
                acceptors.current().accept(transport).await.map(|stream| Greeted::Agreed(Box::new(stream)))
            }
            // Most likely HTTP without TLS. To be told helps more than to be hung up on.
            Some(_) => {
                Box::pin(turned_away::tell(&transport.socket(), Problem::tls_expected())).await;
                Ok(Greeted::WithoutTls)
            }
            None => Ok(Greeted::SaidNothing),
        }
    };
    let stream = match Box::pin(in_time(HANDSHAKE_TIMEOUT, handshake, shared)).await {
        Some(Ok(Greeted::Agreed(stream))) => *stream,
        // Load balancers look whether somebody listens.
        Some(Ok(Greeted::SaidNothing)) => return,
        failed => {
            if let Some(Err(error)) = failed {
                tracing::info!(client = %address, %error, "TLS was not agreed upon");
            }
            if !shared.stopping.is_cancelled() {
                shared.metrics.door.handshake_failed();
            }
            return;
        }
    };
    let sender = Sender { peer: Peer::new(address, None), name: certified_name(&stream) };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(http2::serve(stream, sender, shared)).await;
    } else {
        http1(stream, sender, HalfClose::Refused, shared).await;
    }
}

/// How a client begins where TLS is spoken.
enum Greeted {
    Agreed(Box<TlsStream<Transport>>),
    WithoutTls,
    SaidNothing,
}

/// Waits for so long, and not once the server stops: nobody has asked for anything yet.
async fn in_time<T>(limit: Duration, work: impl Future<Output = T>, shared: &Shared) -> Option<T> {
    tokio::select! {
        done = tokio::time::timeout(limit, work) => done.ok(),
        () = shared.stopping.cancelled() => None,
    }
}

/// The name in the certificate of the client. What it has shown was verified, or there would be no connection.
fn certified_name(stream: &TlsStream<Transport>) -> Option<CertifiedName> {
    CertifiedName::of(stream.get_ref().1.peer_certificates()?.first()?)
}

/// Whether a client may close its side when it has sent all, and wait for the answer.
#[derive(PartialEq, Eq)]
enum HalfClose {
    Allowed,
    /// Within TLS nobody does that, and the end of what the client sends is the only sign that it has hung up: its socket
    /// can't be looked into.
    Refused,
}

async fn http1<S>(stream: S, sender: Sender, half_close: HalfClose, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let heads = Heads::default();
    let stream = Timed::new(stream, heads.clone());
    let router = TowerToHyperService::new(shared.router.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        heads.complete();
        sender.sign(request.extensions_mut());
        let in_flight = InFlight::new(&shared.in_flight);
        let answer = router.call(request);
        let heads = &heads;
        async move {
            let Ok(mut answer) = answer.await;
            heads.await_next();
            if shared.leaving.is_cancelled() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(in_flight.until_sent(answer))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It counts from the end of the request before. `Timed` knows when the head has begun.
        .header_read_timeout(IDLE_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES as usize)
        .half_close(half_close == HalfClose::Allowed)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shared.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    note_end(result);
}

/// Clients hang up, send what is no HTTP, or nothing at all: nothing that the server could do about.
pub(super) fn note_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts a request as long as it is being answered.
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

/// What is no larger goes into the buffers of the system at once, as good as always.
const SMALL_BODY: u64 = 64 * 1024;

impl InFlight {
    /// It is in flight until the body has been sent, unless that has no end but that of the connection: a watch is told
    /// of the stop, and ends with an event.
    pub(super) fn until_sent(self, response: Response) -> Response {
        let is_small = response.body().size_hint().upper().is_some_and(|bytes| bytes <= SMALL_BODY);
        let is_watch = || response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
        if is_small || is_watch() {
            return response;
        }
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _in_flight = &self;
                frame
            }))
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
