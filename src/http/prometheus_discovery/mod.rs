//! Service discovery for Prometheus: the fleet as targets.

mod target;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use utoipa::{IntoParams, ToSchema};

use super::filters::FilterParameters;
use super::problem::{Problem, ProblemBody};
use super::query_string::{Parameter, QueryString};
use super::{App, filters, headers};
use crate::node::{DiscoveryQuery, Faults, PageLimit};
use crate::registry::{Freshness, Listing};

/// Which endpoint of the nodes is scraped
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct EndpointParameters {
    /// The name of the endpoint whose value is the target: a URL, whose scheme and path are used, or `host:port`. Nodes
    /// without it are left out
    #[param(required = false, default = "http")]
    endpoint: String,
}

const PARAMETERS: [Parameter; 1] = [Parameter::once("endpoint")];
const ENDPOINT: &str = "http";

/// So many nodes are read at a time: a fleet of any size takes little memory, and no thread for long.
const PART: PageLimit = PageLimit::of::<250>();

/// Targets of Prometheus: those of one node
#[derive(Debug, ToSchema)]
#[schema(as = PrometheusTargets, example = json!({
    "targets": ["127.0.0.1:20002"],
    "labels": {
        "__meta_onex_endpoint": "http",
        "__meta_onex_metadata_environment": "dev",
        "__meta_onex_node_id": "node_artifact_change_detector_effect",
        "__meta_onex_node_type": "effect",
        "__meta_onex_node_version": "1.0.0",
        "__meta_onex_status": "healthy",
        "__scheme__": "http"
    }
}))]
#[allow(dead_code, reason = "describes in the document what `target::Group` is")]
pub(super) struct GroupBody<'a> {
    /// `host:port`
    #[schema(min_items = 1, max_items = 1)]
    targets: Vec<String>,
    /// What relabeling can use, `__meta_onex_metadata_…` of each string, number or boolean in the metadata among it, and
    /// `__scheme__` and `__metrics_path__` if the endpoint is a URL that has them
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// Discover targets for Prometheus
///
/// What `http_sd_configs` of Prometheus reads: all nodes that match and have the endpoint, in one answer. If it can't be
/// completed, it breaks off, and Prometheus keeps the targets that it has.
#[utoipa::path(
    get, path = "/v1/discovery/prometheus", tag = "overview", operation_id = "discoverPrometheusTargets",
    params(FilterParameters, EndpointParameters),
    responses(
        (status = 200, description = "The targets", body = Vec<GroupBody>, headers(("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 400, description = "The query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn discover(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let (query, endpoint) = read(query.as_deref()).map_err(Problem::faults)?;
    let seen = app.registry.discover(&query, Freshness::default()).await?;
    let stale = app.registry.stale(Freshness::default());
    let mut targets = Targets { app, query, endpoint, any: false, more: true };
    // What goes wrong with the first part can still be said.
    let first = targets.part(&seen.value)?;
    let others = stream::unfold(targets, |mut targets| async {
        let part = targets.next().await?;
        Some((part.map_err(io::Error::other), targets))
    });
    // Whoever compresses it asks again after the end.
    let parts = stream::once(std::future::ready(Ok(first))).chain(others).fuse();
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (headers::of_a_read(seen.revision), kind, Body::from_stream(parts)).into_response();
    headers::note_stale(response.headers_mut(), stale);
    Ok(response)
}

fn read(query: Option<&str>) -> Result<(DiscoveryQuery, String), Faults> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let mut given = QueryString::read(query, &[&filters::PARAMETERS[..], &PARAMETERS], &mut faults);
    let endpoint = given.one("endpoint").unwrap_or_else(|| ENDPOINT.to_owned());
    let query = DiscoveryQuery { limit: PART, ..filters::read(&mut given, &mut faults) };
    if faults.is_empty() { Ok((query, endpoint)) } else { Err(faults) }
}

/// The targets, made as the client takes them.
struct Targets {
    app: App,
    /// For the next part.
    query: DiscoveryQuery,
    endpoint: String,
    /// Whether there was a target.
    any: bool,
    /// Whether there are more nodes.
    more: bool,
}

impl Targets {
    /// The next part of the answer; `None` at its end. After a failure, the answer is no JSON.
    async fn next(&mut self) -> Option<Result<Bytes, &'static str>> {
        if !self.more {
            return None;
        }
        let listing = match self.app.registry.discover(&self.query, Freshness::default()).await {
            Ok(seen) => seen.value,
            Err(error) => {
                self.more = false;
                tracing::warn!(%error, "the targets for Prometheus are broken off");
                return Some(Err("the nodes can't be read on"));
            }
        };
        let part = self.part(&listing);
        self.more &= part.is_ok();
        Some(part.map_err(|_| "there is no room for the answer"))
    }

    fn part(&mut self, listing: &Listing) -> Result<Bytes, Problem> {
        let mut out = Vec::new();
        if self.query.after.is_none() {
            out.push(b'[');
        }
        for node in &listing.nodes {
            // To leave one out would be to say that it is gone.
            let Some(record) = node.record.read_back(&node.moment) else { return Err(Problem::internal()) };
            let Some(group) = target::group(&record, node.moment.status, &self.endpoint) else { continue };
            if std::mem::replace(&mut self.any, true) {
                out.push(b',');
            }
            serde_json::to_writer(&mut out, &group).map_err(|_| Problem::internal())?;
        }
        self.more = listing.more;
        if !self.more {
            out.push(b']');
        }
        self.query.after = listing.nodes.last().map(|last| last.record.node_id().clone());
        self.app.page_room.hold(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::query_string::described_and_read;
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        described_and_read::<EndpointParameters>(&PARAMETERS);
    }
}
