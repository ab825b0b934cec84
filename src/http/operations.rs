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
use crate::metrics::BreakerPhase;

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
    /// `ok`, or `degraded`: reads are answered from memory, writes may be refused
    #[schema(example = "ok")]
    status: &'static str,
    /// What is wrong, in words
    #[schema(example = json!([]))]
    problems: Vec<&'static str>,
    /// Whether calls of clients go to the database: `closed`, they do; `half_open`, one tries whether it is back; `open`,
    /// they are refused
    #[schema(example = "closed")]
    breaker: &'static str,
    /// For so long it has not been known whether the nodes in memory are those of the database; null while it is
    #[schema(required = true, minimum = 0)]
    stale_seconds: Option<u64>,
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
/// This replica knows the nodes, so it can answer reads. It says so as well while the database is away, for all replicas
/// would be taken out of service together: `status` is `degraded` then.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, description = "Requests can be served", body = ReadinessBody))
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let condition = app.registry.condition();
    let Some(revision) = condition.revision else { return Err(Problem::not_ready(&condition)) };
    let standing = app.registry.standing();
    let (is_away, is_stale) = (condition.breaker != BreakerPhase::Closed, condition.stale.is_some());
    let mut problems = Vec::new();
    if is_away {
        problems.push("the database can't be reached, or doesn't answer: writes are refused");
    }
    if is_stale {
        problems.push("it is not known what has changed in the database: reads are answered from memory");
    }
    let body = ReadinessBody {
        status: if problems.is_empty() { "ok" } else { "degraded" },
        problems,
        breaker: condition.breaker.as_str(),
        stale_seconds: condition.stale.map(|age| age.as_secs()),
        leader: standing.leads(),
        catalog: "loaded",
        revision: revision.get(),
        self_preservation: SelfPreservationBody::new(standing.watch),
    };
    Ok((NEVER_KEPT, Json(body)))
}
