//! Header fields of our own.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::node::Revision;

/// Names a request in the answer, the logs, the problem and the events.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Where a client goes on whose stream of changes was cut off.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// All changes up to this revision are in the answer.
pub(super) const REGISTRY_REVISION: HeaderName = HeaderName::from_static("registry-revision");

/// For so many seconds it has not been known whether the answer is what the database has. Absent while it is.
pub(super) const REGISTRY_STALE_SECONDS: HeaderName = HeaderName::from_static("registry-stale-seconds");

/// Says how old what was read may be, if that is to be said.
pub(super) fn note_stale(headers: &mut HeaderMap, stale: Option<Duration>) {
    if let Some(age) = stale {
        headers.insert(REGISTRY_STALE_SECONDS, HeaderValue::from(age.as_secs()));
    }
}

/// A revision as a header value.
pub(super) fn revision(revision: Revision) -> HeaderValue {
    HeaderValue::from(revision.get())
}

/// An answer of JSON that is there, with its entity tag. There is room for the fields that it gets on its way out: the
/// table of an answer's fields doesn't grow twice.
pub(super) fn tagged_json(code: StatusCode, tag: HeaderValue, json: impl Into<Body>) -> Response {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, tag);
    let mut response = Response::new(json.into());
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
}

/// The header fields of what was read and has no entity tag.
pub(super) fn of_a_read(seen: Revision) -> [(HeaderName, HeaderValue); 2] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (REGISTRY_REVISION, revision(seen))]
}
