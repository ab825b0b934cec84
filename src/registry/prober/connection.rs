//! One HTTP/1.1 connection, which lives only while somebody uses it.
//!
//! It is not driven by a task of its own: whoever waits for an answer drives it, and between two probes nobody does. So
//! five thousand idle connections cost five thousand sockets, no task, and end with the target that they belong to. That
//! the other side has closed one is seen when it is used next.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// No answer has a head as long as that.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// So much of an answer is read to use its connection again; what is longer costs the connection.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// A connection is made anew after that, or a name that has moved would be probed at its old address as long as anybody
/// answers there.
const MAX_AGE: Duration = Duration::from_mins(5);

/// A byte stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to one endpoint.
pub(super) struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: Driver,
    opened: Instant,
    /// While it is kept without being used: its share of what may be kept.
    pub(super) parking: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) async fn new(stream: Box<dyn Stream>) -> hyper::Result<Self> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        let driver = Driver { connection: Some(Box::pin(connection)) };
        Ok(Self { sender, driver, opened: Instant::now(), parking: None })
    }

    /// Whether another request can be sent, as far as can be seen from here.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.opened.elapsed() < MAX_AGE && self.driver.drive(self.sender.ready()).await.is_ok()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let response = self.sender.send_request(request);
        self.driver.drive(response).await
    }

    /// Reads a body so that the connection can be used again; `None` if it can't.
    pub(super) async fn drain(mut self, mut body: Incoming) -> Option<Self> {
        let mut read = 0;
        while let Some(frame) = self.driver.drive(body.frame()).await {
            read += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if read > MAX_BODY_BYTES {
                return None;
            }
        }
        (self.driver.connection.is_some() && !self.sender.is_closed()).then_some(self)
    }
}

type Http = http1::Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>;

/// What reads and writes the socket.
struct Driver {
    /// `None` once it has ended. Then it must be gone: whoever waits for it learns of its end from that.
    connection: Option<Pin<Box<Http>>>,
}

impl Driver {
    /// Drives the connection until this is done. `work` must wait for nothing but the connection.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            // First the connection: what it reads is what `work` waits for.
            if let Some(connection) = &mut self.connection
                && connection.as_mut().poll(context).is_ready()
            {
                self.connection = None;
            }
            work.as_mut().poll(context)
        })
        .await
    }
}
