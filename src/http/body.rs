//! Bodies: JSON in UTF-8, of bounded size, within bounded time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::problem::Problem;

/// The largest body, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// The largest body of a batch of registrations, in bytes.
pub(super) const MAX_BATCH_BODY_BYTES: usize = 16 * 1024 * 1024;
/// How much of a body that is too large is read and thrown away, so that the client gets to read the answer instead
/// of seeing its connection reset.
const MAX_DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes of bodies are kept at once, of all requests together. Beyond that, requests are turned away: their
/// number is not bounded, and memory is.
const MAX_BYTES_AT_ONCE: usize = 256 * 1024 * 1024;

/// The room for bodies that there is left.
#[derive(Debug, Clone)]
pub(super) struct BodyRoom(Arc<Semaphore>);

impl BodyRoom {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BYTES_AT_ONCE)))
    }
}

/// The body of a request, up to `LIMIT` bytes.
pub(super) struct JsonBody<const LIMIT: usize> {
    bytes: Vec<u8>,
    /// Given back when the body is.
    room: Option<OwnedSemaphorePermit>,
}

impl<const LIMIT: usize> FromRequest<App> for JsonBody<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        check_announced_size(request.headers(), LIMIT)?;
        let limit = app.limits.body_timeout;
        tokio::time::timeout(limit, read(request.into_body(), &app.body_room))
            .await
            .unwrap_or_else(|_| Err(Problem::body_too_slow(limit)))
    }
}

impl<const LIMIT: usize> JsonBody<LIMIT> {
    /// The body as JSON that is not looked into yet.
    pub(super) fn json(&self) -> Result<&RawValue, Problem> {
        // The messages of the parser name what was expected and where, and repeat nothing of the body.
        serde_json::from_slice(&self.bytes).map_err(|error| Problem::malformed_body(&error.to_string()))
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

async fn read<const LIMIT: usize>(mut body: Body, room: &BodyRoom) -> Result<JsonBody<LIMIT>, Problem> {
    let mut kept = JsonBody { bytes: Vec::new(), room: None };
    let mut bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::malformed_body("the body could not be read to its end"));
        };
        let Some(data) = frame.data_ref() else { continue };
        bytes += data.len();
        if bytes <= LIMIT {
            // A client holds room for what it has sent, not for what it says that it will send.
            let wanted = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let permit =
                Arc::clone(&room.0).try_acquire_many_owned(wanted).map_err(|_| Problem::too_many_bodies())?;
            match &mut kept.room {
                Some(held) => held.merge(permit),
                none => *none = Some(permit),
            }
            kept.bytes.extend_from_slice(data);
        } else if bytes > MAX_DRAINED_BYTES {
            break;
        } else {
            kept = JsonBody { bytes: Vec::new(), room: None };
        }
    }
    if bytes > LIMIT { Err(Problem::body_too_large(LIMIT)) } else { Ok(kept) }
}

/// A client that waits for leave to send its body (RFC 9110, section 10.1.1), or announces far too much, is refused at
/// once. What is just too large is read and thrown away, see [`MAX_DRAINED_BYTES`].
fn check_announced_size(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match announced {
        Some(bytes)
            if bytes > limit && (bytes > MAX_DRAINED_BYTES || headers.contains_key(header::EXPECT)) =>
        {
            Err(Problem::body_too_large(limit))
        }
        _ => Ok(()),
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::unsupported_media_type("the body must be sent without a Content-Encoding"));
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_json(given) {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type("send the header field Content-Type: application/json"))
    }
}

/// `application/json`, or a type built on it (RFC 6839, section 3.1), in UTF-8 if it says so.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    let mut parts = lower.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some(("charset", charset)) => charset.trim_matches('"') == "utf-8",
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_media_types_are_told_from_others() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/merge-patch+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "text/plain",
            "application/jsonx",
            "text/json",
            "application/json; charset=latin1",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }
}
