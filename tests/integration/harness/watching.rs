//! A client of Server-Sent Events, as the standard has it (WHATWG HTML, section 9.2).

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::server::{Answer, TestServer};
use super::sql::eventually;

/// Far longer than any event takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of events.
pub(crate) struct Watch {
    pub headers: reqwest::header::HeaderMap,
    response: reqwest::Response,
    /// What has come of the next block.
    partial: String,
    blocks: VecDeque<String>,
    /// What `Last-Event-ID` would be.
    pub last_id: String,
    /// The last time to wait that was said, in milliseconds.
    pub retry: Option<u64>,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub name: String,
    /// The id that came with it.
    pub id: Option<i64>,
    pub data: Value,
}

impl Message {
    /// The name of the event, what happened, and to which node: to compare.
    pub(crate) fn gist(&self) -> (&str, &str, &str) {
        let text = |name: &str| self.data[name].as_str().unwrap_or("-");
        (&self.name, text("kind"), text("node_id"))
    }
}

impl TestServer {
    /// Begins to watch, and fails if it can't.
    pub(crate) async fn watch(&self, query: &str) -> Watch {
        self.watch_after(query, None).await
    }

    /// The same with `Last-Event-ID`.
    pub(crate) async fn watch_after(&self, query: &str, last_id: Option<&str>) -> Watch {
        eventually("it is ready", async || self.get("/readyz").await.status == 200).await;
        let mut request = self.request(Method::GET, &format!("/v1/watch?{query}"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("the server answers");
        let status = response.status();
        assert_eq!(status, 200, "{query}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Watch {
            headers: response.headers().clone(),
            response,
            partial: String::new(),
            blocks: VecDeque::new(),
            last_id: last_id.unwrap_or_default().to_owned(),
            retry: None,
        }
    }

    /// A watch that is refused.
    pub(crate) async fn refused_watch(&self, query: &str, last_id: Option<&str>) -> Answer {
        eventually("it is ready", async || self.get("/readyz").await.status == 200).await;
        let mut request = self.request(Method::GET, &format!("/v1/watch?{query}"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        Answer::of(request).await
    }

    /// Reads what was sent until the watch has seen a revision.
    pub(crate) async fn told_up_to(&self, watch: &mut Watch, revision: i64) -> Vec<Message> {
        let mut told = Vec::new();
        while told.last().is_none_or(|last: &Message| last.id.unwrap() < revision) {
            told.push(watch.next().await);
        }
        told
    }
}

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Message {
        self.try_next().await.expect("the stream goes on")
    }

    /// The next events.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// All that comes until the server ends the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut taken = Vec::new();
        while let Some(message) = self.try_next().await {
            taken.push(message);
        }
        taken
    }

    /// The next event; `None` at the end.
    pub(crate) async fn try_next(&mut self) -> Option<Message> {
        loop {
            let block = self.block().await?;
            if let Some(message) = self.dispatch(&block) {
                return Some(message);
            }
        }
    }

    /// The next lines up to a blank one, comments included.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                return Some(block);
            }
            let read = tokio::time::timeout(PATIENCE, self.response.chunk());
            let Some(bytes) = read.await.expect("something comes").expect("the stream is whole") else {
                assert_eq!(self.partial, "", "the stream ends at the end of an event");
                return None;
            };
            self.partial.push_str(std::str::from_utf8(&bytes).expect("messages are sent as a whole"));
            while let Some(end) = self.partial.find("\n\n") {
                let rest = self.partial.split_off(end + 2);
                self.blocks.push_back(std::mem::replace(&mut self.partial, rest));
            }
        }
    }

    fn dispatch(&mut self, block: &str) -> Option<Message> {
        let (mut name, mut id, mut data) = ("message".to_owned(), None, None);
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut name),
                "id" => {
                    value.clone_into(&mut self.last_id);
                    id = value.parse().ok();
                }
                "data" => data = Some(serde_json::from_str(value).expect("data is JSON")),
                "retry" => self.retry = Some(value.parse().expect("a number of milliseconds")),
                other => panic!("a field that the standard doesn't have: {other}"),
            }
        }
        Some(Message { name, id, data: data? })
    }
}
