//! Taking a node out of service on purpose, and putting it back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use utoipa::ToSchema;

use super::body::{JsonBody, MAX_BODY_BYTES};
use super::context::RequestContext;
use super::path::{ChangedId, PathId};
use super::problem::{Problem, ProblemBody};
use super::query_string::QueryString;
use super::record::{RecordBody, show};
use super::{App, conditional};
use crate::node::{Faults, Reason};
use crate::registry::MaintenanceWrite;

/// Why a node is out of service
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Maintenance, example = json!({"reason": "disk swap, back at noon"}))]
#[allow(dead_code, reason = "describes in the document what `Reason::read` reads")]
pub(super) struct MaintenanceBody {
    /// No control characters, and not white space alone
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$")]
    reason: String,
}

/// Take a node out of service
///
/// Its status is `maintenance` from now on, whatever its heartbeats and registrations are. Another reason replaces the
/// one before; the same again changes nothing.
#[utoipa::path(
    put, path = "/v1/nodes/{node_id}/maintenance", tag = "nodes", operation_id = "beginMaintenance",
    params(
        ("node_id" = String, Path, description = "Id of the node, percent-encoded", example = "node_artifact_change_detector_effect"),
        ("If-Match" = Option<String>, Header, description = "Only if the registration has this entity tag's revision"),
    ),
    request_body(content = MaintenanceBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The node, out of service", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"))),
        (status = 404, description = "No such node", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn begin(
    State(app): State<App>,
    ChangedId(id): ChangedId,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
    body: JsonBody<MAX_BODY_BYTES>,
) -> Result<Response, Problem> {
    let body = body.json()?;
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let reason = Reason::read(body, &mut faults);
    set(&app, id, reason, query.as_deref(), &context, &headers, faults).await
}

/// Put a node back into service
///
/// One that is in service stays in service.
#[utoipa::path(
    delete, path = "/v1/nodes/{node_id}/maintenance", tag = "nodes", operation_id = "endMaintenance",
    params(
        ("node_id" = String, Path, description = "Id of the node, percent-encoded", example = "node_artifact_change_detector_effect"),
        ("If-Match" = Option<String>, Header, description = "Only if the registration has this entity tag's revision"),
    ),
    responses(
        (status = 200, description = "The node, in service", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"))),
        (status = 400, description = "The path, query string or a header is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such node", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn end(
    State(app): State<App>,
    ChangedId(id): ChangedId,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let faults = Faults::at_most(Faults::OF_A_REQUEST);
    set(&app, id, None, query.as_deref(), &context, &headers, faults).await
}

async fn set(
    app: &App,
    id: PathId,
    reason: Option<Reason>,
    query: Option<&str>,
    context: &RequestContext,
    headers: &HeaderMap,
    mut faults: Faults,
) -> Result<Response, Problem> {
    QueryString::read(query, &[], &mut faults);
    let precondition = conditional::of_existing(headers, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    let node_id = id.key()?;
    let origin = context.origin_of_change(node_id.as_str())?;
    let write = MaintenanceWrite { node_id, reason, precondition, origin };
    let node = app.registry.set_maintenance(write).await?;
    Ok(show(StatusCode::OK, &node))
}
