//! What reads nodes: from the catalog, or from the store for those that want the database's own answer, and as long as
//! the catalog is not loaded.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::catalog::{Edition, Fleet, Found};
use super::{Registry, RegistryError};
use crate::node::{
    DiscoveryQuery, EventQuery, Horizon, Moment, NodeKey, NodeRecord, Revision, Shown, ShownRecord, Summary,
    Ttl,
};
use crate::store::{EventPage, Seen};

/// How fresh a read has to be. Without anything said: as this replica knows it, which is all of its own writes, and of
/// others' what it has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// As the database has it now.
    pub strong: bool,
    /// With this change, at the least. It is waited for a little.
    pub at_least: Revision,
}

/// So many nodes are stepped over where other requests wait: a fraction of a millisecond. What takes longer has a thread
/// of its own.
const QUICK_STEPS: u64 = 20_000;

/// For so long a read waits for a revision.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the database is asked again for a revision that it didn't have.
const PAUSE: Duration = Duration::from_millis(100);

/// A page of nodes.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The nodes, in the order of their ids.
    pub nodes: Vec<Shown>,
    /// Whether more follow.
    pub more: bool,
}

impl Registry {
    /// What answers from memory are made of now, see [`Catalog::edition`](super::catalog::Catalog::edition).
    #[must_use]
    pub fn edition(&self) -> Option<Edition> {
        self.catalog.edition()
    }

    /// One node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn get(
        &self,
        id: &NodeKey,
        freshness: Freshness,
    ) -> Result<Seen<Option<Shown>>, RegistryError> {
        let seen = loop {
            if let Some(fleet) = self.fleet(freshness).await? {
                let horizon = *fleet.horizon();
                let value = fleet.get(id).map(|node| fleet.show(node));
                return Ok(Seen { value, revision: fleet.revision(), horizon });
            }
            if let Some(seen) = self.ask_store("get", freshness, || self.store.get(id)).await? {
                break seen;
            }
        };
        let value = seen.value.map(|record| show(&record, &seen.horizon, self.ttl));
        Ok(Seen { value, revision: seen.revision, horizon: seen.horizon })
    }

    /// One page of nodes.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn discover(
        &self,
        query: &DiscoveryQuery,
        freshness: Freshness,
    ) -> Result<Seen<Listing>, RegistryError> {
        let seen = loop {
            if let Some(fleet) = self.fleet(freshness).await? {
                let Found { nodes, more } = self.page(&fleet, query).await?;
                let (revision, horizon) = (fleet.revision(), *fleet.horizon());
                return Ok(Seen { value: Listing { nodes, more }, revision, horizon });
            }
            if let Some(seen) = self.ask_store("discover", freshness, || self.store.discover(query)).await? {
                break seen;
            }
        };
        let nodes = seen.value.records.iter().map(|record| show(record, &seen.horizon, self.ttl)).collect();
        let value = Listing { nodes, more: seen.value.more };
        Ok(Seen { value, revision: seen.revision, horizon: seen.horizon })
    }

    /// One page of a fleet.
    pub(super) async fn page(
        &self,
        fleet: &Arc<Fleet>,
        query: &DiscoveryQuery,
    ) -> Result<Found, RegistryError> {
        if let Some(found) = fleet.discover_within(query, QUICK_STEPS) {
            return Ok(found);
        }
        let (fleet, query) = (Arc::clone(fleet), query.clone());
        self.aside(move || fleet.discover(&query)).await
    }

    /// One page of the audit trail.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn events(&self, query: &EventQuery) -> Result<Seen<EventPage>, RegistryError> {
        self.read("events", self.store.events(query)).await
    }

    /// How many nodes there are, by type, version and status.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn summary(&self) -> Result<Seen<Summary>, RegistryError> {
        loop {
            if let Some(fleet) = self.catalog.fleet() {
                return self.counted(fleet).await;
            }
            let seen = self.read("summary", self.store.summary()).await?;
            if self.may_stand_in(seen.revision).await {
                return Ok(seen);
            }
        }
    }

    /// The fleet, if it is loaded and fresh enough. `None`: the store has to be asked.
    async fn fleet(&self, freshness: Freshness) -> Result<Option<Arc<Fleet>>, RegistryError> {
        if freshness.strong {
            return Ok(None);
        }
        match self.catalog.fleet() {
            Some(fleet) if fleet.revision() < freshness.at_least => {}
            fleet => return Ok(fleet),
        }
        let comes = self.catalog.fleet_with(freshness.at_least);
        tokio::time::timeout(PATIENCE, comes).await.map_err(|_| RegistryError::Behind)
    }

    /// Asks the store, again if what it has is not fresh enough: the database has not seen the change either, or is a
    /// standby that lags behind. `None` if it was to stand in for the catalog, which is there now and older.
    async fn ask_store<T, F>(
        &self,
        operation: &'static str,
        freshness: Freshness,
        mut ask: impl FnMut() -> F,
    ) -> Result<Option<Seen<T>>, RegistryError>
    where
        F: Future<Output = Result<Seen<T>, RegistryError>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.read(operation, ask()).await?;
            if seen.revision >= freshness.at_least {
                let is_wanted = freshness.strong || self.may_stand_in(seen.revision).await;
                return Ok(is_wanted.then_some(seen));
            }
            let again = Instant::now() + PAUSE;
            if again > deadline {
                return Err(RegistryError::Behind);
            }
            tokio::time::sleep_until(again).await;
        }
    }

    /// Whether what the store says up to this revision may stand in for the catalog: what is read from that afterwards is not
    /// to be older. If the catalog is about to be there, and isn't in the end, an answer that is late is better than none.
    async fn may_stand_in(&self, revision: Revision) -> bool {
        tokio::time::timeout(PATIENCE, self.catalog.may_be_shown(revision)).await.unwrap_or(true)
    }

    /// How many nodes a fleet has.
    pub(super) async fn counted(&self, fleet: Arc<Fleet>) -> Result<Seen<Summary>, RegistryError> {
        let (revision, horizon) = (fleet.revision(), *fleet.horizon());
        Ok(Seen { value: self.aside(move || fleet.summary()).await?, revision, horizon })
    }

    /// Does what takes long where nobody waits for it but the caller, and not much of it at once: what is quick needs the
    /// processor, too.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.asides).acquire_owned()).await;
        let turn = turn.map_err(|_| RegistryError::Crowded)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // Who doesn't wait for it any more doesn't end it.
            drop(turn);
            done
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a read ended without an answer");
            RegistryError::Interrupted
        })
    }
}

/// So many reads that take long are done at once.
pub(super) fn asides() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new((cores / 2).max(1)))
}

/// A record as it is shown.
pub(super) fn show(record: &NodeRecord, horizon: &Horizon, ttl: Ttl) -> Shown {
    Shown {
        record: Arc::new(ShownRecord::of(record)),
        moment: Moment {
            last_heartbeat: record.last_heartbeat,
            updated_at: record.updated_at,
            status: record.status(horizon, ttl),
        },
    }
}
