//! What may go wrong, in the kinds that a caller tells apart.

use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio_rustls::rustls;

use super::settings::BaseUrl;

/// Why a call has no result. The texts have in them what the server sent: whoever shows them to a terminal makes them
/// harmless first.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server can't be reached, or doesn't answer in time, or a proxy says so.
    #[error("the registry at {url} is away: {reason}")]
    Away {
        /// Where it should be.
        url: String,
        /// What happened.
        reason: String,
        /// Whether a write may have taken effect, or may yet: it was sent, or some of it.
        may_be_done: bool,
    },
    /// Its certificate is not valid, or it does not take ours.
    #[error("the server at {url} is not trusted: {reason}")]
    Untrusted {
        /// Where it is.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Something answers, and not as a registry does.
    #[error("there is something at {url}, and it is not a registry: {reason}")]
    NotARegistry {
        /// Where it is.
        url: String,
        /// What it does.
        reason: String,
    },
    /// The registry says what is wrong.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// More was to be put into the address of a request than one can have.
    #[error("the request is too long for any server: too many filters, or too long ones")]
    TooLong,
}

/// Problem details (RFC 9457).
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{title} ({status}): {detail}")]
pub struct Problem {
    /// The kind, such as `/problems/validation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The status code of HTTP.
    pub status: u16,
    /// What is wrong this time.
    #[serde(default)]
    pub detail: String,
    /// The correlation id of the request.
    pub correlation_id: Option<String>,
    /// All that is wrong.
    #[serde(default)]
    pub errors: Vec<ProblemError>,
    /// When it may be asked again.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Deserialize)]
pub struct ProblemError {
    /// Where in the body.
    pub pointer: Option<String>,
    /// Or which parameter.
    pub parameter: Option<String>,
    /// Or which header field.
    pub header: Option<String>,
    /// The rule that is broken.
    #[serde(default)]
    pub detail: String,
}

impl ProblemError {
    /// Where it is wrong.
    #[must_use]
    pub fn place(&self) -> &str {
        let place = self.pointer.as_ref().or(self.parameter.as_ref()).or(self.header.as_ref());
        place.map_or("", String::as_str)
    }
}

impl Problem {
    /// Whether it is that the node is not registered, and not that something else isn't there, such as the path.
    #[must_use]
    pub fn is_of_no_node(&self) -> bool {
        self.status == 404 && self.kind == "/problems/node-not-found"
    }

    /// Whether this is said of the moment, and not of the request: it may be right to ask again later.
    #[must_use]
    pub fn is_of_the_moment(&self) -> bool {
        matches!(self.status, 408 | 429 | 502 | 503 | 504 | 507)
    }
}

impl ClientError {
    /// The problem, if the registry named one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The status of the problem.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// Whether it may be right to ask again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Problem(problem) => problem.is_of_the_moment(),
            Self::Untrusted { .. } | Self::NotARegistry { .. } | Self::TooLong => false,
        }
    }

    /// When the server wants to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.problem().and_then(|problem| problem.retry_after)
    }
}

/// What `Retry-After` says, in seconds (RFC 9110, section 10.2.3); at most an hour is believed.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

/// What went wrong before there was an answer.
pub(super) fn of_sending(base: &BaseUrl, error: &hyper_util::client::legacy::Error) -> ClientError {
    let url = base.to_string();
    let causes = || Causes(Some(error));
    let tls = causes().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            let reason = "it doesn't speak TLS; perhaps it is reached by http://".to_owned();
            return ClientError::NotARegistry { url, reason };
        }
        Some(reason) => return ClientError::Untrusted { url, reason: reason.to_string() },
        None => {}
    }
    let of_http = causes().find_map(|cause| cause.downcast_ref::<hyper::Error>());
    if of_http.is_some_and(hyper::Error::is_parse) {
        let reason = "its answer is not HTTP".to_owned();
        return ClientError::NotARegistry { url, reason };
    }
    let reason = match causes().last() {
        Some(cause)
            if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) =>
        {
            "the connection was closed without an answer".to_owned()
        }
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    };
    ClientError::Away { url, reason, may_be_done: !error.is_connect() }
}

/// An error, its cause, and so on. What is inside an error of `std::io` is not what that names as its source.
struct Causes<'e>(Option<&'e (dyn Error + 'static)>);

impl<'e> Iterator for Causes<'e> {
    type Item = &'e (dyn Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0.take()?;
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        self.0 = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
        Some(error)
    }
}

/// An answer that isn't a success, and isn't a problem document either.
pub(super) fn of_a_stranger(base: &BaseUrl, status: StatusCode) -> ClientError {
    let url = base.to_string();
    match status {
        StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => ClientError::Away {
            url,
            reason: format!("something before it answers {status}"),
            may_be_done: true,
        },
        status if status.is_redirection() => ClientError::NotARegistry {
            url,
            reason: format!("it answers {status}, and redirects are not followed"),
        },
        status => {
            ClientError::NotARegistry { url, reason: format!("it answers {status}, without problem details") }
        }
    }
}
