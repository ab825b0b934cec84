//! Header fields of our own.

use axum::http::{HeaderName, HeaderValue, header};

use crate::node::Revision;

/// Names a request in the answer, the logs, the problem and the events.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Where a client goes on whose stream of changes was cut off.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// All changes up to this revision are in the answer.
pub(super) const REGISTRY_REVISION: HeaderName = HeaderName::from_static("registry-revision");

/// A revision as a header value.
pub(super) fn revision(revision: Revision) -> HeaderValue {
    HeaderValue::from(revision.get())
}

/// The header fields of what was read and has no entity tag.
pub(super) fn of_a_read(seen: Revision) -> [(HeaderName, HeaderValue); 2] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (REGISTRY_REVISION, revision(seen))]
}
