//! The socket of a connection. A client that takes nothing for too long, or next to nothing, is cut off.

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

/// What is asked of clients.
pub(super) const PATIENCE: Patience = Patience {
    stalled: Duration::from_secs(30),
    stalled_at_stop: Duration::from_secs(2),
    least_bytes: 64 * 1024,
};

/// What is asked of a client that something waits for: it is kept in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// In this time, once there was more than it took at once,
    pub(super) stalled: Duration,
    /// or in this time once the server stops, which would be held up by those that are not there any more,
    pub(super) stalled_at_stop: Duration,
    /// it has to take so many bytes, or all that there is.
    least_bytes: usize,
}

thread_local! {
    /// What has arrived, before it is copied to where it belongs: the room there would have to be filled with zeros
    /// first, and it is many times what most requests have.
    static ARRIVED: RefCell<[u8; 16 * 1024]> = const { RefCell::new([0; 16 * 1024]) };
}

/// What HTTP is spoken over.
pub(super) struct Transport {
    stream: Arc<TcpStream>,
    /// What was read to see what the client speaks, and is to be read again. Nearly always nothing.
    ahead: Vec<u8>,
    stopping: CancellationToken,
    patience: Patience,
    /// Since when something waits; `None` if the client takes what there is.
    stalled: Option<Stall>,
}

struct Stall {
    since: Instant,
    /// So many bytes it has taken since.
    taken: usize,
    /// Boxed: hardly any connection has one.
    ends: Pin<Box<Sleep>>,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, stopping: CancellationToken) -> Self {
        Self::with(stream, stopping, PATIENCE)
    }

    fn with(stream: TcpStream, stopping: CancellationToken, patience: Patience) -> Self {
        // Small answers are sent at once, and not held back to be sent with others (Nagle's algorithm).
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection goes without TCP_NODELAY");
        }
        Self { stream: Arc::new(stream), ahead: Vec::new(), stopping, patience, stalled: None }
    }

    /// The socket, to see whether the client has hung up.
    pub(super) fn socket(&self) -> Arc<TcpStream> {
        Arc::clone(&self.stream)
    }

    /// The first byte that the client sends; `None` if it sends nothing and ends. It is still there to be read.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let bytes = self.stream.peek(&mut first).await?;
        Ok((bytes > 0).then_some(first[0]))
    }

    /// Whether the client begins with these bytes. As few are waited for as it takes to tell, and all are still there to
    /// be read.
    pub(super) async fn begins_with(&mut self, expected: &[u8]) -> io::Result<bool> {
        let mut seen = vec![0; expected.len()];
        while let rest @ [_, ..] = &expected[self.ahead.len()..] {
            let seen = &mut seen[..rest.len()];
            let bytes = self.stream.peek(seen).await?;
            if bytes == 0 || seen[..bytes] != rest[..bytes] {
                return Ok(false);
            }
            if bytes == rest.len() {
                break;
            }
            // It may yet become what is expected. To wait for more, what is here must be out of the way.
            match self.stream.try_read(&mut seen[..bytes]) {
                Ok(taken) => self.ahead.extend_from_slice(&seen[..taken]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
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
                    self.has_taken(*result.as_ref().unwrap_or(&0));
                    return Poll::Ready(result);
                }
            }
        }
        self.poll_stalled(cx).map(Err)
    }

    /// A client that takes a byte now and then would have the rest kept for ever.
    fn has_taken(&mut self, bytes: usize) {
        if let Some(stall) = &mut self.stalled {
            stall.taken += bytes;
            if stall.taken >= self.patience.least_bytes {
                self.stalled = None;
            }
        }
    }

    /// Ready when the client has taken too little for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Patience { stalled, stalled_at_stop, .. } = self.patience;
        let limit = if self.stopping.is_cancelled() { stalled_at_stop } else { stalled };
        let stall = self.stalled.get_or_insert_with(|| {
            let since = Instant::now();
            Stall { since, taken: 0, ends: Box::pin(tokio::time::sleep_until(since + limit)) }
        });
        if stall.ends.deadline() != stall.since + limit {
            stall.ends.as_mut().reset(stall.since + limit);
        }
        ready!(stall.ends.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client takes too little"))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let bytes = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..bytes]);
            self.ahead.drain(..bytes);
            return Poll::Ready(Ok(()));
        }
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

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has it: nothing waits any more.
        self.stalled = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const PATIENCE: Patience = Patience {
        stalled: Duration::from_secs(2),
        stalled_at_stop: Duration::from_secs(2),
        least_bytes: 64 * 1024,
    };

    /// The two ends of a connection that holds little itself.
    async fn connection() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(8 * 1024).unwrap();
        let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        SockRef::from(&server).set_send_buffer_size(8 * 1024).unwrap();
        (Transport::with(server, CancellationToken::new(), PATIENCE), client)
    }

    /// Sends an answer to a client that takes so many bytes at a time, and then pauses.
    async fn answer(bytes: usize, part: usize, pause: Duration) -> io::Result<()> {
        let (mut transport, mut client) = connection().await;
        let taking = tokio::spawn(async move {
            let mut taken = vec![0; part];
            while client.read(&mut taken).await.is_ok_and(|bytes| bytes > 0) {
                tokio::time::sleep(pause).await;
            }
        });
        transport.write_all(&vec![0; bytes]).await?;
        transport.flush().await?;
        drop(transport);
        taking.await.unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_takes_next_to_nothing_is_cut_off() {
        let trickling = answer(4 * 1024 * 1024, 512, Duration::from_millis(50));
        let cut_off = tokio::time::timeout(Duration::from_secs(30), trickling).await.expect("before the end");
        assert_eq!(cut_off.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_is_slow_has_its_answer() {
        // It takes longer than nothing may be taken for, and far more than the least in that time.
        answer(1024 * 1024, 2 * 1024, Duration::from_millis(5)).await.unwrap();
    }

    /// Whether the client begins with `word`, which it sends in these parts; and what is read then.
    async fn begins(parts: &[&str]) -> (bool, String) {
        let (mut transport, mut client) = connection().await;
        client.set_nodelay(true).unwrap();
        let sending = async {
            for part in parts {
                client.write_all(part.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (begins, ()) = tokio::join!(transport.begins_with(b"word"), sending);
        let mut read = String::new();
        transport.read_to_string(&mut read).await.unwrap();
        (begins.unwrap(), read)
    }

    #[tokio::test]
    async fn what_a_client_begins_with_is_seen_and_still_there() {
        for (parts, expected) in [
            (&["word"][..], true),
            (&["words and more"], true),
            (&["w", "o", "r", "d"], true),
            (&["wo", "rds"], true),
            (&[], false),
            (&["w"], false),
            (&["x"], false),
            (&["w", "orth"], false),
            (&["a longer text"], false),
        ] {
            assert_eq!(begins(parts).await, (expected, parts.concat()), "{parts:?}");
        }
    }

    #[tokio::test]
    async fn what_has_all_gone_out_is_no_stall() {
        let (mut transport, _client) = connection().await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while Pin::new(&mut transport).poll_write(&mut cx, &[0; 4096]).is_ready() {}
        assert!(transport.stalled.is_some());
        // Or the next answer would be cut off as soon as it doesn't go out at once.
        assert!(Pin::new(&mut transport).poll_flush(&mut cx).is_ready());
        assert!(transport.stalled.is_none());
    }
}
