//! What is known of the request at hand: the id that names it, and how long it may take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::auth::Authority;
use super::headers::CORRELATION_ID;
use super::problem::Problem;
use crate::node::Origin;

/// The longest correlation id that is taken from a client.
const MAX_CORRELATION_ID_CHARS: usize = 128;

/// What is known of the request at hand. Handlers and what is around them share it.
#[derive(Debug)]
pub(super) struct RequestContext {
    correlation_id: CorrelationId,
    authority: Authority,
    /// By how many milliseconds more than it ought to it may take, for it waits on purpose.
    extension: AtomicU64,
    /// In milliseconds: so long it has waited on purpose.
    waited: AtomicU64,
}

/// Names a request: the client's name for it if that is sane, else one of ours.
#[derive(Debug)]
enum CorrelationId {
    Theirs(HeaderValue),
    Ours([u8; Hyphenated::LENGTH]),
}

impl RequestContext {
    pub(super) fn of(headers: &HeaderMap, authority: Authority) -> Self {
        let given = headers.get(CORRELATION_ID).filter(|value| is_sane(value.as_bytes()));
        let correlation_id = if let Some(id) = given {
            CorrelationId::Theirs(id.clone())
        } else {
            let mut id = [0; Hyphenated::LENGTH];
            Uuid::new_v4().hyphenated().encode_lower(&mut id);
            CorrelationId::Ours(id)
        };
        Self { correlation_id, authority, extension: AtomicU64::new(0), waited: AtomicU64::new(0) }
    }

    /// The name of the request.
    pub(super) fn correlation_id(&self) -> &str {
        // Both kinds are visible ASCII: the stand-in is never used.
        match &self.correlation_id {
            CorrelationId::Theirs(id) => id.to_str().unwrap_or_default(),
            CorrelationId::Ours(id) => std::str::from_utf8(id).unwrap_or_default(),
        }
    }

    /// The same as a header value.
    pub(super) fn header(&self) -> HeaderValue {
        match &self.correlation_id {
            CorrelationId::Theirs(id) => id.clone(),
            CorrelationId::Ours(id) => {
                HeaderValue::from_bytes(id).unwrap_or(HeaderValue::from_static("unknown"))
            }
        }
    }

    /// What its client may do.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where a change of this node comes from that this request makes, if its client may make it. A change can't be
    /// written without, so nobody can forget to ask.
    pub(super) fn origin_of_change(&self, node_id: &str) -> Result<Origin, Problem> {
        self.authority.to_change(node_id)?;
        Ok(Origin { actor: self.authority.actor(), correlation_id: Some(self.correlation_id().to_owned()) })
    }

    /// The request will wait on purpose, for so long at the most. Its time limit is for work.
    pub(super) fn extend(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.extension.fetch_add(millis, Ordering::Relaxed);
    }

    /// The request has waited on purpose, for so long: that is not slow.
    pub(super) fn note_waited(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.waited.fetch_add(millis, Ordering::Relaxed);
    }

    /// How long it has waited on purpose.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_millis(self.waited.load(Ordering::Relaxed))
    }

    /// By how much the time limit was extended since this was asked last.
    pub(super) fn extension(&self) -> Duration {
        Duration::from_millis(self.extension.swap(0, Ordering::Relaxed))
    }
}

/// Visible ASCII (RFC 5234, VCHAR), and not too long.
fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_CORRELATION_ID_CHARS).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_correlation_id_is_taken() {
        let id_for = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATION_ID, HeaderValue::from_bytes(value).unwrap());
            let context = RequestContext::of(&headers, Authority::default());
            assert_eq!(context.header(), context.correlation_id());
            context.correlation_id().to_owned()
        };
        assert_eq!(id_for(b"order-17/a"), "order-17/a");
        assert_eq!(id_for(&[b'x'; 128]), "x".repeat(128));
        for insane in [&b""[..], b"a b", b"a\tb", b"\xC3\xA9", &[b'x'; 129]] {
            assert_eq!(id_for(insane).len(), 36, "{insane:?}");
        }
    }

    #[test]
    fn a_time_limit_is_extended_once() {
        let context = RequestContext::of(&HeaderMap::new(), Authority::default());
        assert_eq!(context.extension(), Duration::ZERO);
        context.extend(Duration::from_secs(30));
        assert_eq!(context.extension(), Duration::from_secs(30));
        assert_eq!(context.extension(), Duration::ZERO);
    }
}
