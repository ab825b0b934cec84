//! The last known fleet, on disk: what is served if the database is away when the server starts.
//!
//! It is a copy of the catalog with the instant at which it was known to be current, and nothing is ever written to it
//! that isn't in the table. As soon as the database is there, the table is read, and the copy is forgotten. It is
//! written beside the server's work: not often, not if nothing has changed, and not while the database is away.

mod format;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::format::Header;
use super::catalog::{Catalog, Fleet};
use super::currency::Currency;
use crate::going::keep_going;
use crate::metrics::Metrics;
use crate::node::{Horizon, Revision, Ttl};
use crate::replace_file;
use crate::store::{Loaded, Position};

pub use self::format::SnapshotError;

/// How often it is looked whether there is something to write.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A change of a registration is written so long after the last writing.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// That signs of life have come, and that nothing else has changed until now, is written so long after it.
const WRITE_TIMES_EVERY: Duration = Duration::from_mins(1);

/// Where the fleet is kept.
#[derive(Debug, Clone)]
pub struct SnapshotSettings {
    /// The file. It is replaced as a whole; for that, another one is made beside it.
    pub path: PathBuf,
    /// Of which database it is: one of another database is not served.
    pub place: String,
}

/// A fleet from the disk.
pub struct Restored {
    pub(super) catalog: Arc<Catalog>,
    /// For so long it hasn't been known what the table has.
    pub(super) age: Duration,
    /// How many nodes there are.
    pub nodes: usize,
}

/// Reads what was kept. Takes as long as the disk does.
///
/// # Errors
/// See [`SnapshotError`]. Nothing of such a file is served.
pub fn restore(settings: &SnapshotSettings, ttl: Duration) -> Result<Restored, SnapshotError> {
    let catalog = Arc::new(Catalog::new(Ttl::from(ttl)));
    let mut loading = catalog.load();
    let mut nodes = 0;
    let header = format::read(&settings.path, &settings.place, |record| {
        nodes += 1;
        loading.take(record);
    })?;
    let position = Position::default().at_least(header.revision, header.last);
    // Nobody else loads it.
    loading.finish(&Loaded { position, horizon: header.horizon }).map_err(|_| SnapshotError::Broken)?;
    let known_at = SystemTime::UNIX_EPOCH + header.known_at;
    // A clock that went back makes nothing younger than now.
    let age = SystemTime::now().duration_since(known_at).unwrap_or_default();
    Ok(Restored { catalog, age, nodes })
}

/// Keeps the file up to date, in a task of its own.
pub(super) struct Snapshots {
    task: TaskTracker,
    stop: CancellationToken,
    keeper: Arc<Keeper>,
}

struct Keeper {
    settings: SnapshotSettings,
    catalog: Arc<Catalog>,
    currency: Arc<Currency>,
    metrics: Arc<Metrics>,
    /// Held by the thread that writes: two would write the same file. One that nobody waits for any more is waited for
    /// by the next.
    writing: Arc<Mutex<()>>,
}

/// What was written last.
struct Written {
    at: Instant,
    epoch: u64,
    revision: Revision,
    horizon: Horizon,
}

impl Snapshots {
    pub(super) fn start(
        settings: SnapshotSettings,
        catalog: Arc<Catalog>,
        currency: Arc<Currency>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        let keeper = Arc::new(Keeper { settings, catalog, currency, metrics, writing: Arc::default() });
        let (keeping, stopped) = (Arc::clone(&keeper), stop.clone());
        task.spawn(async move {
            stopped.run_until_cancelled(keep_going("snapshots", || keeping.keep())).await;
        });
        task.close();
        Self { task, stop, keeper }
    }

    /// Writes what is known now, for the last time.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.task.wait().await;
        if let Some(Err(error)) = self.keeper.write(None).await.map(|written| written.map(drop)) {
            tracing::warn!(%error, "the snapshot can't be written");
        }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Keeper {
    async fn keep(&self) {
        let mut last: Option<Written> = None;
        let mut failing = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.write(last.as_ref()).await {
                None => continue,
                Some(Ok(written)) => {
                    if failing {
                        tracing::info!("the snapshot can be written again");
                    }
                    failing = false;
                    last = Some(written);
                    continue;
                }
                Some(Err(error)) => {
                    if !failing {
                        tracing::warn!(%error, path = %self.settings.path.display(), "the snapshot can't be written");
                    }
                    failing = true;
                }
            }
            tokio::time::sleep(WRITE_EVERY).await;
        }
    }

    /// Writes what is known now. `None` if it is not known to be what the table has, or is not to be written yet.
    async fn write(&self, last: Option<&Written>) -> Option<Result<Written, std::io::Error>> {
        let age = self.currency.age().filter(|_| self.currency.stale().is_none())?;
        let fleet = self.catalog.fleet()?;
        if last.is_some_and(|last| !last.is_overtaken_by(&fleet)) {
            return None;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let written = Written {
            at: Instant::now(),
            epoch: fleet.epoch(),
            revision: fleet.revision(),
            horizon: *fleet.horizon(),
        };
        let (path, place) = (self.settings.path.clone(), self.settings.place.clone());
        let known_at = now.saturating_sub(age);
        let turn = Arc::clone(&self.writing);
        let writing = tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            replace(&path, &place, &fleet, known_at)
        });
        let done = writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if done.is_ok() {
            self.metrics.catalog.snapshot_written(now);
        }
        Some(done.map(|()| written))
    }
}

impl Written {
    fn is_overtaken_by(&self, fleet: &Fleet) -> bool {
        let pause = self.at.elapsed();
        let is_changed = (fleet.epoch(), fleet.revision()) != (self.epoch, self.revision);
        is_changed && pause >= WRITE_EVERY || *fleet.horizon() != self.horizon && pause >= WRITE_TIMES_EVERY
    }
}

fn replace(path: &Path, place: &str, fleet: &Fleet, known_at: Duration) -> Result<(), std::io::Error> {
    let header =
        Header { known_at, revision: fleet.revision(), last: fleet.last_event(), horizon: *fleet.horizon() };
    replace_file::replace(path, |out| format::write(out, place, &header, fleet))
}
