//! Whether an answer is one of a registry, and a success.

use axum::http::response::Parts;
use axum::http::{StatusCode, header};

use super::error::{self, ClientError, Problem};
use super::settings::BaseUrl;

/// Checks it. What a success has in its body is JSON, or nothing.
pub(super) fn success(base: &BaseUrl, parts: &Parts, body: &[u8]) -> Result<(), ClientError> {
    if parts.status.is_success() {
        return match media_type(parts) {
            "application/json" => Ok(()),
            _ if parts.status == StatusCode::NO_CONTENT => Ok(()),
            other => Err(stranger(base, other)),
        };
    }
    Err(failure(base, parts, body))
}

/// Checks that an answer is a stream of events that begins.
pub(super) fn is_stream(base: &BaseUrl, parts: &Parts) -> Result<(), ClientError> {
    match media_type(parts) {
        "text/event-stream" => Ok(()),
        other => Err(stranger(base, other)),
    }
}

/// What an answer says that isn't a success.
pub(super) fn failure(base: &BaseUrl, parts: &Parts, body: &[u8]) -> ClientError {
    if media_type(parts) == "application/problem+json"
        && let Ok(problem) = serde_json::from_slice::<Problem>(body)
    {
        let retry_after = error::retry_after(&parts.headers);
        return ClientError::Problem(Box::new(Problem {
            retry_after,
            status: parts.status.as_u16(),
            ..problem
        }));
    }
    error::of_a_stranger(base, parts.status)
}

fn stranger(base: &BaseUrl, media_type: &str) -> ClientError {
    let sends = if media_type.is_empty() { "something of no type" } else { media_type };
    ClientError::NotARegistry { url: base.to_string(), reason: format!("it sends {sends}") }
}

fn media_type(parts: &Parts) -> &str {
    let value =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}
