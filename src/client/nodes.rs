//! Calls on nodes: one, or a batch of them.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{ClientError, Problem};
use super::query::Query;
use super::{Call, Client, node_path};

/// A node as it was served, and its fields.
#[derive(Debug, Clone)]
pub struct Node {
    /// The JSON, byte for byte.
    pub raw: Box<RawValue>,
    /// What is in it.
    pub fields: NodeFields,
}

/// What is in a record. Times are texts: there are some that no calendar has.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "they are the columns of the record")]
pub struct NodeFields {
    pub node_id: String,
    pub node_type: String,
    pub node_version: String,
    pub capabilities: Box<RawValue>,
    pub endpoints: Box<RawValue>,
    pub metadata: Box<RawValue>,
    pub health_endpoint: Option<String>,
    pub last_heartbeat: Option<String>,
    pub registered_at: String,
    pub updated_at: String,
    pub ttl_seconds: Option<i64>,
    pub maintenance: Option<String>,
    pub status: String,
    pub revision: i64,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let fields = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { raw, fields })
    }
}

/// What a write is conditional on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The registration has this revision.
    Revision(i64),
    /// The node is registered.
    Registered,
    /// The node is not registered: create only.
    Absent,
}

impl Condition {
    fn set(self, headers: &mut HeaderMap) {
        let any = HeaderValue::from_static("*");
        match self {
            Self::None => {}
            // Only what stands before the dot is compared.
            Self::Revision(revision) => {
                let tag = HeaderValue::try_from(format!("\"{revision}.\"")).unwrap_or(any);
                headers.insert(header::IF_MATCH, tag);
            }
            Self::Registered => {
                headers.insert(header::IF_MATCH, any);
            }
            Self::Absent => {
                headers.insert(header::IF_NONE_MATCH, any);
            }
        }
    }
}

/// A registration that was taken.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Whether the node was not registered before.
    pub created: bool,
    /// Its record now.
    pub node: Node,
}

/// A heartbeat that was taken.
#[derive(Debug, Clone, Deserialize)]
pub struct Beat {
    /// Which node.
    pub node_id: String,
    /// When, in the database's time.
    pub last_heartbeat: String,
    /// Its status now.
    pub status: String,
}

/// Many heartbeats that were taken.
#[derive(Debug, Clone, Deserialize)]
pub struct Beats {
    /// When, in the database's time.
    pub last_heartbeat: String,
    /// How many.
    pub accepted: u64,
    /// Those that are not registered.
    pub unknown: Vec<String>,
}

/// What became of an item of a batch.
#[derive(Debug, Clone, Deserialize)]
pub struct RegistrationResult {
    /// Which item.
    pub index: usize,
    /// Its id, if it has a valid one.
    pub node_id: Option<String>,
    /// 201 new, 200 again, else the status of the problem.
    pub status: u16,
    /// The revision of the registration.
    pub revision: Option<i64>,
    /// What is wrong with it.
    pub problem: Option<Problem>,
}

#[derive(Deserialize)]
struct RegistrationResults {
    results: Vec<RegistrationResult>,
}

impl Client {
    /// `GET /v1/nodes/{node_id}`. `query`: `consistency`, `min_revision`.
    ///
    /// # Errors
    /// See [`ClientError`]; 404 if it is not registered.
    pub async fn node(&self, id: &str, query: &Query) -> Result<Node, ClientError> {
        self.read(Call::get(query.after(&node_path(id)))).await
    }

    /// `PUT /v1/nodes/{node_id}`. `registration` is a JSON object; `alive` counts as a heartbeat, too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn register(
        &self,
        id: &str,
        registration: String,
        alive: bool,
        condition: Condition,
    ) -> Result<Registered, ClientError> {
        let mut query = Query::new();
        if alive {
            query.add("alive", "true");
        }
        let mut call = Call::json(Method::PUT, query.after(&node_path(id)), registration);
        condition.set(&mut call.headers);
        let (status, body) = self.exchange(call).await?;
        Ok(Registered { created: status == StatusCode::CREATED, node: self.parse(&body)? })
    }

    /// `DELETE /v1/nodes/{node_id}`.
    ///
    /// # Errors
    /// See [`ClientError`]; 404 if it is not registered.
    pub async fn deregister(&self, id: &str, condition: Condition) -> Result<(), ClientError> {
        let mut call = Call::new(Method::DELETE, node_path(id));
        condition.set(&mut call.headers);
        self.exchange(call).await.map(|_| ())
    }

    /// `POST /v1/nodes/{node_id}/heartbeat`.
    ///
    /// # Errors
    /// See [`ClientError`]; 404: register it again.
    pub async fn heartbeat(&self, id: &str) -> Result<Beat, ClientError> {
        self.read(Call::new(Method::POST, format!("{}/heartbeat", node_path(id)))).await
    }

    /// `POST /v1/batch/nodes`: 1 to 1,000 JSON objects, each with its `node_id`. There is a result per item, in order.
    ///
    /// # Errors
    /// See [`ClientError`]: then it is not known what became of any.
    pub async fn register_batch<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n RawValue>,
    ) -> Result<Vec<RegistrationResult>, ClientError> {
        let mut body = String::from(r#"{"nodes":["#);
        let mut sent = 0;
        for node in nodes {
            if sent > 0 {
                body.push(',');
            }
            body.push_str(node.get());
            sent += 1;
        }
        body.push_str("]}");
        let answer: RegistrationResults =
            self.read(Call::json(Method::POST, "/v1/batch/nodes", body)).await?;
        let in_order = answer.results.iter().enumerate().all(|(index, result)| result.index == index);
        if answer.results.len() == sent && in_order {
            Ok(answer.results)
        } else {
            Err(self.not_a_registry("it answers for other items than it was sent".to_owned()))
        }
    }

    /// `POST /v1/batch/heartbeats`: 1 to 10,000 ids.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heartbeat_batch(&self, ids: &[String]) -> Result<Beats, ClientError> {
        let body = serde_json::json!({ "node_ids": ids }).to_string();
        self.read(Call::json(Method::POST, "/v1/batch/heartbeats", body)).await
    }
}
