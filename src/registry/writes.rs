//! What changes the nodes: registrations, deregistrations, heartbeats, maintenance. The writer does them, in batches.

use super::{Registry, RegistryError};
use crate::metrics::HeartbeatSource;
use crate::node::{NodeKey, Shown, Status, Timestamp};
use crate::store::{DeregisterWrite, Deregistered, MaintenanceWrite, RegisterWrite};

/// A registration that was written.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Whether the node was not registered before.
    pub created: bool,
    /// The node as it is now.
    pub node: Shown,
}

/// A sign of life that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignOfLife {
    /// When, in the database's time.
    pub at: Timestamp,
    /// The node's last sign of life: this one, unless a later one is known.
    pub last_heartbeat: Timestamp,
    /// The node's status with it.
    pub status: Status,
}

impl Registry {
    /// Registers one node (upsert).
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn register(&self, write: RegisterWrite) -> Result<Registered, RegistryError> {
        self.writer.register(write).await
    }

    /// Registers nodes, one result per item, in order. The same id twice is applied in that order.
    pub async fn register_all(&self, batch: Vec<RegisterWrite>) -> Vec<Result<Registered, RegistryError>> {
        self.writer.register_all(batch).await
    }

    /// Removes one node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn deregister(&self, write: DeregisterWrite) -> Result<(), RegistryError> {
        self.writer.deregister(write).await.map(drop)
    }

    /// Removes nodes, one result per item, in order.
    pub async fn deregister_all(
        &self,
        batch: Vec<DeregisterWrite>,
    ) -> Vec<Result<Deregistered, RegistryError>> {
        self.writer.deregister_all(batch).await
    }

    /// Notes a sign of life of one node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn heartbeat(&self, id: NodeKey) -> Result<SignOfLife, RegistryError> {
        self.writer.heartbeat(HeartbeatSource::Client, id).await
    }

    /// Notes signs of life of nodes, one result per id, in order.
    pub async fn heartbeat_all(&self, ids: Vec<NodeKey>) -> Vec<Result<SignOfLife, RegistryError>> {
        self.writer.heartbeat_all(HeartbeatSource::Client, ids).await
    }

    /// Takes one node out of service, or puts it back. It stays as long as that, whatever its heartbeats and
    /// registrations are.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn set_maintenance(&self, write: MaintenanceWrite) -> Result<Shown, RegistryError> {
        self.writer.set_maintenance(write).await
    }
}
