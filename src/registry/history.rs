//! How the fleet was over the last hour: once a minute it is counted, and the counts are kept in memory.
//!
//! They are this replica's, and begin with it. While it is not known how the fleet is, nothing is counted: what is missing
//! is seen, and an old number would be a claim.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Registry;
use super::catalog::Catalog;
use super::currency::Currency;
use crate::going::keep_going;
use crate::node::{Revision, Status, Timestamp};

/// How often the fleet is counted.
pub const SAMPLE_EVERY: Duration = Duration::from_mins(1);
/// So many counts are kept: an hour has both its ends.
pub const MAX_SAMPLES: usize = 61;
/// Older ones are of another hour: with some minutes for counts that came late.
const OLDEST_MICROS: i64 = 65 * 60 * 1_000_000;
/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many nodes there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The instant at which they were judged, in the database's time.
    pub at: Timestamp,
    /// All changes up to this one are in it.
    pub revision: Revision,
    /// By status, all four, in the order of [`Status::ALL`].
    pub by_status: [(Status, u64); Status::ALL.len()],
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When the first count since the start of this replica was taken; `None`: none was.
    pub since: Option<Timestamp>,
    /// In the order of time.
    pub samples: VecDeque<Sample>,
}

impl History {
    fn take(&mut self, sample: Sample) {
        // A clock that went back: what is later than now belongs to no hour that anybody will look at.
        // And after a time of which nothing is known, what was before it is of no hour either.
        let oldest = sample.at.minus_micros(OLDEST_MICROS);
        self.samples.retain(|known| known.at < sample.at && known.at >= oldest);
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.since = Some(self.since.map_or(sample.at, |since| since.min(sample.at)));
    }
}

impl Registry {
    /// How the fleet was over the last hour, as far as this replica has seen it.
    #[must_use]
    pub fn history(&self) -> History {
        self.historian.history()
    }
}

/// Keeps the history, in a task of its own.
pub(super) struct Historian {
    task: TaskTracker,
    stop: CancellationToken,
    /// Written once a minute by the task, read for each answer. A lock for a copy, never held over an await.
    history: Arc<Mutex<History>>,
}

impl Historian {
    pub(super) fn start(catalog: Arc<Catalog>, currency: Arc<Currency>) -> Self {
        let (task, stop, history) = (TaskTracker::new(), CancellationToken::new(), Arc::default());
        let (stopped, writing) = (stop.clone(), Arc::clone(&history));
        task.spawn(async move {
            let keeping = keep_going("the history", || keep(&catalog, &currency, &writing));
            stopped.run_until_cancelled(keeping).await;
        });
        task.close();
        Self { task, stop, history }
    }

    pub(super) fn history(&self) -> History {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

impl Drop for Historian {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn keep(catalog: &Catalog, currency: &Currency, history: &Mutex<History>) {
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due
            && let Some(sample) = count(catalog, currency).await
        {
            history.lock().unwrap_or_else(PoisonError::into_inner).take(sample);
            due = Instant::now() + SAMPLE_EVERY;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `None` if it is not known how the fleet is.
async fn count(catalog: &Catalog, currency: &Currency) -> Option<Sample> {
    let fleet = catalog.fleet()?;
    if currency.stale().is_some() || fleet.horizon().stands_still().is_some() {
        return None;
    }
    let (at, revision) = (fleet.horizon().at, fleet.revision());
    let counting = tokio::task::spawn_blocking(move || fleet.summary().by_status);
    let counted = counting.await.inspect_err(|error| tracing::error!(%error, "the fleet was not counted"));
    Some(Sample { at, revision, by_status: counted.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Horizon, NodeRecord, Ttl};
    use crate::store::{Loaded, Position};

    const TTL: Ttl = Ttl::from_seconds(90);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_micros(i64::try_from(seconds).unwrap() * 1_000_000)
    }

    fn record(id: &str, last_heartbeat: Option<Timestamp>) -> NodeRecord {
        NodeRecord { last_heartbeat, ..crate::registry::catalog::tests::record(id, 0) }
    }

    /// A database with two nodes, and whoever follows it; time is driven.
    struct World {
        began: Instant,
        catalog: Arc<Catalog>,
        currency: Arc<Currency>,
    }

    impl World {
        fn new() -> Self {
            let (catalog, currency) = (Arc::new(Catalog::new(TTL)), Arc::new(Currency::new()));
            Self { began: Instant::now(), catalog, currency }
        }

        /// The database is read, and tells the time.
        fn look(&self) {
            let now = self.began.elapsed().as_secs();
            let mut loading = self.catalog.load();
            // The one was alive when all began, and never again.
            loading.take(record("mortal", Some(at(0))));
            loading.take(record("unseen", None));
            loading.finish(&Loaded { position: Position::default(), horizon: Horizon::at(at(now)) }).unwrap();
            self.currency.note(Instant::now());
        }

        async fn pass(&self, seconds: u64, is_there: bool) {
            for _ in 0..seconds {
                if is_there {
                    self.look();
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    fn healthy(sample: &Sample) -> u64 {
        sample.by_status[Status::Healthy as usize].1
    }

    #[tokio::test(start_paused = true)]
    async fn the_fleet_is_counted_once_a_minute_and_an_hour_is_kept() {
        let world = World::new();
        let historian = Historian::start(Arc::clone(&world.catalog), Arc::clone(&world.currency));
        world.pass(5, false).await;
        assert_eq!(historian.history(), History::default(), "nothing was known yet");
        world.pass(5 * 60, true).await;
        let history = historian.history();
        assert_eq!(history.since, Some(history.samples[0].at));
        assert_eq!(history.samples.iter().map(healthy).collect::<Vec<_>>(), [1, 1, 0, 0, 0], "{history:?}");
        let minutes = history.samples.iter().zip(history.samples.iter().skip(1));
        let pauses: Vec<i64> =
            minutes.map(|(one, next)| next.at.unix_micros() - one.at.unix_micros()).collect();
        assert!(pauses.iter().all(|pause| (59_000_000..=62_000_000).contains(pause)), "{pauses:?}");

        world.pass(70 * 60, true).await;
        let later = historian.history();
        assert_eq!((later.samples.len(), later.since), (MAX_SAMPLES, history.since));
        let hour = later.samples[MAX_SAMPLES - 1].at.unix_micros() - later.samples[0].at.unix_micros();
        assert!(hour >= 3_600_000_000, "{hour}");
        historian.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_is_not_counted_and_goes_on_afterwards() {
        let world = World::new();
        let historian = Historian::start(Arc::clone(&world.catalog), Arc::clone(&world.currency));
        world.pass(30, true).await;
        world.pass(10 * 60, false).await;
        assert_eq!(historian.history().samples.len(), 1);
        world.pass(10, true).await;
        let samples = historian.history().samples;
        assert_eq!(samples.len(), 2);
        assert!(samples[1].at > at(600), "{samples:?}");
        historian.close().await;
    }

    #[test]
    fn a_clock_that_went_back_leaves_nothing_in_the_future() {
        let by_status = Status::ALL.map(|status| (status, 0));
        let mut history = History::default();
        for seconds in [100, 160, 220, 130] {
            history.take(Sample { at: at(seconds), revision: Revision::ZERO, by_status });
        }
        let kept: Vec<Timestamp> = history.samples.iter().map(|sample| sample.at).collect();
        assert_eq!((kept, history.since), (vec![at(100), at(130)], Some(at(100))));
    }
}
