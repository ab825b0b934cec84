//! A client that asks the servers of a site, and writes down what it asked and how that ended.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response, header};
use serde_json::Value;

use crate::book::Book;
use crate::rules::{Answer, Asked, Call, Kind, Outcome};
use crate::servers::Server;

/// Longer than any answer may take: whoever waits longer is not answered.
const PATIENCE: Duration = Duration::from_secs(40);
const TO_CONNECT: Duration = Duration::from_secs(2);

/// Servers of one database, and those who ask them.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) book: Book,
}

/// Asks, over connections of its own.
pub(crate) struct Client {
    pub(crate) site: Arc<Site>,
    http: reqwest::Client,
}

/// How a request ended.
pub(crate) struct Reply {
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Who has answered, if that is certain.
    pub(crate) replica: Option<usize>,
    /// 0 if there was no answer.
    pub(crate) status: u16,
    /// `Registry-Revision`.
    pub(crate) seen: Option<i64>,
    pub(crate) tag: Option<String>,
    /// `Null` if there is none, or no JSON.
    pub(crate) body: Value,
}

/// A request: which call of the API, on which path.
pub(crate) struct Request<'r> {
    pub(crate) method: Method,
    /// As the document has it.
    pub(crate) template: &'static str,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) headers: Vec<(&'static str, &'r str)>,
    pub(crate) kind: Kind,
}

impl Client {
    pub(crate) fn new(site: &Arc<Site>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().connect_timeout(TO_CONNECT).build()?;
        Ok(Self { site: Arc::clone(site), http })
    }

    /// Begins a request. The answer is still to be read.
    pub(crate) async fn send(&self, server: usize, request: &Request<'_>) -> reqwest::Result<Response> {
        let address = self.site.servers[server].address;
        let mut sent = self.http.request(request.method.clone(), format!("http://{address}{}", request.path));
        if let Some(body) = &request.body {
            sent = sent.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        for (name, value) in &request.headers {
            sent = sent.header(*name, *value);
        }
        sent.send().await
    }

    /// Asks one of the site's servers.
    pub(crate) async fn ask(&self, server: usize, request: &Request<'_>) -> Reply {
        let book = &self.site.book;
        let replica = self.site.servers[server].replica();
        let began = book.now();
        let answered = tokio::time::timeout(PATIENCE, async {
            let response = self.send(server, request).await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
        })
        .await;
        let ended = book.now();
        let unchanged = self.site.servers[server].replica() == replica;
        let mut reply = Reply {
            began,
            ended,
            replica: unchanged.then_some(replica),
            status: 0,
            seen: None,
            tag: None,
            body: Value::Null,
        };
        let outcome = match answered {
            Err(_) => Outcome::NoAnswer,
            Ok(Err(error)) => Outcome::Broken { was_connected: !error.is_connect() },
            Ok(Ok((status, headers, bytes))) => {
                let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                reply.status = status;
                reply.seen = text("registry-revision").and_then(|value| value.parse().ok());
                reply.tag = text("etag").map(ToOwned::to_owned);
                reply.body = serde_json::from_slice(&bytes).unwrap_or_default();
                Outcome::Answered(Answer {
                    status,
                    says_when_to_come_again: headers.contains_key(header::RETRY_AFTER),
                    is_stale: headers.contains_key("registry-stale-seconds"),
                    seen: reply.seen,
                    problem: reply.body["type"].as_str().unwrap_or_default().to_owned(),
                })
            }
        };
        let call = Call { method: request.method.as_str().to_lowercase(), path: request.template };
        book.asked().push(Asked { call, kind: request.kind, server, began, ended, outcome });
        reply
    }
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}
