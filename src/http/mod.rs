//! The REST face: routes, middleware, and the one place where outcomes become status codes.
//!
//! A handler extracts and validates, makes one call on [`Registry`], and answers. It knows nothing of databases.

mod answers;
pub(crate) mod auth;
mod batch;
mod body;
mod certified;
mod client;
mod compress;
mod conditional;
mod connection;
mod consistency;
mod context;
mod dashboard;
mod discover;
mod events;
mod filters;
mod gate;
mod headers;
mod heads;
mod heartbeats;
mod http2;
mod items;
mod last_connections;
mod maintenance;
mod metrics;
mod nodes;
mod observe;
mod operations;
mod owed;
mod page_headers;
mod page_room;
mod path;
mod peer;
mod problem;
mod prometheus_discovery;
mod query_string;
mod rate;
mod record;
mod seldom;
mod self_preservation;
mod serve;
mod summary;
mod tls;
mod transport;
mod turned_away;
mod watch;
mod watchers;

pub mod openapi;
#[doc(hidden)]
pub mod parsing;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, Method, header};
use axum::routing::{post, put};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa_axum::routes;

use crate::config::{CorsOrigins, Settings};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::registry::Registry;

use auth::{Access, Guard, GuardLayer, Routes};
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
    counter: Option<Arc<rate::Counter>>,
    body_room: body::BodyRoom,
    page_room: page_room::PageRoom,
    watchers: watchers::Watchers,
    messages: Arc<watch::Messages>,
    answers: answers::Answers,
    /// `None`: there are no keys, and anybody may do anything.
    guard: Option<Arc<Guard>>,
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
    /// What handlers need of the settings, the registry that they call, what requests are counted in, and who may make
    /// them; without keys, anybody.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        keys: Option<Arc<Keys>>,
        settings: &Settings,
    ) -> Self {
        let limits = Limits {
            request_timeout: settings.request_timeout,
            body_timeout: settings.body_timeout,
            slow: settings.slow,
        };
        let counter =
            settings.rate_limit.map(|limit| Arc::new(rate::Counter::new(limit, Arc::clone(&metrics))));
        let guard = keys.map(|keys| Arc::new(Guard::new(keys, settings.public, Arc::clone(&metrics))));
        Self(Arc::new(Shared {
            guard,
            registry,
            metrics,
            limits,
            counter,
            body_room: body::BodyRoom::new(),
            page_room: page_room::PageRoom::new(),
            watchers: watchers::Watchers::new(settings.max_watchers),
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

/// Every route with what it needs, grouped by who calls it. The OpenAPI document is made of this list.
fn routes() -> Routes {
    Routes::new(openapi::frame())
        // Nodes.
        .add(Access::Read, routes!(nodes::get))
        .add(Access::Write, routes!(nodes::register, nodes::deregister))
        .add(Access::Read, routes!(discover::discover))
        .add(Access::Write, routes!(nodes::register_with_id_in_body))
        .add(Access::Write, routes!(heartbeats::heartbeat))
        .add(Access::Write, routes!(maintenance::begin, maintenance::end))
        // The same for the empty id, which no node can register with, but a plain SQL writer can leave behind.
        .alias(
            "/v1/nodes/",
            "/v1/nodes/{node_id}",
            put(nodes::register).get(nodes::get).delete(nodes::deregister),
        )
        .alias("/v1/nodes//heartbeat", "/v1/nodes/{node_id}/heartbeat", post(heartbeats::heartbeat))
        .alias(
            "/v1/nodes//maintenance",
            "/v1/nodes/{node_id}/maintenance",
            put(maintenance::begin).delete(maintenance::end),
        )
        // Fleets.
        .add(Access::Write, routes!(batch::register))
        .add(Access::Write, routes!(batch::deregister))
        .add(Access::Write, routes!(heartbeats::heartbeats))
        // What has happened, and what there is.
        .add(Access::Read, routes!(events::list))
        .add(Access::Read, routes!(watch::watch))
        .add(Access::Read, routes!(summary::summarize))
        .add(Access::Read, routes!(summary::history))
        // Programs that don't speak our API.
        .add(Access::Read, routes!(prometheus_discovery::discover))
        // Operators.
        .add(Access::Open, routes!(operations::livez))
        .add(Access::Open, routes!(operations::readyz))
        .add(Access::Metrics, routes!(metrics::metrics))
        .add(Access::Open, routes!(openapi::openapi))
}

/// The whole service.
pub fn router(app: &App, cors: &CorsOrigins) -> Router {
    let (router, mut declared, _) = routes().split();
    let router = router.merge(openapi::pages()).merge(dashboard::pages());
    declared.pages(Access::Docs, &openapi::PAGES);
    // Who has not shown a key yet has to see where to. The page has no data in it.
    declared.pages(Access::Open, &dashboard::PAGES);
    let router =
        router.fallback(unknown_path).method_not_allowed_fallback(method_not_allowed).with_state(app.clone());
    // No layer at all where there is nothing for it to do: it would cost every request something.
    let router = if app.guard.is_some() || app.counter.is_some() {
        router.layer(GuardLayer::new(app.guard.clone(), declared, app.counter.clone()))
    } else {
        router
    };
    // Around the guard: a browser asks in advance without a key, and is to read what it is refused with. And no layer
    // at all where CORS is off: it would answer preflights.
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
        header::WWW_AUTHENTICATE,
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
