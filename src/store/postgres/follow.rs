//! How a replica keeps up with the table.

use super::PostgresStore;
use crate::node::{Event, NodeKey, NodeRecord};
use crate::store::health::ReplicaId;
use crate::store::{Digest, Followed, Hints, Loaded, Position, Seen, StoreError, Unrecorded};

pub(super) async fn load(
    _store: &PostgresStore,
    _take: &mut (dyn FnMut(NodeRecord) + Send),
) -> Result<Loaded, StoreError> {
    Err(StoreError::Interrupted)
}

pub(super) async fn follow(_store: &PostgresStore, _position: &Position) -> Result<Followed, StoreError> {
    Err(StoreError::Interrupted)
}

pub(super) async fn hints(_store: &PostgresStore) -> Result<Option<Box<dyn Hints>>, StoreError> {
    Err(StoreError::Interrupted)
}

pub(super) async fn digests(
    _store: &PostgresStore,
    _take: &mut (dyn FnMut(NodeKey, Digest) + Send),
) -> Result<Seen<()>, StoreError> {
    Err(StoreError::Interrupted)
}

pub(super) async fn records(
    _store: &PostgresStore,
    _ids: &[NodeKey],
) -> Result<Seen<Vec<NodeRecord>>, StoreError> {
    Err(StoreError::Interrupted)
}

pub(super) async fn repair(
    _store: &PostgresStore,
    _leader: &ReplicaId,
    _changed: &[Unrecorded],
) -> Result<Option<Vec<Event>>, StoreError> {
    Err(StoreError::Interrupted)
}
