//! A watcher: a connection that the server sends changes to, as Server-Sent Events.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use tokio::time::Instant;

use crate::client::{Connection, request};

/// How long a change may take to come. Longer is never.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of changes, from now on.
pub(crate) struct EventStream {
    body: Incoming,
    /// What has come and was not looked for yet.
    text: Vec<u8>,
    /// Held: without it the connection ends.
    _connection: Connection,
}

impl EventStream {
    /// `None` if the server has no such call.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Option<Self>> {
        let mut connection = Connection::open(address).await?;
        let answer = connection.send(request(Method::GET, "/v1/watch", "")).await?;
        match answer.status() {
            StatusCode::OK => {
                Ok(Some(Self { body: answer.into_body(), text: Vec::new(), _connection: connection }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => anyhow::bail!("/v1/watch: {status}"),
        }
    }

    /// Waits for the change that has this text in it, and says when it came.
    pub(crate) async fn has(&mut self, text: &str) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        while !contains(&self.text, text.as_bytes()) {
            let frame = tokio::time::timeout_at(deadline, self.body.frame()).await;
            let frame = frame.context("a watcher was told nothing")?.context("a stream has ended")??;
            self.text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        self.text.clear();
        Ok(Instant::now())
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
