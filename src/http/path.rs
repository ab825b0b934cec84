//! The id in a path.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::context::RequestContext;
use super::problem::Problem;
use super::query_string::is_percent_encoded;
use crate::node::NodeKey;

/// The name of the path's parameter.
pub(super) const NODE_ID: &str = "node_id";

/// The id in the path, percent-decoded, whatever it is.
pub(super) struct PathId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // A row may have the empty id. No other segment of a route is empty.
        if parts.uri.path().ends_with('/') || parts.uri.path().contains("//") {
            return Ok(Self(String::new()));
        }
        if !is_percent_encoded(parts.uri.path()) {
            return Err(Problem::undecodable_path());
        }
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::undecodable_path()),
        }
    }
}

/// The id in the path of a request that changes the node. Who may not change it is refused before the body is read.
pub(super) struct ChangedId(pub(super) PathId);

impl<S: Send + Sync> FromRequestParts<S> for ChangedId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = PathId::from_request_parts(parts, state).await?;
        let context = parts.extensions.get::<Arc<RequestContext>>().ok_or_else(Problem::internal)?;
        context.authority().to_change(&id.0)?;
        Ok(Self(id))
    }
}

impl PathId {
    /// The id as one that may be in the table. One that can't be is not found.
    pub(super) fn key(self) -> Result<NodeKey, Problem> {
        NodeKey::new(self.0).ok_or_else(Problem::node_not_found)
    }
}
