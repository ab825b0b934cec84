//! HTTP/2: what clients are owed, and whether they take it.
//!
//! An answer waits in memory until its client gives leave to send it (RFC 9113, section 5.2), and a client that never
//! does would have the answers to all of its requests kept for ever, while it reads its socket and answers every ping. So
//! each piece of an answer has to go out in time, as it has to over HTTP/1.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// Answers are handed out in pieces of this size at the most. One of them has to be taken in the time that a client has:
/// who takes less than that is as good as gone.
const PIECE_BYTES: usize = 64 * 1024;

/// The requests of a connection that are being answered, and since when their clients take nothing.
///
/// A std mutex: it is held for a look-up, and never over an await.
#[derive(Debug, Clone)]
pub(super) struct Owed(Arc<Mutex<Streams>>);

#[derive(Debug)]
struct Streams {
    next: u64,
    open: HashMap<u64, Stream>,
    /// When the last of them ended.
    idle_since: Instant,
}

#[derive(Debug)]
struct Stream {
    /// Pieces that were handed out and have not gone yet.
    pieces: usize,
    /// When the first of these was handed out, or the last one before them went.
    since: Instant,
}

impl Owed {
    pub(super) fn new() -> Self {
        let streams = Streams { next: 0, open: HashMap::new(), idle_since: Instant::now() };
        Self(Arc::new(Mutex::new(streams)))
    }

    /// A request has come.
    pub(super) fn begun(&self) -> Request {
        let mut streams = self.streams();
        let number = streams.next;
        streams.next += 1;
        streams.open.insert(number, Stream { pieces: 0, since: Instant::now() });
        Request { number, owed: self.clone() }
    }

    /// Since when no request is being answered; `None` if there are any.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let streams = self.streams();
        streams.open.is_empty().then(|| streams.idle_since.elapsed())
    }

    /// For how long nothing has been taken of the answer that has waited longest.
    pub(super) fn waiting_for(&self) -> Duration {
        let streams = self.streams();
        let waiting = streams.open.values().filter(|stream| stream.pieces > 0);
        waiting.map(|stream| stream.since.elapsed()).max().unwrap_or_default()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // No panic leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered, as long as this lives.
#[derive(Debug)]
pub(super) struct Request {
    number: u64,
    owed: Owed,
}

impl Request {
    /// Its answer.
    pub(super) fn answered(self, body: Body) -> Answer {
        Answer { body, rest: Bytes::new(), request: Arc::new(self) }
    }

    fn change(&self, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.owed.streams().open.get_mut(&self.number) {
            change(stream);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut streams = self.owed.streams();
        streams.open.remove(&self.number);
        if streams.open.is_empty() {
            streams.idle_since = Instant::now();
        }
    }
}

/// The body of an answer, handed out in pieces that tell when they have gone.
pub(super) struct Answer {
    body: Body,
    /// What is left of a part that is too large for one piece.
    rest: Bytes,
    request: Arc<Request>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        let bytes = self.rest.len().min(PIECE_BYTES);
        let bytes = self.rest.split_to(bytes);
        let piece = Piece::new(bytes, Arc::clone(&self.request));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A part of an answer, dropped when it has gone out.
struct Piece {
    bytes: Bytes,
    request: Arc<Request>,
}

impl Piece {
    fn new(bytes: Bytes, request: Arc<Request>) -> Self {
        request.change(|stream| {
            if stream.pieces == 0 {
                stream.since = Instant::now();
            }
            stream.pieces += 1;
        });
        Self { bytes, request }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.request.change(|stream| {
            stream.pieces -= 1;
            stream.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn piece(answer: &mut Answer) -> Option<Bytes> {
        answer.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_known_and_for_how_long() {
        let owed = Owed::new();
        let minute = Duration::from_mins(1);
        tokio::time::advance(minute).await;
        assert_eq!(owed.idle_for(), Some(minute));
        let request = owed.begun();
        tokio::time::advance(minute).await;
        assert_eq!(
            (owed.idle_for(), owed.waiting_for()),
            (None, Duration::ZERO),
            "nothing is there to be taken"
        );

        let long = Bytes::from(vec![7; PIECE_BYTES + 1]);
        let mut answer = request.answered(Body::from(long.clone()));
        assert_eq!(answer.size_hint().exact(), Some(long.len() as u64));
        let first = piece(&mut answer).await.unwrap();
        assert_eq!(first.len(), PIECE_BYTES);
        assert_eq!((answer.size_hint().exact(), answer.is_end_stream()), (Some(1), false));
        tokio::time::advance(minute).await;
        let second = piece(&mut answer).await.unwrap();
        assert!(answer.is_end_stream());
        assert_eq!([&first[..], &second[..]].concat(), long);
        assert_eq!(owed.waiting_for(), minute, "since the first piece");
        drop(first);
        assert_eq!(owed.waiting_for(), Duration::ZERO, "and from its end on since the second");
        drop(answer);
        tokio::time::advance(minute).await;
        assert_eq!((owed.idle_for(), owed.waiting_for()), (None, minute));
        drop(second);
        assert_eq!((owed.idle_for(), owed.waiting_for()), (Some(Duration::ZERO), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_more_is_not_late() {
        let owed = Owed::new();
        let parts = stream::iter([Ok::<_, Infallible>("one"), Ok("two")]);
        let mut answer = owed.begun().answered(Body::from_stream(parts));
        assert_eq!(piece(&mut answer).await.unwrap(), "one");
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(owed.waiting_for(), Duration::ZERO);
        assert_eq!(piece(&mut answer).await.unwrap(), "two");
        assert_eq!(piece(&mut answer).await, None);
        drop(answer);
        assert_eq!(owed.idle_for(), Some(Duration::ZERO));
    }
}
