//! What the server does: [`Registry`] is the one face that handlers call.
//!
//! Reads (`reads`) come from the `catalog` or the store, writes (`writes`) go through the `writer`. The `follower` keeps
//! the catalog equal to the table, and `watching` tells those who wait for changes. Beside them the life of the fleet is
//! looked after (`health`, with the `prober`), and how it was is noted (`history`). Whatever asks the store does so through the `guard`, which gives up a
//! database that is silent, and has a `breaker`.

mod bounds;
mod breaker;
pub mod catalog;
mod currency;
mod follower;
mod guard;
pub mod health;
pub mod history;
mod measure;
pub mod prober;
mod reads;
pub mod snapshot;
pub mod watching;
mod writer;
mod writes;

use std::error::Error as _;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use self::breaker::Breaker;
use self::catalog::{Catalog, Fleet};
use self::currency::Currency;
use self::follower::{Follower, FollowerParts, Suspicion};
use self::guard::Guarded;
use self::health::{Health, HealthSettings, Standing};
use self::history::Historian;
use self::measure::LastCount;
use self::prober::ProberError;
use self::snapshot::{Restored, SnapshotSettings, Snapshots};
use self::watching::Watching;
use self::writer::Writer;
use crate::metrics::{BreakerPhase, Metrics};
use crate::node::{Revision, Ttl};
use crate::store::Store;
use crate::store::health::ReplicaId;

pub use self::breaker::BreakerSettings;
pub use self::catalog::Edition;
pub use self::reads::{Freshness, Listing};
pub use self::writes::{Registered, SignOfLife};
pub use crate::store::{
    DeregisterWrite, EventPage, MaintenanceWrite, RegisterWrite, Seen, StoreError as RegistryError,
};

/// What a registry is made of.
pub struct Parts {
    /// Where registrations are kept.
    pub store: Arc<dyn Store>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// How long a node counts as alive after a sign of life, unless it says otherwise. The store's is the same.
    pub ttl: Duration,
    /// How the fleet is looked after.
    pub health: HealthSettings,
    /// How often the catalog is compared with the table; `None`: never.
    pub compare_every: Option<Duration>,
    /// Operations that take longer are warned of.
    pub slow: Duration,
    /// When the database is taken for away.
    pub breaker: BreakerSettings,
    /// Whether the database has all that serving needs. If not, nothing is asked of it until [`Registry::open`].
    pub is_open: bool,
    /// Where the last known fleet is kept; `None`: nowhere.
    pub snapshot: Option<SnapshotSettings>,
    /// What was kept there, to be served until the table can be read.
    pub restored: Option<Restored>,
}

/// Whether this replica can serve, and what is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// All changes up to this one are in memory; `None`: the nodes have not been read.
    pub revision: Option<Revision>,
    /// For so long it has not been known what the table has; `None` if that is no time, or nothing was ever read.
    pub stale: Option<Duration>,
    /// Whether clients' calls go to the database.
    pub breaker: BreakerPhase,
    /// Whether the database has been found to have all that serving needs.
    pub is_open: bool,
}

/// The registry.
pub struct Registry {
    store: Arc<dyn Store>,
    /// What `store` is.
    guard: Arc<Guarded>,
    breaker: Arc<Breaker>,
    currency: Arc<Currency>,
    snapshots: Option<Snapshots>,
    catalog: Arc<Catalog>,
    /// The loading that the fleet from the disk is of, if it began with one.
    restored: Option<u64>,
    watching: Watching,
    follower: Follower,
    metrics: Arc<Metrics>,
    ttl: Ttl,
    slow: Duration,
    writer: Arc<Writer>,
    health: Health,
    historian: Historian,
    /// The turns of reads that take long.
    asides: Arc<Semaphore>,
    last_count: LastCount,
}

impl Registry {
    /// A registry over a store that is ready to serve. It begins to look after the fleet at once.
    ///
    /// # Errors
    /// If health endpoints are to be probed and can't be: see [`ProberError`].
    pub fn start(parts: Parts) -> Result<Self, ProberError> {
        let ttl = parts.ttl.into();
        let currency = Arc::new(Currency::new());
        let is_restored = parts.restored.is_some();
        let catalog = match parts.restored {
            Some(restored) => {
                currency.note_age(restored.age);
                parts.metrics.catalog.restored();
                restored.catalog
            }
            None => Arc::new(Catalog::new(ttl)),
        };
        let restored = catalog.fleet().filter(|_| is_restored).map(|fleet| fleet.epoch());
        let breaker = Arc::new(Breaker::new(parts.breaker, Arc::clone(&parts.metrics)));
        let guard = Arc::new(Guarded::new(parts.store, Arc::clone(&breaker), parts.is_open));
        let store: Arc<dyn Store> = Arc::<Guarded>::clone(&guard);
        let (suspicions, suspected) = Suspicion::channel();
        let writer = Writer::new(writer::Parts {
            store: Arc::clone(&store),
            breaker: Arc::clone(&breaker),
            catalog: Arc::clone(&catalog),
            metrics: Arc::clone(&parts.metrics),
            ttl,
            slow: parts.slow,
            suspicions,
        });
        let replica = ReplicaId::random();
        let health = Health::start(&store, &writer, &parts.metrics, &parts.health, ttl, replica.clone())?;
        let follower = Follower::start(FollowerParts {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            currency: Arc::clone(&currency),
            metrics: Arc::clone(&parts.metrics),
            replica,
            standing: health.follow(),
            compare_every: parts.compare_every,
            suspected,
        });
        let snapshots = parts.snapshot.map(|settings| {
            Snapshots::start(
                settings,
                Arc::clone(&catalog),
                Arc::clone(&currency),
                Arc::clone(&parts.metrics),
            )
        });
        let historian = Historian::start(Arc::clone(&catalog), Arc::clone(&currency));
        Ok(Self {
            snapshots,
            store,
            guard,
            breaker,
            currency,
            watching: Watching::start(&catalog),
            catalog,
            restored,
            follower,
            metrics: parts.metrics,
            ttl,
            slow: parts.slow,
            writer,
            health,
            historian,
            asides: reads::asides(),
            last_count: LastCount::default(),
        })
    }

