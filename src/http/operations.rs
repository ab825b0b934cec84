//! For whoever runs the server.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;

/// How the server is
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthBody {
    /// `ok`
    #[schema(example = "ok")]
    status: &'static str,
}

const OK: HealthBody = HealthBody { status: "ok" };

/// Whether the process is alive
///
/// Asks nothing of anybody: restarting the server would not help a database that is away.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "livez",
    responses((status = 200, description = "The process is alive", body = HealthBody))
)]
pub(super) async fn livez() -> Json<HealthBody> {
    Json(OK)
}

/// Whether requests can be served
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, description = "Requests can be served", body = HealthBody))
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<Json<HealthBody>, Problem> {
    app.registry.ready().await?;
    Ok(Json(OK))
}
