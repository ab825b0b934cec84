//! HTTP/1: the head of a request that has begun to arrive has to arrive soon. hyper's own limit begins when it waits for
//! the head, and has to be as long as a connection may be idle.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a head may take from its first byte on.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Which head a connection is at. Shared by what reads its bytes and what answers its requests, in one task.
#[derive(Debug, Clone, Default)]
pub(super) struct Heads(Arc<AtomicU64>);

impl Heads {
    /// A head is complete, and its request is being answered.
    pub(super) fn complete(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The request has been answered: what comes now belongs to the next head.
    pub(super) fn await_next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the head that is awaited; `None` while a request is being answered.
    fn awaited(&self) -> Option<u64> {
        let number = self.0.load(Ordering::Relaxed);
        number.is_multiple_of(2).then_some(number)
    }
}

/// A stream of bytes from which heads are read in time. What is read passes through as it is.
pub(super) struct Timed<S> {
    stream: S,
    heads: Heads,
    /// The head of which something has come.
    begun: Option<u64>,
    /// When that has to be complete. Boxed, and not there as long as heads come whole.
    ends: Option<Pin<Box<Sleep>>>,
    limit: Duration,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, heads: Heads) -> Self {
        Self::with(stream, heads, HEAD_TIMEOUT)
    }

    fn with(stream: S, heads: Heads, limit: Duration) -> Self {
        Self { stream, heads, begun: None, ends: None, limit }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let awaited = self.heads.awaited();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let is_begun = awaited.is_some() && self.begun == awaited;
        if read.is_ready() {
            if !is_begun {
                self.begun = awaited;
                self.ends = None;
            }
            return read;
        }
        if !is_begun {
            return Poll::Pending;
        }
        let limit = self.limit;
        let ends = self.ends.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(ends.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request takes too long")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn timed() -> (Timed<DuplexStream>, DuplexStream, Heads) {
        let (server, client) = duplex(64);
        let heads = Heads::default();
        (Timed::with(server, heads.clone(), LIMIT), client, heads)
    }

    /// Reads until nothing comes for so long; the error, if it ends with one.
    async fn read_for(timed: &mut Timed<DuplexStream>, time: Duration) -> io::Result<()> {
        let mut bytes = [0; 64];
        loop {
            match tokio::time::timeout(time, timed.read(&mut bytes)).await {
                Ok(read) => read.map(drop)?,
                Err(_) => return Ok(()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_byte_by_byte_is_given_up() {
        let (mut timed, mut client, _heads) = timed();
        let dripping = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = tokio::time::Instant::now();
        let ended = read_for(&mut timed, Duration::from_mins(1)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 10);
        drop(timed);
        dripping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn before_a_head_and_in_a_body_there_is_time() {
        let (mut timed, mut client, heads) = timed();
        let long = 3 * LIMIT;
        read_for(&mut timed, long).await.unwrap();
        client.write_all(b"a head").await.unwrap();
        read_for(&mut timed, LIMIT / 2).await.unwrap();
        heads.complete();
        read_for(&mut timed, long).await.unwrap();
        client.write_all(b"a part of a body").await.unwrap();
        read_for(&mut timed, long).await.unwrap();
        heads.await_next();
        read_for(&mut timed, long).await.unwrap();
        // And the next head is timed anew.
        client.write_all(b"half a head").await.unwrap();
        assert!(read_for(&mut timed, long).await.is_err());
    }
}
