//! The life of the fleet: one replica, the holder of a lease in the database, looks after it for all.

mod preservation;
mod probing;
mod retention;
mod standing;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::probing::{Probing, write_down};
use self::retention::Retention;
use self::standing::{Follow, Report, Ticker};
use self::sweep::Sweeper;
use crate::going::survive;
use crate::metrics::Metrics;
use crate::node::Ttl;
use crate::registry::RegistryError;
use crate::registry::bounds::within;
use crate::registry::prober::{ProbeSettings, ProberError};
use crate::registry::writer::Writer;
use crate::store::Store;
use crate::store::health::ReplicaId;

pub use self::standing::{Leadership, Standing};
pub use crate::store::health::{FleetCounts, FleetWatch};

/// How the fleet is looked after.
#[derive(Debug, Clone)]
pub struct HealthSettings {
    /// How long after it became stale a node is removed; `None`: never.
    pub expire_after: Option<Duration>,
    /// Expiry pauses if more than so many in a hundred of those that were healthy one TTL ago are stale.
    pub preservation_percent: u8,
    /// How health endpoints are probed; `None`: not at all.
    pub probing: Option<ProbeSettings>,
    /// How long events are kept; `None`: for ever.
    pub event_retention: Option<Duration>,
}

/// For so long a start waits for the first report.
const FIRST_REPORT: Duration = Duration::from_secs(2);

/// No call to the database may keep who looks after the fleet for longer.
const LONGEST_CALL: Duration = Duration::from_secs(15);

async fn bounded<T>(call: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
    within(LONGEST_CALL, call).await
}

/// The tasks that look after the fleet. They begin at once, and end with [`Health::close`].
pub(super) struct Health {
    store: Arc<dyn Store>,
    replica: ReplicaId,
    standing: watch::Receiver<Standing>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks of a registry that is dropped without being closed.
    _stop_when_dropped: DropGuard,
}

impl Health {
    pub(super) fn start(
        store: &Arc<dyn Store>,
        writer: &Arc<Writer>,
        metrics: &Arc<Metrics>,
        settings: &HealthSettings,
        ttl: Ttl,
        replica: ReplicaId,
    ) -> Result<Self, ProberError> {
        // First: what can fail does before anything runs.
        let prober = settings.probing.clone().map(|probes| probing::prober(probes, metrics)).transpose()?;
        let report = Arc::new(Report::default());
        let (sender, standing) = watch::channel(Standing::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let ticker = Ticker {
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
            replica: replica.clone(),
            report: Arc::clone(&report),
            standing: sender,
            stop: stop.clone(),
        };
        tasks.spawn(ticker.run());
        let sweeper = Sweeper {
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
            replica: replica.clone(),
            follow: Follow(standing.clone()),
            report,
            expire_after: settings.expire_after,
            probing: settings.probing.is_some(),
            preservation_percent: settings.preservation_percent,
            ttl,
            up_since: Instant::now(),
            stop: stop.clone(),
        };
        tasks.spawn(sweeper.run());
        if let Some(keep) = settings.event_retention {
            let retention = Retention {
                store: Arc::clone(store),
                metrics: Arc::clone(metrics),
                replica: replica.clone(),
                follow: Follow(standing.clone()),
                keep,
                stop: stop.clone(),
            };
            tasks.spawn(retention.run());
        }
        if let Some((prober, answers)) = prober {
            let probing = Probing {
                store: Arc::clone(store),
                metrics: Arc::clone(metrics),
                follow: Follow(standing.clone()),
                prober,
                ttl,
                stop: stop.clone(),
            };
            tasks.spawn(probing.run());
            tasks.spawn(write_down(answers, Arc::clone(writer), stop.clone()));
        }
        tasks.close();
        let stop_when_dropped = stop.clone().drop_guard();
        Ok(Self {
            store: Arc::clone(store),
            replica,
            standing,
            tasks,
            stop,
            _stop_when_dropped: stop_when_dropped,
        })
    }

    /// Waits for the first report to the database, but not for long.
    pub(super) async fn has_reported(&self) {
        let mut standing = self.standing.clone();
        // In vain, if the database is away. Then it is the reads that say so.
        let _ = tokio::time::timeout(FIRST_REPORT, standing.changed()).await;
    }

    /// What this replica last heard.
    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What this replica hears, as it comes.
    pub(super) fn follow(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Ends what is under way, and gives the lease back, so that another replica needn't wait for its end.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = self.store.resign(&self.replica).await {
            tracing::warn!(reason = crate::registry::reason(&error), "the lease could not be given back");
        }
    }
}
