//! How many nodes there are.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemBody};
use super::query_string::QueryString;
use super::record::StatusName;
use super::self_preservation::SelfPreservationBody;
use super::{App, headers};
use crate::node::{Faults, Status, Summary};
use crate::registry::Freshness;
use crate::registry::health::FleetWatch;

/// How many nodes there are, at one instant. Lists have the largest numbers first, and at most 1,000 entries
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Summary)]
pub(super) struct SummaryBody<'a> {
    /// All nodes
    #[schema(minimum = 0, example = 115)]
    nodes: u64,
    /// By type. A row that a foreign writer left may have any type
    by_type: Vec<TypeCount<'a>>,
    /// By type and version
    by_type_and_version: Vec<VersionCount<'a>>,
    /// By status
    by_status: StatusCounts,
    /// By type and status
    by_type_and_status: Vec<TypeStatusCount<'a>>,
    /// How many nodes are in entries that were left out of the lists
    not_listed: NotListed,
    /// As the replica that looks after the fleet has last written it down
    self_preservation: SelfPreservationBody,
    /// All changes up to this one are in the answer
    #[schema(minimum = 0, example = 115)]
    revision: i64,
}

/// Nodes of a type
#[derive(Debug, Serialize, ToSchema)]
struct TypeCount<'a> {
    #[schema(example = "effect")]
    node_type: &'a str,
    #[schema(minimum = 1, example = 61)]
    nodes: u64,
}

/// Nodes of a type and version
#[derive(Debug, Serialize, ToSchema)]
struct VersionCount<'a> {
    #[schema(example = "effect")]
    node_type: &'a str,
    #[schema(example = "1.0.0")]
    node_version: &'a str,
    #[schema(minimum = 1, example = 48)]
    nodes: u64,
}

/// Nodes of a type and status
#[derive(Debug, Serialize, ToSchema)]
struct TypeStatusCount<'a> {
    #[schema(example = "effect")]
    node_type: &'a str,
    #[schema(value_type = StatusName)]
    status: &'static str,
    #[schema(minimum = 1, example = 60)]
    nodes: u64,
}

/// Nodes of each status
#[derive(Debug, Default, Serialize, ToSchema)]
struct StatusCounts {
    /// The last heartbeat is younger than the TTL
    #[schema(minimum = 0, example = 112)]
    healthy: u64,
    /// The last heartbeat is older than the TTL
    #[schema(minimum = 0, example = 1)]
    stale: u64,
    /// Never seen alive
    #[schema(minimum = 0, example = 2)]
    unknown: u64,
    /// Taken out of service on purpose
    #[schema(minimum = 0, example = 0)]
    maintenance: u64,
}

/// How many nodes are in entries that were left out of the lists
#[derive(Debug, Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "they are the names of the lists")]
struct NotListed {
    #[schema(minimum = 0, example = 0)]
    by_type: u64,
    #[schema(minimum = 0, example = 0)]
    by_type_and_version: u64,
    #[schema(minimum = 0, example = 0)]
    by_type_and_status: u64,
}

impl<'a> SummaryBody<'a> {
    fn new(summary: &'a Summary, watch: FleetWatch, revision: i64) -> Self {
        let by_type = &summary.by_type;
        let by_version = &summary.by_type_and_version;
        let by_status = &summary.by_type_and_status;
        Self {
            nodes: summary.nodes,
            by_type: by_type
                .entries
                .iter()
                .map(|(node_type, nodes)| TypeCount { node_type, nodes: *nodes })
                .collect(),
            by_type_and_version: by_version
                .entries
                .iter()
                .map(|((node_type, node_version), nodes)| VersionCount {
                    node_type,
                    node_version,
                    nodes: *nodes,
                })
                .collect(),
            by_status: StatusCounts::new(summary),
            by_type_and_status: by_status
                .entries
                .iter()
                .map(|((node_type, status), nodes)| TypeStatusCount {
                    node_type,
                    status: status.as_str(),
                    nodes: *nodes,
                })
                .collect(),
            not_listed: NotListed {
                by_type: by_type.not_listed,
                by_type_and_version: by_version.not_listed,
                by_type_and_status: by_status.not_listed,
            },
            self_preservation: SelfPreservationBody::new(watch),
            revision,
        }
    }
}

impl StatusCounts {
    fn new(summary: &Summary) -> Self {
        let mut counts = Self::default();
        for (status, nodes) in summary.by_status {
            match status {
                Status::Healthy => counts.healthy = nodes,
                Status::Stale => counts.stale = nodes,
                Status::Unknown => counts.unknown = nodes,
                Status::Maintenance => counts.maintenance = nodes,
            }
        }
        counts
    }
}

/// Count the nodes
///
/// By type, version and status, as discovery would find them.
#[utoipa::path(
    get, path = "/v1/summary", tag = "overview", operation_id = "summarize",
    responses(
        (status = 200, description = "How many nodes there are", body = SummaryBody, headers(("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 400, description = "The query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn summarize(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    QueryString::read(query.as_deref(), &[], &mut faults);
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    let seen = app.registry.summary().await?;
    let body = SummaryBody::new(&seen.value, app.registry.standing().watch, seen.revision.get());
    let mut response = (headers::of_a_read(seen.revision), Json(body)).into_response();
    headers::note_stale(response.headers_mut(), app.registry.stale(Freshness::default()));
    Ok(response)
}
