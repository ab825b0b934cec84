//! Signs of life: of one node, and of many in one request.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::body::{JsonBody, MAX_BATCH_BODY_BYTES};
use super::context::RequestContext;
use super::items::{Outcomes, no_parameters, read_ids, read_large};
use super::path::ChangedId;
use super::problem::{Problem, ProblemBody};
use super::record::{ShownAt, StatusName};
use crate::registry::{RegistryError, SignOfLife};

/// The most ids in a batch of heartbeats.
const MAX_HEARTBEATS: usize = 10_000;

/// A sign of life that was noted
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Heartbeat)]
pub(super) struct HeartbeatBody<'a> {
    /// The node
    #[schema(example = "node_registration_orchestrator")]
    node_id: &'a str,
    /// Its last sign of life, in the database's time
    #[schema(value_type = String, example = "2026-07-01T12:00:00.000000Z")]
    last_heartbeat: ShownAt,
    /// healthy, unless the node is in maintenance
    #[schema(value_type = StatusName)]
    status: &'static str,
}

/// Tell that a node is alive
///
/// It takes no body, and doesn't read one. A heartbeat sets `last_heartbeat` and nothing else: it is no new revision
/// and no event, and doesn't end a maintenance.
#[utoipa::path(
    post, path = "/v1/nodes/{node_id}/heartbeat", tag = "nodes", operation_id = "heartbeat",
    params(("node_id" = String, Path, description = "Id of the node, percent-encoded", example = "node_artifact_change_detector_effect")),
    responses(
        (status = 200, description = "Noted", body = HeartbeatBody),
        (status = 400, description = "The path or query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such node: it has to register again", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn heartbeat(
    State(app): State<App>,
    ChangedId(id): ChangedId,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    no_parameters(query.as_deref())?;
    let id = id.key()?;
    let beat = app.registry.heartbeat(id.clone()).await.map_err(|error| match error {
        RegistryError::NotFound => Problem::register_again(),
        error => error.into(),
    })?;
    let body = HeartbeatBody {
        node_id: id.as_str(),
        last_heartbeat: ShownAt(beat.last_heartbeat),
        status: beat.status.as_str(),
    };
    Ok(Json(body).into_response())
}

/// Nodes that are alive
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HeartbeatBatch, example = json!({"node_ids": ["node_baseline_capture", "node_auth_gate_compute"]}))]
#[allow(dead_code, reason = "describes in the document what `read_ids` reads")]
pub(super) struct HeartbeatBatchBody {
    /// 1 to 10,000 ids
    #[schema(min_items = 1, max_items = 10000)]
    node_ids: Vec<String>,
}

/// What became of the heartbeats
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeartbeatResults)]
pub(super) struct HeartbeatResultsBody {
    /// When they were noted, in the database's time; null if none was
    #[schema(required = true, value_type = Option<String>, example = "2026-07-01T12:00:00.000000Z")]
    last_heartbeat: Option<ShownAt>,
    /// How many nodes are alive thereby
    #[schema(minimum = 0, example = 2)]
    accepted: usize,
    /// Ids that are not registered: those nodes have to register again
    unknown: Vec<String>,
}

/// Tell that many nodes are alive
///
/// One that names an id twice names it once. If the key doesn't cover one of them, nothing is done.
#[utoipa::path(
    post, path = "/v1/batch/heartbeats", tag = "fleets", operation_id = "heartbeats",
    request_body(content = HeartbeatBatchBody, content_type = "application/json"),
    responses((status = 200, description = "What became of the heartbeats", body = HeartbeatResultsBody))
)]
pub(super) async fn heartbeats(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    body: JsonBody<MAX_BATCH_BODY_BYTES>,
) -> Result<Response, Problem> {
    no_parameters(query.as_deref())?;
    let ids =
        read_large(body, move |body| read_ids(body.json()?, MAX_HEARTBEATS, context.authority())).await?;
    let beats = app.registry.heartbeat_all(ids.values().flatten().cloned().collect()).await;
    let Outcomes { done, unknown } = Outcomes::of(ids, beats)?;
    let body = HeartbeatResultsBody {
        // A batch that was held up in part was noted at several times. All were alive at the first.
        last_heartbeat: done.iter().map(|SignOfLife { at, .. }| ShownAt(*at)).min(),
        accepted: done.len(),
        unknown,
    };
    Ok(Json(body).into_response())
}
