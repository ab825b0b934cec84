//! The socket of a connection. A client that takes nothing for too long is cut off, and whoever makes a client wait can
//! see that it has hung up.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// How long a client may take nothing of what waits for it. What waits is kept in memory.
const STALLED: Duration = Duration::from_secs(30);
/// The same once the server stops: it would be held up by those that are not there any more.
const STALLED_AT_STOP: Duration = Duration::from_secs(2);

thread_local! {
    /// What has arrived, before it is copied to where it belongs: the room there would have to be filled with zeros
    /// first, and it is many times what most requests have.
    static ARRIVED: RefCell<[u8; 16 * 1024]> = const { RefCell::new([0; 16 * 1024]) };
}

/// What HTTP is spoken over.
pub(super) struct Transport {
    stream: Arc<TcpStream>,
    stopping: CancellationToken,
    /// Since when nothing could be written; `None` if the client takes what there is.
    stalled: Option<Stall>,
}

struct Stall {
    since: Instant,
    /// Boxed: hardly any connection has one.
    ends: Pin<Box<Sleep>>,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, stopping: CancellationToken) -> Self {
        // Small answers are sent at once, and not held back to be sent with others (Nagle's algorithm).
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection goes without TCP_NODELAY");
        }
        Self { stream: Arc::new(stream), stopping, stalled: None }
    }

    /// The client at the other end.
    pub(super) fn peer(&self) -> Peer {
        Peer(Arc::clone(&self.stream))
    }

    /// Writes as soon as it can be, and not for ever.
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.stream.poll_write_ready(cx)?.is_ready() {
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.stalled = None;
                    return Poll::Ready(result);
                }
            }
        }
        self.poll_stalled(cx).map(Err)
    }

    /// Ready when the client has taken nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = if self.stopping.is_cancelled() { STALLED_AT_STOP } else { STALLED };
        let stall = self.stalled.get_or_insert_with(|| {
            let since = Instant::now();
            Stall { since, ends: Box::pin(tokio::time::sleep_until(since + limit)) }
        });
        if stall.ends.deadline() != stall.since + limit {
            stall.ends.as_mut().reset(stall.since + limit);
        }
        ready!(stall.ends.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut taken = false;
            let tried = self.stream.try_io(Interest::READABLE, || {
                ARRIVED.with_borrow_mut(|arrived| {
                    let room = buf.remaining().min(arrived.len());
                    let socket = SockRef::from(&*self.stream);
                    let bytes = (&*socket).read(&mut arrived[..room])?;
                    buf.put_slice(&arrived[..bytes]);
                    taken = true;
                    // Less than there was room for: there is no more at the moment (epoll(7)). To say so here saves a
                    // system call per request.
                    if 0 < bytes && bytes < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                })
            });
            match (taken, tried) {
                (true, _) => return Poll::Ready(Ok(())),
                (false, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (false, _) => {}
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}

/// The client at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<TcpStream>);

impl Peer {
    /// Waits until the client has hung up. One that has closed only its own side counts too: whoever waits for changes
    /// can't be told from one that has gone.
    async fn hung_up(&self) {
        // What has come already is its next request. It is there still, as far as can be seen.
        if let Ok(1..) = self.0.peek(&mut [0]).await {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until the client has hung up; for ever, if it isn't known who it is.
pub(super) async fn hung_up(peer: Option<&Peer>) {
    match peer {
        Some(peer) => peer.hung_up().await,
        None => std::future::pending().await,
    }
}
