//! One node: register, get, deregister.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa::{IntoParams, ToSchema};

use super::body::{JsonBody, MAX_BODY_BYTES};
use super::conditional::Known;
use super::consistency::ReadParameters;
use super::context::RequestContext;
use super::path::{ChangedId, PathId};
use super::problem::{Problem, ProblemBody};
use super::query_string::{Parameter, QueryString};
use super::record::{RecordBody, show};
use super::{App, conditional, consistency, headers};
use crate::node::fault::Path;
use crate::node::registration::IdFrom;
use crate::node::{Faults, NodeKey, Registration};
use crate::registry::{DeregisterWrite, RegisterWrite};

/// What a node registers with
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Registration, example = json!({
    "node_type": "effect",
    "node_version": "1.0.0",
    "capabilities": {
        "capabilities": ["pr_webhook_ingestion", "contract_file_watching"],
        "publishes": ["onex.evt.artifact.change-detected.v1"]
    },
    "endpoints": {"http": "http://127.0.0.1:20002", "grpc": "127.0.0.1:30002"},
    "metadata": {"tags": ["effect", "file-watcher"], "environment": "dev"},
    "health_endpoint": "http://127.0.0.1:20002/health",
    "ttl_seconds": 60
}))]
#[allow(dead_code, reason = "describes in the document what `Registration::read` reads")]
pub(super) struct RegistrationBody {
    /// The id. Where the path has it, it may be left out, else it must equal the path's
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$", nullable = false)]
    node_id: Option<String>,
    #[schema(inline)]
    node_type: NodeTypeName,
    /// Semantic version (`SemVer` 2.0)
    #[schema(max_length = 50, default = "1.0.0", nullable = false)]
    node_version: Option<String>,
    /// What the node can do. At most 64 KiB as compact JSON, and 32 levels deep
    #[schema(default = json!({}), required = false)]
    capabilities: BTreeMap<String, serde_json::Value>,
    /// Endpoint name to URL or `host:port`. At most 64 KiB as compact JSON
    #[schema(default = json!({}), required = false)]
    endpoints: BTreeMap<String, String>,
    /// Tags, labels, environment, region. At most 64 KiB as compact JSON, and 32 levels deep
    #[schema(default = json!({}), required = false)]
    metadata: BTreeMap<String, serde_json::Value>,
    /// URL of its health check: absolute, http or https, without user info
    #[schema(max_length = 512)]
    health_endpoint: Option<String>,
    /// How long the node counts as alive after a sign of life; null: the server's TTL
    #[schema(minimum = 1, maximum = 86400)]
    ttl_seconds: Option<i32>,
}

/// What a node registers with, its id included
#[derive(Debug, serde::Deserialize, ToSchema)]
#[schema(as = NamedRegistration)]
#[allow(dead_code, reason = "describes in the document what `Registration::read` reads")]
pub(super) struct NamedRegistrationBody {
    /// The id: no control characters, no white space at either end, not `.` or `..`
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$")]
    node_id: String,
    #[serde(flatten)]
    registration: RegistrationBody,
}

/// The four types of nodes
#[derive(Debug, serde::Deserialize, ToSchema)]
#[schema(as = NodeType, rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the values of `NodeType` in the document")]
pub(super) enum NodeTypeName {
    /// Talks to the world outside
    Effect,
    /// Computes, without side effects
    Compute,
    /// Folds events into state
    Reducer,
    /// Coordinates other nodes
    Orchestrator,
}

