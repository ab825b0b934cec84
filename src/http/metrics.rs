//! Metrics: read here, and requests counted by what there is of methods and routes. A client can send any method and
//! any path; those that we don't have are one.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{MatchedPath, State};
use axum::http::{Method, header};
use axum::response::IntoResponse;

use super::problem::{Problem, ProblemBody};
use super::{App, openapi};
use crate::metrics::{HttpMethod, Metrics, Series};
use crate::telemetry;

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
    app.metrics.log.note_lost(telemetry::lost_lines());
    let text = app.metrics.text().map_err(|error| {
        tracing::error!(%error, "the metrics can't be written");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-cache")], text))
}

/// What requests are counted in. The series of the document's calls are looked up once, and not per request.
pub(super) struct RequestSeries(HashMap<&'static str, Vec<(HttpMethod, Series)>>);

/// What a request is counted in.
pub(super) enum Counted<'s> {
    In(&'s Series),
    As(HttpMethod, &'static str),
}

impl RequestSeries {
    /// Makes the series of every call and every answer that the document has, so that they begin at 0.
    pub(super) fn announced(metrics: &Metrics) -> Self {
        let mut series: HashMap<&'static str, Vec<(HttpMethod, Series)>> = HashMap::new();
        for (path, item) in &openapi::document().paths.paths {
            let operations = [
                (HttpMethod::Get, &item.get),
                (HttpMethod::Put, &item.put),
                (HttpMethod::Post, &item.post),
                (HttpMethod::Delete, &item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    let statuses =
                        operation.responses.responses.keys().filter_map(|status| status.parse().ok());
                    let announced = metrics.requests.announce(method, path, statuses);
                    series.entry(path).or_default().push((method, announced));
                }
            }
        }
        Self(series)
    }

    /// What a request is counted in.
    pub(super) fn of(&self, method: &Method, matched: Option<&MatchedPath>) -> Counted<'_> {
        let method = method_label(method);
        let of_route = matched.and_then(|matched| self.0.get(matched.as_str()));
        match of_route.and_then(|series| series.iter().find(|(of, _)| *of == method)) {
            Some((_, series)) => Counted::In(series),
            None => Counted::As(method, route_label(matched)),
        }
    }
}

impl Counted<'_> {
    /// The request was answered.
    pub(super) fn answered(&self, metrics: &Metrics, status: u16, took: Duration) {
        match self {
            Self::In(series) => {
                if !series.answered(status, took) {
                    metrics.requests.answered(series.method(), series.route(), status, took);
                }
            }
            Self::As(method, route) => metrics.requests.answered(*method, route, status, took),
        }
    }
}

/// The route of a request as a label: a path of the document, and never a text of the client's.
fn route_label(matched: Option<&MatchedPath>) -> &'static str {
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
fn method_label(method: &Method) -> HttpMethod {
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
