//! What changes the nodes: registrations, deregistrations, heartbeats, maintenance. Each is a task of its own, which a
//! client that hangs up doesn't undo.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::rounds::Rounds;
use super::{Registry, RegistryError, count, reads, report};
use crate::metrics::Metrics;
use crate::node::{NodeKey, Shown, Status, Timestamp};
use crate::store::{
    self, DeregisterWrite, Deregistered, Heartbeat, IfHeld, Maintained, MaintenanceWrite, RegisterWrite,
    Store,
};

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

/// Counts what became of the items of a batch.
type Count<T> = fn(&Metrics, &[Result<T, RegistryError>]);

/// What a store does with the items of a round.
type Call<I, T> = for<'a> fn(&'a dyn Store, &'a [I]) -> BoxFuture<'a, Vec<Result<T, RegistryError>>>;

impl Registry {
    /// Registers one node (upsert).
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn register(&self, write: RegisterWrite) -> Result<Registered, RegistryError> {
        first(self.register_all(vec![write]).await)
    }

    /// Registers nodes, one result per item, in order. The same id twice is applied in that order.
    pub async fn register_all(&self, batch: Vec<RegisterWrite>) -> Vec<Result<Registered, RegistryError>> {
        let id_of = |write: &RegisterWrite| write.registration.node_id.key().clone();
        let registered = self
            .in_rounds(
                "register",
                batch,
                id_of,
                |store, items| Box::pin(async { store.register(items, IfHeld::Wait).await.results }),
                count::registrations,
            )
            .await;
        let show = |one: store::Registered| Registered {
            created: one.created,
            node: reads::show(&one.record, &one.horizon, self.ttl),
        };
        registered.into_iter().map(|result| result.map(show)).collect()
    }

    /// Removes one node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn deregister(&self, write: DeregisterWrite) -> Result<(), RegistryError> {
        first(self.deregister_all(vec![write]).await).map(drop)
    }

    /// Removes nodes, one result per item, in order.
    pub async fn deregister_all(
        &self,
        batch: Vec<DeregisterWrite>,
    ) -> Vec<Result<Deregistered, RegistryError>> {
        let id_of = |write: &DeregisterWrite| write.node_id.clone();
        self.in_rounds(
            "deregister",
            batch,
            id_of,
            |store, items| Box::pin(async { store.deregister(items, IfHeld::Wait).await.results }),
            count::deregistrations,
        )
        .await
    }

    /// Notes a sign of life of one node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn heartbeat(&self, id: NodeKey) -> Result<SignOfLife, RegistryError> {
        first(self.heartbeat_all(vec![id]).await)
    }

    /// Notes signs of life of nodes, one result per id, in order.
    pub async fn heartbeat_all(&self, ids: Vec<NodeKey>) -> Vec<Result<SignOfLife, RegistryError>> {
        let beaten = self
            .in_rounds(
                "heartbeat",
                ids,
                NodeKey::clone,
                |store, ids| store.heartbeat(ids, IfHeld::Wait),
                count::heartbeats,
            )
            .await;
        beaten.into_iter().map(|beat| beat.map(|beat| self.sign_of_life(beat))).collect()
    }

    /// Takes one node out of service, or puts it back. It stays as long as that, whatever its heartbeats and
    /// registrations are.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn set_maintenance(&self, write: MaintenanceWrite) -> Result<Shown, RegistryError> {
        let id_of = |write: &MaintenanceWrite| write.node_id.clone();
        first(
            self.in_rounds(
                "maintenance",
                vec![write],
                id_of,
                |store, items| Box::pin(async { store.set_maintenance(items, IfHeld::Wait).await.results }),
                |_, _| {},
            )
            .await,
        )
        .map(|node: Maintained| reads::show(&node.record, &node.horizon, self.ttl))
    }

    fn sign_of_life(&self, beat: Heartbeat) -> SignOfLife {
        let at = beat.horizon.at;
        SignOfLife {
            at,
            last_heartbeat: beat.life.last_heartbeat.unwrap_or(at),
            status: beat.life.status(&beat.horizon, self.ttl),
        }
    }

    /// A batch, in as many rounds as the id takes that it names most often.
    async fn in_rounds<I: Send + Sync + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        batch: Vec<I>,
        id_of: impl Fn(&I) -> NodeKey,
        call: Call<I, T>,
        count: Count<T>,
    ) -> Vec<Result<T, RegistryError>> {
        let store = Arc::clone(&self.store);
        // Counted by the task: what is written counts, even if nobody waits for it any more.
        let metrics = Arc::clone(&self.metrics);
        let length = batch.len();
        let mut rounds = Rounds::of(batch, id_of);
        let work = async move {
            while let Some(round) = rounds.next() {
                let results = call(&*store, &round.items).await;
                rounds.record(round, results);
            }
            let results = rounds.results();
            count(&metrics, &results);
            results
        };
        let results = self.watched(operation, self.writes.spawn(work)).await.unwrap_or_else(|error| {
            tracing::error!(operation, %error, "a write ended without an answer");
            (0..length).map(|_| Err(RegistryError::Interrupted)).collect()
        });
        report(operation, results.iter().filter_map(|result| result.as_ref().err()));
        results
    }
}

/// The result of a batch of one.
fn first<T>(mut results: Vec<Result<T, RegistryError>>) -> Result<T, RegistryError> {
    results.pop().unwrap_or(Err(RegistryError::Interrupted))
}
