//! Metrics: read here, and requests counted by what there is of methods and routes. A client can send any method and
//! any path; those that we don't have are one.

use axum::extract::{MatchedPath, State};
use axum::http::{Method, header};
use axum::response::IntoResponse;

use super::problem::{Problem, ProblemBody};
use super::{App, openapi};
use crate::metrics::{HttpMethod, Metrics};

/// Prometheus text format. The version is the format's.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route of a path that there isn't.
const UNKNOWN: &str = "unknown";
/// The pages for people are not in the document. They are counted as one.
const PAGES: &str = "pages";
/// What the node without an id has for paths: it is a node like others.
const EMPTY_ID: [(&str, &str); 3] = [
    ("/v1/nodes/", "/v1/nodes/{node_id}"),
    ("/v1/nodes//heartbeat", "/v1/nodes/{node_id}/heartbeat"),
    ("/v1/nodes//maintenance", "/v1/nodes/{node_id}/maintenance"),
];

/// Metrics for Prometheus
///
/// In its text format 0.0.4. Nodes are counted at most every 5 seconds, and left out while the database is away.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses(
        (status = 200, description = "What the server counts and measures", body = String, content_type = MEDIA_TYPE, example = "# HELP onex_registry_expired_total Nodes that this server deregistered because they had been stale for too long.\n# TYPE onex_registry_expired_total counter\nonex_registry_expired_total 0\n"),
        (status = 500, description = "Something went wrong in the registry", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    app.registry.measure().await;
    let text = app.metrics.text().map_err(|error| {
        tracing::error!(%error, "the metrics can't be written");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-cache")], text))
}

/// Makes the series of every call and every answer that the document has, so that they begin at 0.
pub(super) fn announce_requests(metrics: &Metrics) {
    for (path, item) in &openapi::document().paths.paths {
        let operations = [
            (HttpMethod::Get, &item.get),
            (HttpMethod::Put, &item.put),
            (HttpMethod::Post, &item.post),
            (HttpMethod::Delete, &item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                let statuses = operation.responses.responses.keys().filter_map(|status| status.parse().ok());
                metrics.requests.announce(method, path, statuses);
            }
        }
    }
}

/// The route of a request as a label: a path of the document, and never a text of the client's.
pub(super) fn route_label(matched: Option<&MatchedPath>) -> &'static str {
    let Some(matched) = matched.map(MatchedPath::as_str) else { return UNKNOWN };
    if let Some((_, route)) = EMPTY_ID.iter().find(|(path, _)| *path == matched) {
        return route;
    }
    match openapi::document().paths.paths.get_key_value(matched) {
        Some((path, _)) => path,
        None => PAGES,
    }
}

/// The method of a request as a label.
pub(super) fn method_label(method: &Method) -> HttpMethod {
    match *method {
        Method::GET => HttpMethod::Get,
        Method::HEAD => HttpMethod::Head,
        Method::PUT => HttpMethod::Put,
        Method::POST => HttpMethod::Post,
        Method::DELETE => HttpMethod::Delete,
        Method::PATCH => HttpMethod::Patch,
        Method::OPTIONS => HttpMethod::Options,
        Method::TRACE => HttpMethod::Trace,
        Method::CONNECT => HttpMethod::Connect,
        _ => HttpMethod::Other,
    }
}
