//! The other end of the REST face: a client of a server anywhere, for the commands that ask one.
//!
//! It knows the contract and nothing of the server's rooms. What a server sends is taken for what it is: bytes of
//! somebody, perhaps not of a registry at all.

mod answer;
mod error;
mod events;
mod nodes;
mod pages;
mod query;
mod settings;
mod sse;
#[cfg(test)]
mod tests;
mod transport;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use time::OffsetDateTime;

pub use self::error::{ClientError, Problem, ProblemError};
pub use self::events::{Event, EventPage, EventPages};
pub use self::nodes::{Beat, Beats, Condition, Node, NodeFields, Registered, RegistrationResult};
pub use self::pages::{NodePage, NodePages};
pub use self::query::Query;
pub(crate) use self::settings::VARIABLES;
pub use self::settings::{BadClientSettings, BaseUrl, ClientArgs, ClientSettings};
use self::transport::Transport;
pub use self::watch::{Change, Watch, WatchEvent};

/// The largest answer that is read. The largest that a registry gives is a page, of some 4 MiB, or what became of a
/// batch.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Stands unencoded in a path and in a query string (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A client of one server. A copy is cheap, and shares its connections.
#[derive(Debug, Clone)]
pub struct Client {
    base: BaseUrl,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    transport: Transport,
    /// How far the server's clock is ahead of ours, in milliseconds; [`i64::MIN`] before the first answer.
    ahead_millis: Arc<AtomicI64>,
}

impl Client {
    /// A client that has asked nothing yet.
    ///
    /// # Errors
    /// What is wrong with the authorities' file.
    pub fn new(settings: &ClientSettings) -> Result<Self, BadClientSettings> {
        let authorization = settings.key.as_ref().map(|key| {
            // The settings take nothing that a header field can't hold.
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
                .unwrap_or(HeaderValue::from_static("Bearer"));
            value.set_sensitive(true);
            value
        });
        Ok(Self {
            base: settings.url.clone(),
            authorization,
            timeout: settings.timeout,
            transport: transport::connect(settings)?,
            ahead_millis: Arc::new(AtomicI64::new(i64::MIN)),
        })
    }

    /// Where the server is, as it may be shown.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// The server's time, as of its last answer; ours before the first.
    #[must_use]
    pub fn server_now(&self) -> OffsetDateTime {
        let ahead = match self.ahead_millis.load(Ordering::Relaxed) {
            i64::MIN => 0,
            ahead => ahead,
        };
        let now = OffsetDateTime::now_utc();
        now.checked_add(time::Duration::milliseconds(ahead)).unwrap_or(now)
    }

    /// `GET /v1/summary`, as it was served.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn summary(&self) -> Result<Box<RawValue>, ClientError> {
        self.read(Call::get("/v1/summary")).await
    }

    /// Sends a request and reads the answer, which must be a success, as JSON of this shape.
    async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let (_, body) = self.exchange(call).await?;
        self.parse(&body)
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| {
            self.not_a_registry(format!("its answer is not what a registry sends ({error})"))
        })
    }

    /// Sends a request and reads the answer to its end, within the time-out. It is a success, of JSON or without a body.
    async fn exchange(&self, call: Call) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let response = self.send(call).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| self.broken_off(error.as_ref()))?
                .to_bytes();
            answer::success(&self.base, &parts, &body)?;
            Ok((parts.status, body))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Away {
                url: self.base.to_string(),
                reason: format!("no answer within {}", humantime::format_duration(self.timeout)),
                may_be_done: true,
            }),
        }
    }

    /// Sends a request; the answer may be of any status, and its body has yet to come.
    async fn send(&self, call: Call) -> Result<Response<Incoming>, ClientError> {
        let uri = self.base.uri(&call.path_and_query);
        let uri = Uri::try_from(uri).map_err(|_| ClientError::TooLong)?;
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = call.headers;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let response =
            self.transport.request(request).await.map_err(|error| error::of_sending(&self.base, &error))?;
        self.note_time(response.headers());
        Ok(response)
    }

    fn note_time(&self, headers: &HeaderMap) {
        let date = headers.get(header::DATE).and_then(|value| value.to_str().ok());
        let Some(date) = date.and_then(|text| httpdate::parse_http_date(text).ok()) else { return };
        let ahead = (OffsetDateTime::from(date) - OffsetDateTime::now_utc()).whole_milliseconds();
        self.ahead_millis.store(i64::try_from(ahead).unwrap_or(0), Ordering::Relaxed);
    }

    fn broken_off(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> ClientError {
        if error.is::<http_body_util::LengthLimitError>() {
            return self.not_a_registry("its answer is larger than any of a registry".to_owned());
        }
        ClientError::Away {
            url: self.base.to_string(),
            reason: "the answer broke off".to_owned(),
            may_be_done: true,
        }
    }

    fn not_a_registry(&self, reason: String) -> ClientError {
        ClientError::NotARegistry { url: self.base.to_string(), reason }
    }
}

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("onex-registry/", env!("CARGO_PKG_VERSION")));

/// A request, before the client adds what all have.
#[derive(Debug)]
struct Call {
    method: Method,
    path_and_query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self { method, path_and_query: path_and_query.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn get(path_and_query: impl Into<String>) -> Self {
        Self::new(Method::GET, path_and_query)
    }

    fn json(method: Method, path_and_query: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let call = Self { body: body.into(), ..Self::new(method, path_and_query) };
        call.with(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// The path of a node. It is sent as it is: `.` and `..` are ids like others here.
fn node_path(id: &str) -> String {
    format!("/v1/nodes/{}", utf8_percent_encode(id, RESERVED))
}
