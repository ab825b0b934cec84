//! Watchers: each is told of all changes, and goes on where it was when its stream has ended, on the same server or on
//! another one.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Request, Site};
use crate::rules::{Answer, Asked, Call, Kind, Outcome, Stream};

/// Before it connects again. Servers say a second, which would only make the run longer.
const PAUSE: Duration = Duration::from_millis(200);
/// Something comes every 15 seconds; if not, the stream is dead.
const SILENCE: Duration = Duration::from_secs(20);

/// Watches from the first change on, until told to stop. One that roams begins each stream on the next server.
pub(crate) async fn watch(
    site: Arc<Site>,
    number: usize,
    roams: bool,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let client = Client::new(&site)?;
    let mut watcher = Watcher { client, last: 0, streams: 0, told: Vec::new() };
    let mut server = number % site.servers.len();
    while !stop.is_cancelled() {
        tokio::select! {
            () = watcher.follow(server) => {}
            () = stop.cancelled() => break,
        }
        server = if roams { (server + 1) % site.servers.len() } else { server };
        tokio::time::sleep(PAUSE).await;
    }
    site.book.told().push((number, watcher.told));
    Ok(())
}

struct Watcher {
    client: Client,
    /// How far it has been told.
    last: i64,
    /// So many streams have begun.
    streams: usize,
    told: Vec<i64>,
}

impl Watcher {
    /// One stream, to its end.
    async fn follow(&mut self, server: usize) {
        let last = self.last.to_string();
        // Both ways to go on.
        let by_header = self.streams % 2 == 1;
        self.streams += 1;
        let request = Request {
            method: Method::GET,
            template: "/v1/watch",
            path: if by_header { "/v1/watch".to_owned() } else { format!("/v1/watch?after={last}") },
            body: None,
            headers: if by_header { vec![("last-event-id", last.as_str())] } else { Vec::new() },
            kind: Kind::Watch,
        };
        let book = &self.client.site.book;
        let began = book.now();
        let sent = tokio::time::timeout(SILENCE, self.client.send(server, &request)).await;
        let ended = book.now();
        let outcome = match &sent {
            Err(_) => Outcome::NoAnswer,
            Ok(Err(error)) => Outcome::Broken { was_connected: !error.is_connect() },
            Ok(Ok(response)) => Outcome::Answered(Answer {
                status: response.status().as_u16(),
                says_when_to_come_again: response.headers().contains_key("retry-after"),
                is_stale: response.headers().contains_key("registry-stale-seconds"),
                seen: None,
                problem: String::new(),
            }),
        };
        let call = Call { method: "get".to_owned(), path: "/v1/watch" };
        book.asked().push(Asked { call, kind: Kind::Watch, server, began, ended, outcome });
        let Ok(Ok(response)) = sent else { return };
        if response.status() != 200 {
            return;
        }
        let opened = ended;
        let reason = self.listen(response).await;
        let stream = Stream { server, opened, ended: self.client.site.book.now(), reason };
        self.client.site.book.streams().push(stream);
    }

    /// Takes what comes, until the end. The reason, if one was given.
    async fn listen(&mut self, mut response: Response) -> Option<String> {
        let (mut text, mut reason) = (Vec::new(), None);
        while let Ok(Ok(Some(bytes))) = tokio::time::timeout(SILENCE, response.chunk()).await {
            text.extend_from_slice(&bytes);
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = text.drain(..end + 2).collect();
                reason = self.take(&String::from_utf8_lossy(&block)).or(reason);
            }
        }
        reason
    }

    /// Takes a message. The reason, if it says that it is the last one.
    fn take(&mut self, block: &str) -> Option<String> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let data = || serde_json::from_str::<Value>(field("data:").unwrap_or_default()).unwrap_or_default();
        if let Some(id) = field("id:").and_then(|id| id.parse().ok()) {
            self.last = id;
        }
        match field("event:") {
            Some("change" | "removed") => {
                self.told.extend(data()["revision"].as_i64());
                None
            }
            Some("closing") => data()["reason"].as_str().map(ToOwned::to_owned),
            _ => None,
        }
    }
}