    /// The database has all that serving needs: from now on it is asked.
    pub fn open(&self) {
        self.guard.open();
    }

    /// Whether this replica can serve. Nobody is asked for it: a database that is away must not take with it all replicas
    /// that know the nodes.
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition {
            revision: self.catalog.fleet().map(|fleet| fleet.revision()),
            stale: self.age(self.catalog.fleet().as_deref()),
            breaker: self.breaker.phase(),
            is_open: self.guard.is_open(),
        }
    }

    /// For how long it has not been known whether what is read is what the table has, if that is to be said: `None` if
    /// it is no time, or the database itself answers.
    #[must_use]
    pub fn stale(&self, freshness: Freshness) -> Option<Duration> {
        let fleet = self.catalog.fleet().filter(|_| !freshness.strong)?;
        self.age(Some(&fleet))
    }

    /// For how long it has not been known what the table has, or no replica could write down that signs of life are taken:
    /// then statuses stand still.
    fn age(&self, fleet: Option<&Fleet>) -> Option<Duration> {
        let standing_still = fleet.and_then(|fleet| fleet.horizon().stands_still());
        self.currency.stale().max(standing_still)
    }

    /// Waits until this replica has reported to the database for the first time, but not for long. Before that, it is not
    /// known whether there was an outage until now.
    pub async fn has_reported(&self) {
        self.health.has_reported().await;
    }

    /// What this replica last heard of the whole.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.health.standing()
    }

    /// Ends all waiting, stops looking after the fleet, waits for the writes under way, and closes the database.
    pub async fn close(&self) {
        self.watching.close().await;
        self.historian.close().await;
        self.health.close().await;
        self.writer.close().await;
        self.follower.close().await;
        if let Some(snapshots) = &self.snapshots {
            snapshots.close().await;
        }
        self.store.close().await;
    }

    async fn read<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let result = self.watched(operation, work).await;
        report(&*self.store, operation, result.as_ref().err().into_iter());
        result
    }

    /// Warns if the operation is slow.
    async fn watched<T>(&self, operation: &'static str, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = work.await;
        let took = begun.elapsed();
        if took > self.slow {
            tracing::warn!(operation, took_ms = took.as_millis(), "the database was slow");
        }
        result
    }
}

/// Tells the log what clients are not told: each kind of failure once, however many items it hit.
fn report<'e>(store: &dyn Store, operation: &'static str, errors: impl Iterator<Item = &'e RegistryError>) {
    let mut kinds: Vec<(&RegistryError, usize)> = Vec::new();
    for error in errors {
        match kinds.iter_mut().find(|(kind, _)| discriminant(*kind) == discriminant(error)) {
            Some((_, items)) => *items += 1,
            None => kinds.push((error, 1)),
        }
    }
    for (error, items) in kinds {
        let reason = error.source().map(ToString::to_string);
        match error {
            // What happens every day.
            RegistryError::NotFound
            | RegistryError::PreconditionFailed { .. }
            | RegistryError::EventsGone { .. }
            | RegistryError::Loading => {}
            // The breaker tells of these, and how many they were: there is one for each request of an outage.
            _ if error.is_of_an_outage(store.can_fall_silent()) => {
                tracing::debug!(operation, items, reason, "{error}");
            }
            RegistryError::Away
            | RegistryError::Silent
            | RegistryError::Contended
            | RegistryError::Held
            | RegistryError::Refused(_)
            | RegistryError::Unavailable(_)
            | RegistryError::Busy
            | RegistryError::Crowded
            | RegistryError::Behind => {
                tracing::warn!(operation, items, reason, "{error}");
            }
            RegistryError::Full(_) | RegistryError::Failed(_) | RegistryError::Interrupted => {
                tracing::error!(operation, items, reason, "{error}");
            }
        }
    }
}

/// Why an operation failed, for the log.
fn reason(error: &RegistryError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
