//! A watch that goes on: through lost connections, restarts of the server, and gaps in its log.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::answer;
use super::error::ClientError;
use super::events::Event;
use super::nodes::Node;
use super::query::Query;
use super::sse::{Message, Reader};
use super::{Call, Client};

/// The server sends something every 15 seconds: whoever is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// Between two attempts, at the least and at the most.
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(15);
/// The pause if the server didn't name one.
const USUAL_PAUSE: Duration = Duration::from_secs(1);
/// The largest problem document.
const MAX_PROBLEM_BYTES: usize = 1024 * 1024;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a watch tells.
#[derive(Debug)]
pub enum WatchEvent {
    /// The server is connected, for the first time or again: changes come.
    Connected,
    /// A node as it is, of a snapshot.
    Snapshot(Node),
    /// All nodes of the snapshot were told, as of this revision. What was not is not there.
    Synced(i64),
    /// Something happened to a node that matches.
    Change(Change),
    /// A node doesn't match any more, or is gone.
    Removed(Change),
    /// The connection was lost, or couldn't be made again; it is tried again after this pause.
    Lost {
        /// Why.
        reason: String,
        /// How long it is waited.
        pause: Duration,
    },
    /// What happened since is not known any more: a snapshot of all nodes comes next, asked for or not.
    Gap,
}

/// A change, and the node as it is now.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened. Its JSON is the whole change, with the node in it.
    pub event: Event,
    /// The node; `None`: it is gone.
    pub node: Option<Node>,
}

#[derive(Deserialize)]
struct NodeOf {
    node: Option<Node>,
}

/// The watch.
#[derive(Debug)]
pub struct Watch<'c> {
    client: &'c Client,
    query: Query,
    reader: Reader,
    state: State,
    /// How many attempts have failed since the last that came to something.
    failed: u32,
    /// It was connected once: what goes wrong from now on is waited out.
    was_connected: bool,
}

#[derive(Debug)]
enum State {
    /// After a pause.
    Connect(Duration),
    Reading(Incoming),
}

impl Client {
    /// `GET /v1/watch`. `query`: the filters, `kind`, `after`, `snapshot`.
    #[must_use]
    pub fn watch(&self, query: Query) -> Watch<'_> {
        let state = State::Connect(Duration::ZERO);
        Watch { client: self, query, reader: Reader::default(), state, failed: 0, was_connected: false }
    }
}

impl Watch<'_> {
    /// The next thing to tell. Dropped before its end, it goes on where it was.
    ///
    /// # Errors
    /// The first connection fails, for any reason; later, what no waiting mends: see [`ClientError::is_transient`].
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        loop {
            if let Some(message) = self.reader.next() {
                match self.tell(&message)? {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            match &mut self.state {
                State::Connect(pause) => {
                    tokio::time::sleep(*pause).await;
                    // Asked again before it is connected, it does not wait again.
                    *pause = Duration::ZERO;
                    return self.connect().await;
                }
                State::Reading(body) => {
                    let reason = match tokio::time::timeout(SILENCE, body.frame()).await {
                        Ok(Some(Ok(frame))) => {
                            self.failed = 0;
                            let bytes = frame.data_ref().map_or(&[][..], |data| data);
                            if self.reader.push(bytes).is_ok() {
                                continue;
                            }
                            let reason = "it sends an event larger than any of a registry".to_owned();
                            return Err(self.client.not_a_registry(reason));
                        }
                        Ok(None) => "the server ended the stream",
                        Ok(Some(Err(_))) => "the connection broke off",
                        Err(_) => "the server has fallen silent",
                    };
                    return Ok(self.lost(reason.to_owned()));
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<WatchEvent, ClientError> {
        // An attempt that is dropped in its middle is none.
        match self.try_to_connect().await {
            Ok(body) => {
                self.reader.begin_again();
                self.state = State::Reading(body);
                self.was_connected = true;
                Ok(WatchEvent::Connected)
            }
            Err(error) if error.status() == Some(410) => Ok(self.gap()),
            Err(error) if self.was_connected && error.is_transient() => {
                let asked = error.retry_after();
                let event = self.lost(error.to_string());
                if let (Some(asked), State::Connect(pause)) = (asked, &mut self.state) {
                    *pause = asked.max(*pause);
                }
                Ok(event)
            }
            Err(error) => Err(error),
        }
    }

    async fn try_to_connect(&self) -> Result<Incoming, ClientError> {
        let mut query = self.query.clone();
        let mut call = Call::get("");
        if let Some(id) = self.reader.last_id.as_ref().filter(|id| !id.is_empty()) {
            query.remove("after");
            query.remove("snapshot");
            if let Ok(id) = HeaderValue::try_from(id) {
                call = call.with(LAST_EVENT_ID, id);
            }
        }
        call.path_and_query = query.after("/v1/watch");
        let call = call.with(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let asking = async {
            let (parts, body) = self.client.send(call).await?.into_parts();
            if parts.status.is_success() {
                answer::is_stream(&self.client.base, &parts)?;
                return Ok(body);
            }
            let body = Limited::new(body, MAX_PROBLEM_BYTES).collect().await;
            let body = body.map_err(|error| self.client.broken_off(error.as_ref()))?.to_bytes();
            Err(answer::failure(&self.client.base, &parts, &body))
        };
        let patience = self.client.timeout;
        tokio::time::timeout(patience, asking).await.unwrap_or_else(|_| {
            Err(ClientError::Away {
                url: self.client.base.to_string(),
                reason: format!("no answer within {}", humantime::format_duration(patience)),
                may_be_done: false,
            })
        })
    }

    fn lost(&mut self, reason: String) -> WatchEvent {
        let pause = self.reader.retry.unwrap_or(USUAL_PAUSE).saturating_mul(1 << self.failed.min(4));
        let pause = pause.clamp(*PAUSES.start(), *PAUSES.end());
        self.failed = self.failed.saturating_add(1);
        self.state = State::Connect(pause);
        WatchEvent::Lost { reason, pause }
    }

    /// Begins anew, with a snapshot.
    fn gap(&mut self) -> WatchEvent {
        self.reader.begin_again();
        self.reader.last_id = None;
        self.query.remove("after");
        self.query.set("snapshot", "true");
        self.state = State::Connect(if self.was_connected { USUAL_PAUSE } else { Duration::ZERO });
        WatchEvent::Gap
    }

    fn tell(&mut self, message: &Message) -> Result<Option<WatchEvent>, ClientError> {
        #[derive(Deserialize)]
        struct Synced {
            revision: i64,
        }
        #[derive(Deserialize)]
        struct Closing {
            reason: String,
        }
        let client = self.client;
        Ok(Some(match message.name.as_str() {
            "snapshot" => WatchEvent::Snapshot(client.parse(message.data.as_bytes())?),
            "synced" => WatchEvent::Synced(client.parse::<Synced>(message.data.as_bytes())?.revision),
            "change" => WatchEvent::Change(self.change(message)?),
            "removed" => WatchEvent::Removed(self.change(message)?),
            "closing" => {
                let reason = client.parse::<Closing>(message.data.as_bytes())?.reason;
                if reason == "reset" {
                    self.gap()
                } else {
                    self.lost(format!("the server ends the stream: {reason}"))
                }
            }
            // A newer server may have others.
            _ => return Ok(None),
        }))
    }

    fn change(&self, message: &Message) -> Result<Change, ClientError> {
        let event = self.client.parse(message.data.as_bytes())?;
        let NodeOf { node } = self.client.parse(message.data.as_bytes())?;
        Ok(Change { event, node })
    }
}
