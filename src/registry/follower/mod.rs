//! Keeps the catalog equal to the table: loads it, follows the events, listens for hints that there are new ones, and
//! compares the two now and then.

mod beside;
mod compare;
mod listen;
mod owed;
mod read;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::compare::Comparer;
pub(super) use self::compare::Suspicion;
use self::listen::{Ear, Listener};
use self::read::Reader;
use super::catalog::Catalog;
use super::currency::Currency;
use super::health::Standing;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::health::ReplicaId;

/// What a follower works with.
pub(super) struct FollowerParts {
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) currency: Arc<Currency>,
    pub(super) metrics: Arc<Metrics>,
    /// This replica, and whether it leads: only one records what nobody else has.
    pub(super) replica: ReplicaId,
    pub(super) standing: watch::Receiver<Standing>,
    /// How often table and catalog are compared; `None`: never.
    pub(super) compare_every: Option<Duration>,
    /// Nodes that are to be compared at once. Nobody takes them if none are compared.
    pub(super) suspected: mpsc::Receiver<Suspicion>,
}

/// The tasks that keep the catalog equal to the table. They begin at once, and end with [`Follower::close`].
pub(super) struct Follower {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks of a registry that is dropped without being closed.
    _stop_when_dropped: DropGuard,
}

impl Follower {
    pub(super) fn start(parts: FollowerParts) -> Self {
        let FollowerParts { store, catalog, currency, metrics, replica, standing, compare_every, suspected } =
            parts;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let ear = Arc::new(Ear::default());
        tasks.spawn(Listener { store: Arc::clone(&store), ear: Arc::clone(&ear), stop: stop.clone() }.run());
        let reader = Reader {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            currency,
            metrics: Arc::clone(&metrics),
            ear,
            stop: stop.clone(),
        };
        tasks.spawn(reader.run());
        if let Some(every) = compare_every {
            let stop = stop.clone();
            let comparer = Comparer { store, catalog, metrics, replica, standing, every, suspected, stop };
            tasks.spawn(comparer.run());
        }
        tasks.close();
        let stop_when_dropped = stop.clone().drop_guard();
        Self { tasks, stop, _stop_when_dropped: stop_when_dropped }
    }

    /// Ends what is under way.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
