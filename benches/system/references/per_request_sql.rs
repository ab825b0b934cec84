//! The server as it would be without a writer queue: each request is a transaction of its own, by the same store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use onex_registry::node::registration::IdFrom;
use onex_registry::node::{
    Actor, Faults, NodeKey, NodeRecord, Origin, Precondition, Registration, Ttl, fault,
};
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{Heartbeat, IfHeld, RegisterWrite, Registered, Store as _, StoreError};
use serde_json::json;
use serde_json::value::RawValue;

/// The server's default.
const CONNECTIONS: u32 = 10;

type Shared = State<Arc<PostgresStore>>;

pub(super) async fn router(database: &str) -> anyhow::Result<Router> {
    let ttl = Ttl::from(Duration::from_hours(24));
    let store = PostgresStore::connect(database, CONNECTIONS, ttl).await?;
    Ok(Router::new()
        .route("/v1/nodes/{node_id}", put(register))
        .route("/v1/nodes/{node_id}/heartbeat", post(heartbeat))
        .with_state(Arc::new(store)))
}

/// What went wrong, as far as a benchmark wants to know.
struct Failed(String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0).into_response()
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

async fn register(State(store): Shared, Path(id): Path<String>, body: Bytes) -> Result<Response, Failed> {
    let registration = read(&id, &body).ok_or_else(|| Failed("not a registration".to_owned()))?;
    let origin = Origin { actor: Actor::anonymous(), correlation_id: None };
    let write = RegisterWrite { registration, alive: false, precondition: Precondition::None, origin };
    let Registered { created, record, .. } = register_one(store, write).await?;
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    let etag = format!("\"{}\"", record.revision);
    Ok((code, [(header::ETAG, etag)], Json(shown(&record))).into_response())
}

async fn heartbeat(State(store): Shared, Path(id): Path<String>) -> Result<Response, Failed> {
    let id = NodeKey::new(id).ok_or_else(|| Failed("not an id".to_owned()))?;
    let beat = heartbeat_one(store, id.clone()).await?;
    let at = beat.life.last_heartbeat.map(|at| at.to_string());
    Ok(Json(json!({ "node_id": id.as_str(), "last_heartbeat": at, "status": "healthy" })).into_response())
}

fn read(id: &str, body: &[u8]) -> Option<Registration> {
    let body: &RawValue = serde_json::from_slice(body).ok()?;
    Registration::read(body, &fault::Path::Root, IdFrom::Path(id), &mut Faults::at_most(1))
}

/// A batch of one. As in the server, it goes on if the client hangs up.
async fn register_one(store: Arc<PostgresStore>, write: RegisterWrite) -> Result<Registered, Failed> {
    let written = tokio::spawn(async move { store.register(&[write], IfHeld::Wait).await }).await;
    only(written.map_err(|panicked| Failed(panicked.to_string()))?.results)
}

/// A batch of one, likewise.
async fn heartbeat_one(store: Arc<PostgresStore>, id: NodeKey) -> Result<Heartbeat, Failed> {
    let noted = tokio::spawn(async move { store.heartbeat(&[id], IfHeld::Wait).await }).await;
    only(noted.map_err(|panicked| Failed(panicked.to_string()))?)
}

fn only<T>(results: Vec<Result<T, StoreError>>) -> Result<T, Failed> {
    let result = results.into_iter().next().context("no result").map_err(|none| Failed(none.to_string()))?;
    Ok(result?)
}

/// A record as the server shows it.
fn shown(record: &NodeRecord) -> impl serde::Serialize + use<'_> {
    #[derive(serde::Serialize)]
    struct Shown<'a, J> {
        node_id: &'a str,
        node_type: &'a str,
        node_version: &'a str,
        capabilities: &'a J,
        endpoints: &'a J,
        metadata: &'a J,
        health_endpoint: Option<&'a str>,
        last_heartbeat: Option<String>,
        registered_at: String,
        updated_at: String,
        ttl_seconds: Option<i64>,
        maintenance: Option<&'a str>,
        status: &'a str,
        revision: i64,
    }
    Shown {
        node_id: record.node_id.as_str(),
        node_type: &record.node_type,
        node_version: &record.node_version,
        capabilities: &record.capabilities,
        endpoints: &record.endpoints,
        metadata: &record.metadata,
        health_endpoint: record.health_endpoint.as_deref(),
        last_heartbeat: record.last_heartbeat.map(|at| at.to_string()),
        registered_at: record.registered_at.to_string(),
        updated_at: record.updated_at.to_string(),
        ttl_seconds: record.ttl_seconds,
        maintenance: record.maintenance.as_deref(),
        status: "healthy",
        revision: record.revision.get(),
    }
}
