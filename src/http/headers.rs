//! Header fields of our own.

use axum::http::{HeaderName, HeaderValue};

use crate::node::Revision;

/// Names a request in the answer, the logs, the problem and the events.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// All changes up to this revision are in the answer.
pub(super) const REGISTRY_REVISION: HeaderName = HeaderName::from_static("registry-revision");

/// A revision as a header value.
pub(super) fn revision(revision: Revision) -> HeaderValue {
    HeaderValue::from(revision.get())
}
