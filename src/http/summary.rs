//! How many nodes there are, and were.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemBody};
use super::query_string::QueryString;
use super::record::{ShownAt, StatusName};
use super::self_preservation::SelfPreservationBody;
use super::{App, headers};
use crate::node::{Faults, Revision, Status, Summary};
use crate::registry::Freshness;
use crate::registry::health::FleetWatch;
use crate::registry::history::{History, SAMPLE_EVERY, Sample};

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
            by_status: StatusCounts::new(&summary.by_status),
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
    fn new(by_status: &[(Status, u64)]) -> Self {
        let mut counts = Self::default();
        for &(status, nodes) in by_status {
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
    takes_nothing(query.as_deref())?;
    let seen = app.registry.summary().await?;
    let body = SummaryBody::new(&seen.value, app.registry.standing().watch, seen.revision.get());
    let mut response = (headers::of_a_read(seen.revision), Json(body)).into_response();
    headers::note_stale(response.headers_mut(), app.registry.stale(Freshness::default()));
    Ok(response)
}

/// How many nodes there were, once a minute of the last hour
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SummaryHistory)]
pub(super) struct HistoryBody {
    /// The instant of the first count since this replica started; null before it. What was before is not known, even if it
    /// lies within the last hour
    #[schema(required = true, value_type = Option<String>, example = "2026-07-01T12:00:00.000000Z")]
    since: Option<ShownAt>,
    /// The usual time between two counts. If more has passed, it was not known how the nodes were
    #[schema(minimum = 1, example = 60)]
    interval_seconds: u64,
    /// In the order of time, at most 61
    samples: Vec<SampleBody>,
}

/// How many nodes there were at an instant
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SummarySample)]
struct SampleBody {
    /// The instant at which they were judged, in the database's time. RFC 3339 in UTC with six decimals
    #[schema(value_type = String, example = "2026-07-01T12:00:00.000000Z")]
    at: ShownAt,
    /// All nodes
    #[schema(minimum = 0, example = 115)]
    nodes: u64,
    /// By status
    by_status: StatusCounts,
}

impl HistoryBody {
    fn new(history: &History) -> Self {
        Self {
            since: history.since.map(ShownAt),
            interval_seconds: SAMPLE_EVERY.as_secs(),
            samples: history.samples.iter().map(SampleBody::new).collect(),
        }
    }
}

impl SampleBody {
    fn new(sample: &Sample) -> Self {
        Self {
            at: ShownAt(sample.at),
            nodes: sample.by_status.iter().map(|(_, nodes)| nodes).sum(),
            by_status: StatusCounts::new(&sample.by_status),
        }
    }
}

/// How many nodes there were
///
/// Once a minute of the last hour, as this replica has counted them. It keeps that in memory: it is lost when it stops, and
/// another replica may have begun at another time. While the database is away, nothing is counted.
#[utoipa::path(
    get, path = "/v1/summary/history", tag = "overview", operation_id = "summarizeHistory",
    responses(
        (status = 200, description = "How many nodes there were", body = HistoryBody, headers(("Registry-Revision" = i64, description = "All changes up to this one are in the last count"))),
        (status = 400, description = "The query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn history(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    takes_nothing(query.as_deref())?;
    let history = app.registry.history();
    let revision = history.samples.back().map_or(Revision::ZERO, |sample| sample.revision);
    let mut response = (headers::of_a_read(revision), Json(HistoryBody::new(&history))).into_response();
    headers::note_stale(response.headers_mut(), app.registry.stale(Freshness::default()));
    Ok(response)
}

/// Refuses any parameter.
fn takes_nothing(query: Option<&str>) -> Result<(), Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    QueryString::read(query, &[], &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Problem::faults(faults)) }
}
