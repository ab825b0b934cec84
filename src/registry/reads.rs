//! What reads nodes: from the catalog, or from the store for those that want the database's own answer, and as long as
//! the catalog is not loaded.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::catalog::Fleet;
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
    /// One node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn get(
        &self,
        id: &NodeKey,
        freshness: Freshness,
    ) -> Result<Seen<Option<Shown>>, RegistryError> {
        if let Some(fleet) = self.fleet(freshness).await? {
            let horizon = *fleet.horizon();
            let value = fleet.get(id).map(|node| node.show(&horizon, self.ttl));
            return Ok(Seen { value, revision: fleet.revision(), horizon });
        }
        let seen = self.ask_store("get", freshness, || self.store.get(id)).await?;
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
        if let Some(fleet) = self.fleet(freshness).await? {
            let horizon = *fleet.horizon();
            let found = if let Some(found) = fleet.discover_within(query, QUICK_STEPS) {
                found
            } else {
                let (fleet, query) = (Arc::clone(&fleet), query.clone());
                aside(move || fleet.discover(&query)).await?
            };
            let nodes = found.nodes.iter().map(|node| node.show(&horizon, self.ttl)).collect();
            let value = Listing { nodes, more: found.more };
            return Ok(Seen { value, revision: fleet.revision(), horizon });
        }
        let seen = self.ask_store("discover", freshness, || self.store.discover(query)).await?;
        let nodes = seen.value.records.iter().map(|record| show(record, &seen.horizon, self.ttl)).collect();
        let value = Listing { nodes, more: seen.value.more };
        Ok(Seen { value, revision: seen.revision, horizon: seen.horizon })
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
        match self.catalog.fleet() {
            Some(fleet) => self.counted(fleet).await,
            None => self.read("summary", self.store.summary()).await,
        }
    }

    /// The fleet, if it is loaded and fresh enough. `None`: the store has to be asked.
    async fn fleet(&self, freshness: Freshness) -> Result<Option<Arc<Fleet>>, RegistryError> {
        if freshness.strong {
            return Ok(None);
        }
        let Some(fleet) = self.catalog.fleet() else { return Ok(None) };
        if fleet.revision() >= freshness.at_least {
            return Ok(Some(fleet));
        }
        let mut revision = self.catalog.revision();
        let reached = revision.wait_for(|known| known.is_none_or(|known| known >= freshness.at_least));
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(_) => Ok(self.catalog.fleet()),
            Err(_) => Err(RegistryError::Behind),
        }
    }

    /// Asks the store, again if what it has is not fresh enough: the database has not seen the change either, or is a
    /// standby that lags behind.
    async fn ask_store<T, F>(
        &self,
        operation: &'static str,
        freshness: Freshness,
        mut ask: impl FnMut() -> F,
    ) -> Result<Seen<T>, RegistryError>
    where
        F: Future<Output = Result<Seen<T>, RegistryError>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.read(operation, ask()).await?;
            if seen.revision >= freshness.at_least {
                return Ok(seen);
            }
            let again = Instant::now() + PAUSE;
            if again > deadline {
                return Err(RegistryError::Behind);
            }
            tokio::time::sleep_until(again).await;
        }
    }
}

/// How many nodes a fleet has.
pub(super) async fn counted(fleet: Arc<Fleet>) -> Result<Seen<Summary>, RegistryError> {
    let (revision, horizon) = (fleet.revision(), *fleet.horizon());
    Ok(Seen { value: aside(move || fleet.summary()).await?, revision, horizon })
}

/// Does what takes long where nobody waits for it but the caller.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a read ended without an answer");
        RegistryError::Interrupted
    })
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
