//! A server on a free port, and a client that asks it.

use clap::Parser as _;
use onex_registry::config::{RawSettings, Settings};
use onex_registry::server::Server;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::TestDatabase;
use super::waiting::Waiting;

/// Which store a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Postgres,
    Sqlite,
}

/// A running server. It stops with [`TestServer::stop`], which also checks that it stops well, or when it is dropped.
pub(crate) struct TestServer {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// The database of a PostgreSQL server that was started with one of its own.
    pub database: Option<TestDatabase>,
    /// The secret of the key that each request shows.
    pub key: Option<String>,
    client: reqwest::Client,
    stop: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    /// The folder of an SQLite file: it is there as long as the server.
    folder: Option<TempDir>,
}

impl TestServer {
    /// A server on an empty database of its own.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::start_with(backend, &[]).await
    }

    /// The same with settings, such as `--ttl=1s`.
    pub(crate) async fn start_with(backend: Backend, arguments: &[&str]) -> Self {
        match backend {
            Backend::Postgres => {
                let database = TestDatabase::create().await;
                let mut server = Self::start_on(&database.url(), arguments).await;
                server.database = Some(database);
                server
            }
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", folder.path().join("registry.db").display());
                let mut server = Self::start_on(&url, arguments).await;
                server.folder = Some(folder);
                server
            }
        }
    }

    /// A server on a database that somebody else keeps.
    pub(crate) async fn start_on(database_url: &str, arguments: &[&str]) -> Self {
        Self::try_start_on(database_url, arguments).await.expect("the server starts")
    }

    /// The same, if it may fail.
    pub(crate) async fn try_start_on(database_url: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let server = Self::try_start_unready_on(database_url, arguments).await?;
        // Not `eventually`: what it takes can't be sent to another thread, and servers are started there, too.
        let waiting = Waiting::begin();
        while server.get_once("/readyz").await.status != 200 {
            waiting.look_again(|| "the server is ready".to_owned()).await;
        }
        Ok(server)
    }

    /// The same, without waiting until it has read the nodes.
    pub(crate) async fn try_start_unready_on(database_url: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let server = Server::start(settings(database_url, arguments)).await?;
        let url = format!("http://{}", server.address());
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run_until(stop.clone().cancelled_owned()));
        Ok(Self {
            url,
            database: None,
            key: None,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            stop,
            running: Some(running),
            folder: None,
        })
    }

    /// Stops the server, and fails if it didn't stop as it should.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        // Idle connections of the pool would be waited for otherwise.
        self.client = reqwest::Client::new();
        let running = self.running.take().unwrap();
        running.await.unwrap().expect("the server stops without cutting off a request");
    }

    /// The SQLite file of a server that was started with one of its own, as another hand opens it.
    pub(crate) async fn open_sqlite(&self) -> SqliteConnection {
        let file = self.folder.as_ref().unwrap().path().join("registry.db");
        SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap()
    }

    /// A request to a path, which is sent as it is given.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// PUT with a JSON body.
    pub(crate) async fn put(&self, path: &str, body: impl ToString) -> Answer {
        self.send(Method::PUT, path, body.to_string(), &[]).await
    }

    /// POST with a JSON body.
    pub(crate) async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.send(Method::POST, path, body.to_string(), &[]).await
    }

    /// A request with a body (`application/json`) and header fields.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request =
            self.request(method, path).header(header::CONTENT_TYPE, "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request).await
    }

    /// Registers a node by its id, percent-encoded, and fails unless it is there then.
    pub(crate) async fn register(&self, id: &str, body: impl ToString) -> Value {
        let answer = self.put(&node(id), body).await;
        assert!(answer.status == 200 || answer.status == 201, "{} {}", answer.status, answer.text);
        answer.json()
    }

    /// The ids on a page.
    pub(crate) async fn ids(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("/v1/nodes?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        ids_of(&answer.json())
    }

    /// All that is registered, as text: to compare before and after.
    pub(crate) async fn everything(&self) -> String {
        let answer = self.get("/v1/nodes?limit=1000").await;
        assert_eq!((answer.status, &answer.json()["next_cursor"]), (200, &Value::Null), "one page holds all");
        answer.text
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The ids of the nodes on a page.
pub(crate) fn ids_of(page: &Value) -> Vec<String> {
    page["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["node_id"].as_str().unwrap().to_owned())
        .collect()
}

/// The path of a node: everything but letters and digits is percent-encoded.
pub(crate) fn node(id: &str) -> String {
    format!("/v1/nodes/{}", encoded(id))
}

/// A text for a path or a query string: everything but letters and digits is percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let mut response = request.send().await.expect("the server answers");
        let status: StatusCode = response.status();
        let headers = response.headers().clone();
        let is_stream = headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
        let text = if is_stream {
            // It has no end: what comes first stands for all of it.
            let first = response.chunk().await.expect("something comes").unwrap_or_default();
            String::from_utf8(first.to_vec()).expect("the stream is text")
        } else {
            response.text().await.expect("the answer is text")
        };
        Self { status: status.as_u16(), headers, text }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks that this is a problem of this status and type, complete and consistent, and returns the places of all
    /// that is wrong, such as `/node_type`, `?limit` or `If-Match:`.
    pub(crate) fn problem(&self, status: u16, name: &str) -> Vec<String> {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        let body = self.json();
        assert_eq!(body["type"], format!("/problems/{name}"), "{}", self.text);
        assert_eq!(body["status"], status);
        assert_eq!(body["correlation_id"].as_str(), self.header("x-correlation-id"));
        assert!(body["title"].is_string() && body["detail"].is_string());
        places_of(&body)
    }
}

/// The places of all that a problem names, such as `/node_type`, `?limit` or `If-Match:`.
pub(crate) fn places_of(problem: &Value) -> Vec<String> {
    let place = |error: &Value| match (&error["pointer"], &error["parameter"], &error["header"]) {
        (Value::String(pointer), Value::Null, Value::Null) => pointer.clone(),
        (Value::Null, Value::String(parameter), Value::Null) => format!("?{parameter}"),
        (Value::Null, Value::Null, Value::String(header)) => format!("{header}:"),
        _ => panic!("an error has one place: {error}"),
    };
    problem["errors"].as_array().unwrap().iter().map(place).collect()
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    settings: RawSettings,
}

pub(crate) fn settings(database_url: &str, arguments: &[&str]) -> Settings {
    let ours = ["test".to_owned(), format!("--database-url={database_url}")];
    let arguments = ours.into_iter().chain(arguments.iter().map(ToString::to_string));
    let mut arguments: Vec<String> = arguments.collect();
    // What no event tells of is to be found soon: tests move times by plain SQL. And a machine that runs many tests at
    // once is slow, and not away.
    for (name, value) in
        [("--listen", "127.0.0.1:0"), ("--compare-interval", "1s"), ("--database-silence", "10s")]
    {
        if !arguments.iter().any(|argument| argument.starts_with(name)) {
            arguments.push(format!("{name}={value}"));
        }
    }
    Arguments::parse_from(arguments).settings.check_to_serve().expect("the settings of a test are right")
}
