//! What the PostgreSQL store tells of its own batches, to those who keep up with the table.

mod alone;
mod failing;
mod recorded;
mod sessions;
mod signs;
mod silence;

use onex_registry::node::Faults;
use onex_registry::node::fault::Path;
use onex_registry::node::{
    Actor, JsonObject, NodeId, NodeKey, NodeType, NodeVersion, Origin, Precondition, Registration, Ttl,
};
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{DeregisterWrite, RegisterWrite};
use serde_json::Value;

use crate::harness::TestDatabase;

/// A store on a database that is ready, as one replica has it.
async fn open(database: &TestDatabase) -> PostgresStore {
    let store = PostgresStore::connect(&database.url(), 10, Ttl::from_seconds(90)).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn object(value: &Value) -> JsonObject {
    let raw = serde_json::value::to_raw_value(value).unwrap();
    JsonObject::read(&raw, &Path::Root, &mut Faults::at_most(1)).unwrap()
}

fn origin(correlation_id: &str) -> Origin {
    Origin { actor: Actor::anonymous(), correlation_id: Some(correlation_id.to_owned()) }
}

/// A registration with some metadata, of the request `request`.
fn register(id: &str, metadata: &Value) -> RegisterWrite {
    RegisterWrite {
        registration: Registration {
            node_id: NodeId::parse(id).unwrap(),
            node_type: NodeType::Effect,
            node_version: NodeVersion::default(),
            capabilities: JsonObject::empty(),
            endpoints: JsonObject::empty(),
            metadata: object(metadata),
            health_endpoint: None,
            ttl_seconds: None,
        },
        alive: false,
        precondition: Precondition::None,
        origin: origin("request"),
    }
}

fn deregister(id: &str) -> DeregisterWrite {
    DeregisterWrite { node_id: key(id), precondition: Precondition::None, origin: origin("request") }
}

fn key(id: &str) -> NodeKey {
    NodeKey::new(id).unwrap()
}
