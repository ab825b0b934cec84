//! A node as it is shown.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{conditional, headers};
use crate::node::{JsonText, Shown, Timestamp};

/// A registered node. Fields are the columns of the table and what is derived from them
#[derive(Debug, ToSchema)]
#[schema(as = NodeRecord)]
#[allow(dead_code, reason = "describes in the document what `ShownRecord` writes")]
pub(super) struct RecordBody<'a> {
    /// Unique id
    #[schema(max_length = 255, example = "node_registration_orchestrator")]
    node_id: &'a str,
    /// effect, compute, reducer or orchestrator; a row that a foreign writer left may say something else
    #[schema(example = "orchestrator")]
    node_type: &'a str,
    /// Semantic version; a row that a foreign writer left may say something else
    #[schema(example = "1.0.0")]
    node_version: &'a str,
    /// What the node can do: an object, unless a foreign writer left something else
    #[schema(value_type = Value, example = json!({"capabilities": ["registration"]}))]
    capabilities: &'a JsonText,
    /// Endpoint name to URL or `host:port`
    #[schema(value_type = Value, example = json!({"grpc": "localhost:50051"}))]
    endpoints: &'a JsonText,
    /// Tags, labels, environment, region
    #[schema(value_type = Value, example = json!({"environment": "dev"}))]
    metadata: &'a JsonText,
    /// URL of its health check
    #[schema(required = true, example = "http://127.0.0.1:20003/health")]
    health_endpoint: Option<&'a str>,
    /// Last sign of life; null if never. What only a foreign writer can leave is said as
    /// PostgreSQL says it: `infinity`
    #[schema(required = true, value_type = Option<String>, example = "2026-07-01T12:00:00.000000Z")]
    last_heartbeat: Option<ShownAt>,
    /// First registration; re-registration keeps it. RFC 3339 in UTC with six decimals
    #[schema(value_type = String, example = "2026-07-01T12:00:00.000000Z")]
    registered_at: ShownAt,
    /// Last registration
    #[schema(value_type = String, example = "2026-07-01T12:00:00.000000Z")]
    updated_at: ShownAt,
    /// TTL of the node; null: the server's
    #[schema(required = true, example = 60)]
    ttl_seconds: Option<i64>,
    /// Why the node is out of service; null if it is in service
    #[schema(required = true)]
    maintenance: Option<&'a str>,
    /// healthy, stale, unknown or maintenance; derived from the last heartbeat and the TTL
    #[schema(value_type = StatusName)]
    status: &'static str,
    /// The number of the change that last changed the registration
    #[schema(minimum = 0, example = 42)]
    revision: i64,
}

/// What is known of a node's life
#[derive(Debug, ToSchema)]
#[schema(as = NodeStatus, rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the values of `Status` in the document")]
pub(super) enum StatusName {
    /// The last heartbeat is younger than the TTL
    Healthy,
    /// The last heartbeat is older than the TTL
    Stale,
    /// Never seen alive
    Unknown,
    /// Taken out of service on purpose
    Maintenance,
}

/// An instant as it is shown.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShownAt(pub(super) Timestamp);

impl Serialize for ShownAt {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A record as the answer to a call, with its entity tag.
pub(super) fn show(code: StatusCode, node: &Shown) -> Response {
    let mut body = Vec::with_capacity(node.record.len());
    node.write(&mut body);
    let tag = conditional::record_tag(node.record.revision(), &body);
    headers::tagged_json(code, tag, body)
}
