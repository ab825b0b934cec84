//! A watch as the body of an answer. Each message is made when the client can take it, so nothing piles up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;

use super::message::{self, Messages};
use crate::http::peer::{self, Peer};
use crate::http::watchers::Place;
use crate::metrics::{Metrics, Waiting, WatchEnd};
use crate::node::Revision;
use crate::registry::watching::{End, Notice, Told, Watcher};

/// After so long without anything, a comment is sent. Proxies take a minute of silence for death, and some less.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Resolves when the client may not watch any more.
pub(super) type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All that a watcher is told, until it ends.
pub(super) fn body(
    watcher: Watcher,
    place: Place,
    peer: Option<Peer>,
    revoked: Revoked,
    messages: &Arc<Messages>,
    metrics: &Arc<Metrics>,
) -> Body {
    let feed = Feed {
        said: None,
        told: Vec::new().into_iter(),
        state: State::New,
        messages: Arc::clone(messages),
        _open: metrics.watches.opened(),
        _place: place,
        metrics: Arc::clone(metrics),
        watcher,
        peer,
        revoked,
    };
    Body::from_stream(stream::unfold(feed, |mut feed| async {
        let bytes = feed.next().await?;
        Some((Ok::<_, Infallible>(bytes), feed))
    }))
}

struct Feed {
    watcher: Watcher,
    peer: Option<Peer>,
    revoked: Revoked,
    messages: Arc<Messages>,
    metrics: Arc<Metrics>,
    /// What has been told, and is to be sent next.
    told: std::vec::IntoIter<Told>,
    /// The last id that was sent; `None` before the first, and as long as there must be none: within a snapshot.
    said: Option<Revision>,
    state: State,
    _open: Waiting,
    _place: Place,
}

#[derive(PartialEq, Eq)]
enum State {
    New,
    Open,
    Ended,
}

impl Feed {
    /// What to send next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            State::New => {
                self.state = State::Open;
                self.said = (!self.watcher.is_in_snapshot()).then(|| self.watcher.position());
                return Some(message::hello(self.said));
            }
            State::Ended => return None,
            State::Open => {}
        }
        if let Some(told) = self.told.next() {
            return Some(self.change(&told));
        }
        let notice = tokio::select! {
            // What is told at the same moment is not lost on a client that half hangs up.
            biased;
            // Whoever has lost the key is told nothing more, however much there is to tell.
            () = &mut self.revoked => {
                self.state = State::Ended;
                self.metrics.watches.ended(WatchEnd::KeyRevoked);
                return Some(message::closing_for_key());
            }
            notice = tokio::time::timeout(KEEP_ALIVE, self.watcher.next()) => notice,
            () = peer::hung_up(self.peer.as_ref()) => return None,
        };
        match notice {
            Ok(Notice::Snapshot(nodes)) => Some(message::snapshot(&nodes)),
            Ok(Notice::Synced(revision)) => {
                self.said = Some(revision);
                Some(message::synced(revision))
            }
            Ok(Notice::Changes(told)) => {
                self.told = told.into_iter();
                self.told.next().map(|told| self.change(&told))
            }
            Ok(Notice::End(end)) => {
                self.state = State::Ended;
                self.metrics.watches.ended(label(end));
                Some(message::closing(end))
            }
            Err(_) => {
                let position = self.watcher.position();
                let news = self.said.is_some_and(|said| said < position);
                if news {
                    self.said = Some(position);
                }
                Some(message::keep_alive(self.said.filter(|_| news)))
            }
        }
    }

    fn change(&mut self, told: &Told) -> Bytes {
        self.said = Some(told.change.event.revision);
        self.messages.of(told)
    }
}

fn label(end: End) -> WatchEnd {
    match end {
        End::Shutdown => WatchEnd::Shutdown,
        End::SlowReader => WatchEnd::SlowReader,
        End::Reset => WatchEnd::Reset,
    }
}
