//! Many nodes in one request.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::App;
use super::body::{JsonBody, MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES};
use super::context::RequestContext;
use super::items::{Outcomes, list, no_parameters, read_ids, read_large};
use super::nodes::NamedRegistrationBody;
use super::problem::{Problem, ProblemBody};
use crate::node::fault::Path;
use crate::node::json::fields;
use crate::node::registration::IdFrom;
use crate::node::{Faults, NodeId, NodeKey, Precondition, Registration};
use crate::registry::{DeregisterWrite, RegisterWrite, Registered, RegistryError};

/// The most items in a batch of registrations or deregistrations.
const MAX_ITEMS: usize = 1_000;

/// Nodes to register
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RegistrationBatch)]
#[allow(dead_code, reason = "describes in the document what `read_nodes` reads")]
pub(super) struct RegistrationBatchBody {
    /// 1 to 1,000 registrations, each with its `node_id`
    #[schema(min_items = 1, max_items = 1000)]
    nodes: Vec<NamedRegistrationBody>,
}

/// What became of each item
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RegistrationResults)]
pub(super) struct RegistrationResultsBody {
    /// One result per item, in order
    results: Vec<RegistrationResultBody>,
}

/// What became of an item
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RegistrationResult)]
struct RegistrationResultBody {
    /// Which item
    #[schema(minimum = 0)]
    index: usize,
    /// Its id, if it has a valid one
    #[schema(required = true, example = "node_auth_gate_compute")]
    node_id: Option<String>,
    /// What it would have been answered alone: 201 new, 200 again, else the status of the problem
    #[schema(example = 201)]
    status: u16,
    /// The revision of its registration
    #[schema(required = true, minimum = 0, example = 42)]
    revision: Option<i64>,
    /// What is wrong with it
    #[schema(required = true)]
    problem: Option<ProblemBody>,
}

/// Register many nodes
///
/// A bad item harms no other, and one that the key doesn't cover is a bad item. The same id twice is applied in order. Too many items or none: nothing is stored.
#[utoipa::path(
    post, path = "/v1/batch/nodes", tag = "fleets", operation_id = "registerNodes",
    request_body(content = RegistrationBatchBody, content_type = "application/json", example = json!({"nodes": [
        {
            "node_id": "node_baseline_capture",
            "node_type": "effect",
            "node_version": "1.0.0",
            "capabilities": {"publishes": ["onex.evt.omnibase-infra.baselines-computed.v1"]},
            "endpoints": {"http": "http://127.0.0.1:20005", "grpc": "127.0.0.1:30005"},
            "metadata": {"environment": "dev"},
            "health_endpoint": "http://127.0.0.1:20005/health"
        },
        {
            "node_id": "node_auth_gate_compute",
            "node_type": "compute",
            "node_version": "0.1.1",
            "capabilities": {"capabilities": ["auth_gate.evaluate", "auth_gate.emergency_override"]},
            "endpoints": {"http": "http://127.0.0.1:20004", "grpc": "127.0.0.1:30004"},
            "metadata": {"tags": ["compute", "authorization"], "environment": "dev"}
        }
    ]})),
    responses((status = 200, description = "What became of each item", body = RegistrationResultsBody))
)]
pub(super) async fn register(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    body: JsonBody<MAX_BATCH_BODY_BYTES>,
) -> Result<Response, Problem> {
    no_parameters(query.as_deref())?;
    let mut items = read_large(body, read_nodes).await?;
    let mut writes = Vec::with_capacity(items.len());
    for item in &mut items {
        let Ok(registration) = item else { continue };
        match context.origin_of_change(registration.node_id.as_str()) {
            Ok(origin) => writes.push(RegisterWrite {
                registration: registration.clone(),
                alive: false,
                precondition: Precondition::None,
                origin,
            }),
            Err(problem) => {
                let node_id = Some(registration.node_id.as_str().to_owned());
                *item = Err(BadItem { node_id, problem });
            }
        }
    }
    let outcomes = app.registry.register_all(writes).await;
    if let Some(error) = refused_as_a_whole(&outcomes) {
        return Err(Problem::from(error.clone()));
    }
    let mut outcomes = outcomes.into_iter();
    let results = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let (node_id, outcome) = match item {
                Ok(registration) => {
                    let outcome =
                        outcomes.next().unwrap_or(Err(RegistryError::Interrupted)).map_err(Problem::from);
                    (Some(registration.node_id.as_str().to_owned()), outcome)
                }
                Err(BadItem { node_id, problem }) => (node_id, Err(problem)),
            };
            result(index, node_id, outcome, context.correlation_id())
        })
        .collect();
    Ok(Json(RegistrationResultsBody { results }).into_response())
}

