//! The REST face: routes, middleware, and the one place where outcomes become status codes.
//!
//! A handler extracts and validates, makes one call on [`Registry`], and answers. It knows nothing of databases.

mod answers;
mod batch;
mod body;
mod certified;
mod client;
mod compress;
mod conditional;
mod connection;
mod consistency;
mod context;
mod discover;
mod events;
mod filters;
mod gate;
mod headers;
mod heads;
mod heartbeats;
mod http2;
mod items;
mod maintenance;
mod metrics;
mod nodes;
mod observe;
mod operations;
mod owed;
mod page_headers;
mod path;
mod peer;
mod problem;
mod query_string;
mod rate;
mod record;
mod self_preservation;
mod serve;
mod summary;
mod tls;
mod transport;
mod turned_away;
mod watch;

pub mod openapi;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, Method, header};
use axum::routing::{post, put};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::{CorsOrigins, Settings};
use crate::metrics::Metrics;
use crate::registry::Registry;

use observe::Observe;
use problem::Problem;

pub use certified::CertifiedName;
pub use serve::{Door, Ended, serve};
pub use tls::{BadTls, Tls};

/// What handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What is behind an [`App`]: it is cloned for each request.
#[doc(hidden)]
pub struct Shared {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    limits: Limits,
    /// `None`: clients may send as many requests as they like.
    rate_limiter: Option<rate::RateLimiter>,
    body_room: body::BodyRoom,
    messages: Arc<watch::Messages>,
    answers: answers::Answers,
}

/// What a request may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long it may take in all.
    request_timeout: Duration,
    /// How long its body may take to arrive.
    body_timeout: Duration,
    /// Log it as a warning if it took longer.
    slow: Duration,
}

impl App {
    /// What handlers need of the settings, the registry that they call, and what requests are counted in.
    #[must_use]
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, settings: &Settings) -> Self {
        let limits = Limits {
            request_timeout: settings.request_timeout,
            body_timeout: settings.body_timeout,
            slow: settings.slow,
        };
        Self(Arc::new(Shared {
            registry,
            metrics,
            limits,
            rate_limiter: settings.rate_limit.map(rate::RateLimiter::new),
            body_room: body::BodyRoom::new(),
            messages: Arc::default(),
            answers: answers::Answers::new(),
        }))
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Every route, grouped by who calls it. The OpenAPI document is made of this list.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::frame())
        // Nodes.
        .routes(routes!(nodes::register, nodes::get, nodes::deregister))
        // The same for the empty id, which no node can register with, but a plain SQL writer can leave behind.
        .route("/v1/nodes/", put(nodes::register).get(nodes::get).delete(nodes::deregister))
        .route("/v1/nodes//heartbeat", post(heartbeats::heartbeat))
        .route("/v1/nodes//maintenance", put(maintenance::begin).delete(maintenance::end))
        .routes(routes!(nodes::register_with_id_in_body, discover::discover))
        .routes(routes!(heartbeats::heartbeat))
        .routes(routes!(maintenance::begin, maintenance::end))
        // Fleets.
        .routes(routes!(batch::register))
        .routes(routes!(batch::deregister))
        .routes(routes!(heartbeats::heartbeats))
        // What has happened, and what there is.
        .routes(routes!(events::list))
        .routes(routes!(watch::watch))
        .routes(routes!(summary::summarize))
        // Operators.
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::openapi))
}

/// The whole service.
pub fn router(app: &App, cors: &CorsOrigins) -> Router {
    let (router, _) = routes().split_for_parts();
    let router = router
        .merge(openapi::pages())
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app.clone());
    // No layer at all where CORS is off: it would answer preflights.
    let router = match cors_layer(cors) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(Observe::new(app))
}

fn cors_layer(origins: &CorsOrigins) -> Option<CorsLayer> {
    let exposed = [
        header::ETAG,
        header::LOCATION,
        header::RETRY_AFTER,
        headers::REGISTRY_REVISION,
        headers::REGISTRY_STALE_SECONDS,
        headers::CORRELATION_ID,
    ];
    let accepted: [HeaderName; 6] = [
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::AUTHORIZATION,
        headers::CORRELATION_ID,
        headers::LAST_EVENT_ID,
    ];
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
        .allow_headers(accepted)
        .expose_headers(exposed);
    match origins {
        CorsOrigins::None => None,
        CorsOrigins::Any => Some(layer.allow_origin(Any)),
        CorsOrigins::Some(list) => Some(layer.allow_origin(AllowOrigin::list(list.clone()))),
    }
}

async fn unknown_path() -> Problem {
    Problem::unknown_path()
}

async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed()
}
