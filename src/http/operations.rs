//! For whoever runs the server.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;
use super::self_preservation::SelfPreservationBody;

/// How the server is
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthBody {
    /// `ok`
    #[schema(example = "ok")]
    status: &'static str,
}

/// How the server is now says nothing about later.
const NEVER_KEPT: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

const OK: HealthBody = HealthBody { status: "ok" };

/// Whether the process is alive
///
/// Asks nothing of anybody: restarting the server would not help a database that is away.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "livez",
    responses((status = 200, description = "The process is alive", body = HealthBody))
)]
pub(super) async fn livez() -> impl IntoResponse {
    (NEVER_KEPT, Json(OK))
}

/// Whether requests can be served, and what is unusual
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Readiness)]
pub(super) struct ReadinessBody {
    /// `ok`
    #[schema(example = "ok")]
    status: &'static str,
    /// Whether this replica looks after the fleet for all: probes, tells who turned stale, removes the expired
    leader: bool,
    /// `loaded`: the nodes are in memory. Before that, requests are not served yet
    #[schema(example = "loaded")]
    catalog: &'static str,
    /// All changes up to this one are in memory
    #[schema(minimum = 0, example = 115)]
    revision: i64,
    /// As the replica that looks after the fleet has last written it down
    self_preservation: SelfPreservationBody,
}

/// Whether requests can be served
///
/// The database answers, and this replica has read the nodes.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, description = "Requests can be served", body = ReadinessBody))
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let revision = app.registry.ready().await?;
    let standing = app.registry.standing();
    let body = ReadinessBody {
        status: "ok",
        leader: standing.leads(),
        catalog: "loaded",
        revision: revision.get(),
        self_preservation: SelfPreservationBody::new(standing.watch),
    };
    Ok((NEVER_KEPT, Json(body)))
}