/// Why nothing of a batch is known to be written, if that is for a reason that has nothing to do with what is in it: then
/// it is the request that failed, and is to be sent again. There may be items that break a rule besides; they are told the next
/// time.
fn refused_as_a_whole(outcomes: &[Result<Registered, RegistryError>]) -> Option<&RegistryError> {
    let is_for_now = |outcome: &Result<_, _>| {
        use RegistryError::{Away, Busy, Silent, Unavailable};
        matches!(outcome, Err(Away | Busy | Silent | Unavailable(_)))
    };
    let first = outcomes.first()?.as_ref().err()?;
    outcomes.iter().all(is_for_now).then_some(first)
}

fn result(
    index: usize,
    node_id: Option<String>,
    outcome: Result<Registered, Problem>,
    correlation_id: &str,
) -> RegistrationResultBody {
    match outcome {
        Ok(registered) => RegistrationResultBody {
            index,
            node_id,
            status: if registered.created { 201 } else { 200 },
            revision: Some(registered.node.record.revision().get()),
            problem: None,
        },
        Err(problem) => RegistrationResultBody {
            index,
            node_id,
            status: problem.status().as_u16(),
            revision: None,
            problem: Some(problem.body(correlation_id)),
        },
    }
}

/// An item that breaks a rule, or that the client may not register.
struct BadItem {
    node_id: Option<String>,
    problem: Problem,
}

/// Reads the items, each for itself. What is wrong with the batch is a problem of all of it.
fn read_nodes(body: &JsonBody<MAX_BATCH_BODY_BYTES>) -> Result<Vec<Result<Registration, BadItem>>, Problem> {
    let found = list(body.json()?, "nodes", MAX_ITEMS)?;
    let read_one = |item: &&RawValue| {
        let mut faults = Faults::at_most(Faults::OF_AN_ITEM);
        Registration::read(item, &Path::Root, IdFrom::Body, &mut faults)
            .ok_or_else(|| BadItem { node_id: id_of(item), problem: Problem::faults(faults) })
    };
    Ok(found.items.iter().map(read_one).collect())
}

/// The id of an item that something else is wrong with.
fn id_of(item: &RawValue) -> Option<String> {
    let mut ignored = Faults::at_most(0);
    let given = fields(item.get(), &Path::Root, &mut ignored)?;
    let (_, value) = given.into_iter().find(|(name, _)| name == "node_id")?;
    // What is no string, or a string with a lone surrogate, is no id.
    let id: String = serde_json::from_str(value.get()).ok()?;
    NodeId::parse(&id).ok().map(|_| id)
}

/// Nodes to deregister
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeregistrationBatch, example = json!({
    "node_ids": ["node_baseline_capture", "node_auth_gate_compute"]
}))]
#[allow(dead_code, reason = "describes in the document what `read_ids` reads")]
pub(super) struct DeregistrationBatchBody {
    /// 1 to 1,000 ids
    #[schema(min_items = 1, max_items = 1000)]
    node_ids: Vec<String>,
}

/// What became of the nodes
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeregistrationResults)]
pub(super) struct DeregistrationResultsBody {
    /// How many were deregistered
    #[schema(minimum = 0, example = 2)]
    deregistered: usize,
    /// Ids that were not registered
    unknown: Vec<String>,
}

/// Deregister many nodes
///
/// If the key doesn't cover one of them, nothing is done.
#[utoipa::path(
    post, path = "/v1/batch/deregister", tag = "fleets", operation_id = "deregisterNodes",
    request_body(content = DeregistrationBatchBody, content_type = "application/json"),
    responses((status = 200, description = "What became of the nodes", body = DeregistrationResultsBody))
)]
pub(super) async fn deregister(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    body: JsonBody<MAX_BODY_BYTES>,
) -> Result<Response, Problem> {
    no_parameters(query.as_deref())?;
    let ids = read_ids(body.json()?, MAX_ITEMS, context.authority())?;
    let write = |node_id: &NodeKey| {
        let origin = context.origin_of_change(node_id.as_str())?;
        Ok(DeregisterWrite { node_id: node_id.clone(), precondition: Precondition::None, origin })
    };
    let writes = ids.values().flatten().map(write).collect::<Result<_, Problem>>()?;
    let outcomes = app.registry.deregister_all(writes).await;
    let Outcomes { done, unknown } = Outcomes::of(ids, outcomes)?;
    Ok(Json(DeregistrationResultsBody { deregistered: done.len(), unknown }).into_response())
}
