//! Around every request: its correlation id, its span in the log, its count, its time limit, and its problem made
//! readable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::ACCEPT_ENCODING;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

use super::headers::CORRELATION_ID;
use super::metrics::{method_label, route_label};
use super::problem::Problem;
use super::{App, Limits};
use crate::node::{Actor, Origin};

/// The longest correlation id that is taken from a client.
const MAX_CORRELATION_ID_CHARS: usize = 128;

/// The correlation id of the request at hand: the client's if it is sane, else one of ours.
#[derive(Debug, Clone)]
pub(super) struct CorrelationId(HeaderValue);

impl CorrelationId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(CORRELATION_ID).filter(|value| is_sane(value.as_bytes()));
        Self(given.cloned().unwrap_or_else(|| {
            // A UUID is visible ASCII: the stand-in is never used.
            HeaderValue::try_from(uuid::Uuid::new_v4().to_string())
                .unwrap_or(HeaderValue::from_static("unknown"))
        }))
    }

    pub(super) fn as_str(&self) -> &str {
        // Both kinds are visible ASCII.
        self.0.to_str().unwrap_or_default()
    }

    /// Where a change comes from that this request makes. Nobody says who they are yet.
    pub(super) fn origin(&self) -> Origin {
        Origin { actor: Actor::anonymous(), correlation_id: Some(self.as_str().to_owned()) }
    }
}

/// Visible ASCII (RFC 5234, VCHAR), and not too long.
fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_CORRELATION_ID_CHARS).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The outermost layer. Never logs a path, a query string or a body: they may hold anything.
pub(super) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = CorrelationId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    simplify_accept_encoding(request.headers_mut());
    let (method, matched) = (request.method(), request.extensions().get::<MatchedPath>());
    let route = matched.map_or("-", MatchedPath::as_str);
    let span = tracing::info_span!("request", %method, route, correlation_id = id.as_str());
    let (method, route) = (method_label(method), route_label(matched));
    async move {
        let _in_flight = app.metrics.requests.begun();
        let begun = Instant::now();
        let mut response = next.run(request).await;
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let headers = std::mem::take(response.headers_mut());
            response = problem.render(headers, id.as_str());
        }
        response.headers_mut().insert(CORRELATION_ID, id.0);
        let took = begun.elapsed();
        let (status, latency_ms) = (response.status().as_u16(), took.as_secs_f64() * 1_000.0);
        app.metrics.requests.answered(method, route, status, took);
        if took > app.limits.slow {
            tracing::warn!(status, latency_ms, "slow request");
        } else {
            tracing::info!(status, latency_ms, "request");
        }
        response
    }
    .instrument(span)
    .await
}

/// Leaves what the compression needs to know: gzip, or nothing. Everything else may be answered as it is (RFC 9110,
/// section 12.5.3), and never with a 406 for what has been done already.
fn simplify_accept_encoding(headers: &mut HeaderMap) {
    let accepts = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|list| list.split(',').any(|coding| is_acceptable_gzip(&coding.to_ascii_lowercase())))
    };
    let gzip = headers.get_all(ACCEPT_ENCODING).iter().any(accepts);
    headers.remove(ACCEPT_ENCODING);
    if gzip {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

fn is_acceptable_gzip(coding: &str) -> bool {
    let mut parts = coding.split(';').map(str::trim);
    let named = matches!(parts.next(), Some("gzip" | "x-gzip" | "*"));
    let refused = parts
        .any(|weight| weight.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)));
    named && !refused
}

/// Answers with 504 what takes too long. A write that is under way goes on: it belongs to the registry.
pub(super) async fn time_limit(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let limit = TimeLimit::default();
    request.extensions_mut().insert(limit.clone());
    let mut answer = std::pin::pin!(next.run(request));
    let mut left = limits.request_timeout;
    while !left.is_zero() {
        match tokio::time::timeout(left, answer.as_mut()).await {
            Ok(response) => return response,
            Err(_) => left = limit.extension(),
        }
    }
    Problem::timeout(limits.request_timeout).into_response()
}

/// The time limit of a request. It is for work: who waits on purpose extends it.
#[derive(Debug, Clone, Default)]
pub(super) struct TimeLimit(Arc<Mutex<Duration>>);

impl TimeLimit {
    /// The request will wait for so long, at the most.
    pub(super) fn extend(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// By how much the limit was extended, since this was asked last.
    fn extension(&self) -> Duration {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_all_that_matters_of_accept_encoding() {
        for (given, expected) in [
            ("gzip", Some("gzip")),
            ("br, GZIP;q=0.5", Some("gzip")),
            ("*", Some("gzip")),
            ("gzip;q=0", None),
            ("gzip; q=0.0, identity", None),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("br", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(given));
            simplify_accept_encoding(&mut headers);
            let left = headers.get(ACCEPT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!(left, expected, "{given}");
        }
    }

    #[test]
    fn only_a_sane_correlation_id_is_taken() {
        let id_for = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATION_ID, HeaderValue::from_bytes(value).unwrap());
            CorrelationId::of(&headers).as_str().to_owned()
        };
        assert_eq!(id_for(b"order-17/a"), "order-17/a");
        assert_eq!(id_for(&[b'x'; 128]), "x".repeat(128));
        for insane in [&b""[..], b"a b", b"a\tb", b"\xC3\xA9", &[b'x'; 129]] {
            assert_eq!(id_for(insane).len(), 36, "{insane:?}");
        }
    }
}