/// Parameters of a registration
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read_alive` reads")]
pub(super) struct RegisterParameters {
    /// Whether the registration counts as a heartbeat as well
    #[param(required = false, default = false)]
    alive: bool,
}

const REGISTER_PARAMETERS: [Parameter; 1] = [Parameter::once("alive")];

/// Register a node (upsert)
///
/// Idempotent: registering twice is registering once. Re-registration keeps `registered_at` and `last_heartbeat` and
/// sets `updated_at`. One that changes nothing is no new revision.
#[utoipa::path(
    put, path = "/v1/nodes/{node_id}", tag = "nodes", operation_id = "registerNode",
    params(
        ("node_id" = String, Path, description = "Id of the node, percent-encoded: 1 to 255 characters, no control characters, no white space at either end, not `.` or `..`", min_length = 1, max_length = 255, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$", example = "node_artifact_change_detector_effect"),
        RegisterParameters,
        ("If-Match" = Option<String>, Header, description = "Only if the registration has this entity tag's revision; `*`: only if the node is registered"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if the node is not registered"),
    ),
    request_body(content = RegistrationBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Registered", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"), ("Location" = String, description = "Path of the node"))),
        (status = 200, description = "Registered again", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"), ("Location" = String, description = "Path of the node"))),
        (status = 412, description = "The precondition does not hold", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn register(
    State(app): State<App>,
    ChangedId(PathId(id)): ChangedId,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
    body: JsonBody<MAX_BODY_BYTES>,
) -> Result<Response, Problem> {
    register_from(&app, IdFrom::Path(&id), query.as_deref(), &context, &headers, &body).await
}

/// Register a node (upsert), with its id in the body
#[utoipa::path(
    post, path = "/v1/nodes", tag = "nodes", operation_id = "registerNodeWithIdInBody",
    params(
        RegisterParameters,
        ("If-Match" = Option<String>, Header, description = "Only if the registration has this entity tag's revision; `*`: only if the node is registered"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if the node is not registered"),
    ),
    request_body(content = NamedRegistrationBody, content_type = "application/json", example = json!({
        "node_id": "node_auth_gate_compute",
        "node_type": "compute",
        "node_version": "0.1.1",
        "capabilities": {"capabilities": ["auth_gate.evaluate", "auth_gate.emergency_override"]},
        "endpoints": {"http": "http://127.0.0.1:20004", "grpc": "127.0.0.1:30004"},
        "metadata": {"tags": ["compute", "authorization"], "author": "OmniNode Team", "environment": "dev"}
    })),
    responses(
        (status = 201, description = "Registered", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"), ("Location" = String, description = "Path of the node"))),
        (status = 200, description = "Registered again", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"), ("Location" = String, description = "Path of the node"))),
        (status = 412, description = "The precondition does not hold", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn register_with_id_in_body(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
    body: JsonBody<MAX_BODY_BYTES>,
) -> Result<Response, Problem> {
    register_from(&app, IdFrom::Body, query.as_deref(), &context, &headers, &body).await
}

async fn register_from(
    app: &App,
    id: IdFrom<'_>,
    query: Option<&str>,
    context: &RequestContext,
    headers: &HeaderMap,
    body: &JsonBody<MAX_BODY_BYTES>,
) -> Result<Response, Problem> {
    let body = body.json()?;
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let alive = QueryString::read(query, &[&REGISTER_PARAMETERS], &mut faults).flag("alive", &mut faults);
    let precondition = conditional::of_registration(headers, &mut faults);
    let registration = match Registration::read(body, &Path::Root, id, &mut faults) {
        Some(registration) if faults.is_empty() => registration,
        _ => return Err(Problem::faults(faults)),
    };
    let origin = context.origin_of_change(registration.node_id.as_str())?;
    let write = RegisterWrite { registration, alive, precondition, origin };
    let registered = app.registry.register(write).await?;
    let code = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = show(code, &registered.node);
    response.headers_mut().insert(header::LOCATION, location(registered.node.record.node_id()));
    Ok(response)
}

/// Get a node
#[utoipa::path(
    get, path = "/v1/nodes/{node_id}", tag = "nodes", operation_id = "getNode",
    params(
        ("node_id" = String, Path, description = "Id of the node, percent-encoded", example = "node_artifact_change_detector_effect"),
        ReadParameters,
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if the node still has this entity tag"),
    ),
    responses(
        (status = 200, description = "The node", body = RecordBody, headers(("ETag" = String, description = "Strong entity tag, revision first"), ("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 304, description = "The node is as the client has it", headers(("ETag" = String, description = "Strong entity tag, revision first"), ("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 400, description = "The path or query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such node", body = ProblemBody, content_type = "application/problem+json", headers(("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    id: PathId,
    RawQuery(query): RawQuery,
    known: Known,
) -> Result<Response, Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let mut query = QueryString::read(query.as_deref(), &[&consistency::PARAMETERS], &mut faults);
    let freshness = consistency::read(&mut query, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    let seen = app.registry.get(&id.key()?, freshness).await?;
    let revision = headers::revision(seen.revision);
    let stale = app.registry.stale(freshness);
    let Some(node) = seen.value else {
        let mut problem = Problem::node_not_found().with_header(headers::REGISTRY_REVISION, revision);
        if let Some(age) = stale {
            problem = problem.with_header(headers::REGISTRY_STALE_SECONDS, age.as_secs().into());
        }
        return Err(problem);
    };
    let mut response = show(StatusCode::OK, &node);
    response.headers_mut().insert(headers::REGISTRY_REVISION, revision);
    headers::note_stale(response.headers_mut(), stale);
    Ok(known.or_not_modified(response))
}

/// Deregister a node
#[utoipa::path(
    delete, path = "/v1/nodes/{node_id}", tag = "nodes", operation_id = "deregisterNode",
    params(
        ("node_id" = String, Path, description = "Id of the node, percent-encoded", example = "node_artifact_change_detector_effect"),
        ("If-Match" = Option<String>, Header, description = "Only if the registration has this entity tag's revision"),
    ),
    responses(
        (status = 204, description = "Deregistered"),
        (status = 400, description = "The path, query string or a header is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such node", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn deregister(
    State(app): State<App>,
    ChangedId(id): ChangedId,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    QueryString::read(query.as_deref(), &[], &mut faults);
    let precondition = conditional::of_existing(&headers, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    let node_id = id.key()?;
    let origin = context.origin_of_change(node_id.as_str())?;
    let write = DeregisterWrite { node_id, precondition, origin };
    app.registry.deregister(write).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a path segment may hold unescaped (RFC 3986, section 3.3), without what some client or proxy might rewrite.
const UNESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn location(id: &NodeKey) -> HeaderValue {
    let path = format!("/v1/nodes/{}", utf8_percent_encode(id.as_str(), UNESCAPED));
    // Percent-encoded: this can't fail.
    HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/v1/nodes"))
}
