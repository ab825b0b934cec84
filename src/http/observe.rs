//! Around every request: its correlation id, its span in the log, its count, its time limit, and its problem made
//! readable.
//!
//! All of it is one layer, written by hand: a route has one box around it and not five, which is a good part of what an
//! answer from memory costs.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::Route;
use futures_util::FutureExt as _;
use tower::{Layer, Service};
use tower_http::compression::Compression;
use tracing::Instrument as _;

use super::auth::Authority;
use super::compress::{self, WorthIt};
use super::context::RequestContext;
use super::headers::CORRELATION_ID;
use super::metrics::RequestSeries;
use super::page_headers::NOSNIFF;
use super::peer::Peer;
use super::problem::Problem;
use super::{App, Limits};

/// The outermost layer. Never logs a path, a query string or a body: they may hold anything.
#[derive(Clone)]
pub(super) struct Observe {
    app: App,
    series: Arc<RequestSeries>,
}

impl Observe {
    pub(super) fn new(app: &App) -> Self {
        Self { app: app.clone(), series: Arc::new(RequestSeries::announced(&app.metrics)) }
    }
}

impl Layer<Route> for Observe {
    type Service = Observed;

    fn layer(&self, route: Route) -> Observed {
        let compressed = compress::compressed(route.clone());
        Observed(Arc::new(Around { route, compressed, observe: self.clone() }))
    }
}

/// A route with all that is around it. It is cloned for each request.
#[derive(Clone)]
pub(super) struct Observed(Arc<Around>);

struct Around {
    route: Route,
    /// The same route, for who takes gzip.
    compressed: Compression<Route, WorthIt>,
    observe: Observe,
}

impl Service<Request> for Observed {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(Arc::clone(&self.0).answer(request).map(Ok))
    }
}

impl Around {
    async fn answer(self: Arc<Self>, mut request: Request) -> Response {
        let Observe { app, series } = &self.observe;
        let context = Arc::new(RequestContext::of(request.headers(), Authority::new(app.guard.as_ref())));
        request.extensions_mut().insert(Arc::clone(&context));
        let (method, matched) = (request.method(), request.extensions().get::<MatchedPath>());
        let route = matched.map_or("-", MatchedPath::as_str);
        let span = tracing::info_span!(
            "request",
            %method,
            route,
            correlation_id = context.correlation_id(),
            client = request.extensions().get::<Peer>().map(|peer| tracing::field::display(peer.address())),
            // Its name, once it is known.
            key = tracing::field::Empty
        );
        let series = series.of(method, matched);
        let answered = async {
            let _in_flight = app.metrics.requests.begun();
            let begun = Instant::now();
            let mut response = self.within_limit(request, &context, app.limits).await;
            if let Some(problem) = response.extensions_mut().remove::<Problem>() {
                let headers = std::mem::take(response.headers_mut());
                response = problem.render(headers, context.correlation_id());
            }
            response.headers_mut().insert(CORRELATION_ID, context.header());
            let (nosniff, value) = NOSNIFF;
            response.headers_mut().insert(nosniff, value);
            let took = begun.elapsed();
            let status = response.status().as_u16();
            series.answered(&app.metrics, status, took);
            let latency_ms = || took.as_secs_f64() * 1_000.0;
            if took.saturating_sub(context.waited()) > app.limits.slow {
                tracing::warn!(status, latency_ms = latency_ms(), "slow request");
            } else {
                tracing::info!(status, latency_ms = latency_ms(), "request");
            }
            response
        };
        answered.instrument(span).await
    }

    /// Answers with 504 what takes too long. A write that is under way goes on: it belongs to the registry.
    async fn within_limit(&self, request: Request, context: &RequestContext, limits: Limits) -> Response {
        let mut answer = std::pin::pin!(AssertUnwindSafe(self.call(request)).catch_unwind());
        let mut left = limits.request_timeout;
        while !left.is_zero() {
            match tokio::time::timeout(left, answer.as_mut()).await {
                Ok(answer) => return answer.unwrap_or_else(panicked),
                // Who waits on purpose has more time.
                Err(_) => left = context.extension(),
            }
        }
        Problem::timeout(limits.request_timeout).into_response()
    }

    async fn call(&self, mut request: Request) -> Response {
        if compress::accepts_gzip(request.headers_mut()) {
            let Ok(response) = self.compressed.clone().call(request).await;
            response.map(Body::new)
        } else {
            let Ok(mut response) = self.route.clone().call(request).await;
            compress::vary(&mut response);
            response
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "whoever catches a panic has it")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
    tracing::error!(panic = message, "a handler panicked");
    Problem::internal().into_response()
}
