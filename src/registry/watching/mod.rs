//! Who waits for changes: watchers ([`Watcher`]) are told each one, long polls ([`Registry::await_change`]) that there is
//! one.
//!
//! Nothing is sent to anybody here. Who waits is a position in the order of changes, asks for what lies after it when its
//! client can take more, and is woken up when there may be something. So nothing is kept for the slow.

mod judge;
mod long_poll;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::catalog::Catalog;
use super::{Registry, RegistryError};
use crate::node::{DiscoveryQuery, EventKind, Revision};

pub use self::judge::Told;
pub use self::watcher::{End, Notice, Watcher};

/// What a watcher wants to be told.
#[derive(Debug, Clone)]
pub struct WatchQuery {
    /// The nodes whose changes it wants to know of. Its page is of no account.
    pub nodes: DiscoveryQuery,
    /// Events of one of these kinds; none: of any.
    pub kinds: Vec<EventKind>,
    /// Where it begins.
    pub from: From,
}

/// Where a watcher begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With what comes from now on.
    Now,
    /// With the nodes as they are, and then what comes after that.
    Snapshot,
    /// With what comes after this revision.
    After(Revision),
}

/// What all that wait share.
pub(super) struct Watching {
    /// Says that there may be something new.
    pulse: Arc<watch::Sender<()>>,
    /// Whoever waits is to answer with what there is, and to end.
    stopping: CancellationToken,
    /// Watchers that read the log take turns: thousands may come back at once, and the database is there for others too.
    log_readers: Semaphore,
    /// The task that gives the pulse. Owned here; told to stop and waited for in [`Watching::close`].
    task: TaskTracker,
}

/// So many changes are looked at before others have their turn: to look at one may be to read 64 KiB of JSON.
const LOOKED_AT_ONCE: usize = 64;
/// So many watchers may read the log at once.
const LOG_READERS: usize = 2;
/// About what it costs to wake up one that waits, and to find that there is nothing for it. While many changes come in,
/// they are woken up less often the more they are, so that they never cost more than a part of a core.
const WAKING: Duration = Duration::from_micros(5);

impl Watching {
    pub(super) fn start(catalog: &Catalog) -> Self {
        let pulse = Arc::new(watch::Sender::new(()));
        let stopping = CancellationToken::new();
        let task = TaskTracker::new();
        let beating = beat(catalog.revision(), Arc::clone(&pulse));
        task.spawn(stopping.clone().run_until_cancelled_owned(beating));
        task.close();
        Self { pulse, stopping, log_readers: Semaphore::new(LOG_READERS), task }
    }

    /// Ends all waiting.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    pub(super) async fn close(&self) {
        self.stop();
        self.task.wait().await;
    }
}

/// Passes on that the catalog has changed, at once if it had been quiet.
async fn beat(mut revision: watch::Receiver<Option<Revision>>, pulse: Arc<watch::Sender<()>>) {
    while revision.changed().await.is_ok() {
        pulse.send_replace(());
        let waiting = u32::try_from(pulse.receiver_count()).unwrap_or(u32::MAX);
        tokio::time::sleep(WAKING.saturating_mul(waiting)).await;
    }
}

impl Registry {
    /// Watches nodes. What the watcher is told begins where it was asked to, and has no gap.
    ///
    /// # Errors
    /// [`RegistryError::Loading`] if the catalog is not loaded yet, [`RegistryError::EventsGone`] if what comes after the
    /// revision is not known any more, or there never was such a revision. For others, see [`RegistryError`].
    pub async fn watch(self: &Arc<Self>, query: WatchQuery) -> Result<Watcher, RegistryError> {
        let fleet = self.catalog.fleet().ok_or(RegistryError::Loading)?;
        if let From::After(after) = query.from
            && (after > fleet.revision() || fleet.changes_after(after, 0).is_err())
        {
            self.check_log(after).await?;
        }
        Ok(Watcher::new(Arc::clone(self), query, fleet))
    }

    /// Ends all waiting: watchers are told so, and long polls answer with what there is. The first thing to do when the
    /// server stops, for it waits for those that wait.
    pub fn stop_watching(&self) {
        self.watching.stop();
    }
}
