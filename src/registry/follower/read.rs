//! Loads the table, and reads what has happened since.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::listen::Ear;
use crate::metrics::Metrics;
use crate::node::Revision;
use crate::registry::RegistryError;
use crate::registry::catalog::Catalog;
use crate::store::{Followed, Position, Store};

/// How often it is looked for news that no hint told of, and for signs of life that other replicas took: within two
/// seconds they have to be known everywhere.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same if no hints get through.
const LOOK_OFTEN: Duration = Duration::from_millis(200);
/// A hint may come so much later than the news.
const HINTS_ARE_LATE: Duration = Duration::from_secs(1);
/// How soon the connection for hints may be found dead again. Some changes are not told of where transactions can be
/// prepared (NOTIFY can't be), and nobody is to connect anew for each.
const SUSPECT_EVERY: Duration = Duration::from_secs(30);
/// A batch of ours that is not in the catalog's revision yet is most often only overtaken by another one.
const GAPS_CLOSE: Duration = Duration::from_millis(2);
/// The pause after a failure; doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The whole table is read in this time at the most, and what is new of it in that.
const LONGEST_LOAD: Duration = Duration::from_mins(5);
const LONGEST_CALL: Duration = Duration::from_secs(15);

/// Keeps the catalog up with the table.
pub(super) struct Reader {
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ear: Arc<Ear>,
    pub(super) stop: CancellationToken,
}

/// What was read that no hint had told of.
#[derive(Default)]
struct Untold {
    news: Option<(Revision, Instant)>,
    suspected: Option<Instant>,
}

impl Reader {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.keep_up()).await;
    }

    async fn keep_up(&self) {
        let mut pause = SHORTEST_PAUSE;
        let mut failing = false;
        let mut position = None;
        let mut untold = Untold::default();
        loop {
            let step = match &position {
                None => self.load().await,
                Some(position) => self.read(position, &mut untold).await,
            };
            match step {
                Ok(Read { position: next, more }) => {
                    if failing {
                        tracing::info!("changes can be followed again");
                    }
                    failing = false;
                    pause = SHORTEST_PAUSE;
                    position = Some(next);
                    if !more {
                        self.wait().await;
                    }
                }
                Err(RegistryError::EventsGone { kept_after, newest }) => {
                    tracing::warn!(
                        %kept_after, %newest,
                        "the events don't go on from where they were read (the database was restored, or this replica \
                         was away for longer than events are kept): all is read anew"
                    );
                    position = None;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(reason = crate::registry::reason(&error), "changes can't be followed");
                    }
                    failing = true;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn load(&self) -> Result<Read, RegistryError> {
        let begun = Instant::now();
        let mut loading = self.catalog.load();
        let mut take = |record| loading.take(record);
        let loading_all = self.store.load(&mut take);
        let loaded = within(LONGEST_LOAD, loading_all).await?;
        let mut position = loaded.position.clone();
        loop {
            let followed = within(LONGEST_CALL, self.store.follow(&position)).await?;
            position.clone_from(&followed.position);
            let more = followed.more();
            loading.followed(&loaded, followed);
            if !more {
                break;
            }
        }
        loading.finish(&loaded).map_err(|_| RegistryError::Interrupted)?;
        let took_ms = begun.elapsed().as_millis();
        tracing::info!(revision = %position.revision, took_ms, "the catalog is loaded");
        self.metrics.catalog.loaded();
        self.metrics.database.set_revision(position.revision.get());
        Ok(Read { position, more: true })
    }

    async fn read(&self, position: &Position, untold: &mut Untold) -> Result<Read, RegistryError> {
        let followed = within(LONGEST_CALL, self.store.follow(position)).await?;
        self.metrics.database.set_event_lag(followed.lag);
        untold.note(&followed, position.revision, &self.ear);
        let (position, more) = (followed.position.clone(), followed.more());
        self.catalog.followed(followed);
        let known = self.catalog.revision().borrow().unwrap_or_default();
        self.metrics.database.set_revision(known.get());
        // What our own batches have told the catalog needn't be read again.
        let position = position.at_least(known);
        Ok(Read { position, more })
    }

    /// Until there may be something to read.
    async fn wait(&self) {
        let every = if self.ear.is_open() { LOOK_EVERY } else { LOOK_OFTEN };
        let look = tokio::time::sleep(every);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = &mut look => return,
                () = self.ear.heard() => {
                    let known = self.catalog.revision().borrow().unwrap_or_default();
                    // Our own batches are told of, too.
                    if self.ear.was_told_of(known.next()) {
                        self.ear.forget(known);
                        return;
                    }
                }
                () = self.catalog.gap() => {
                    tokio::time::sleep(GAPS_CLOSE).await;
                    if self.catalog.has_gap() {
                        return;
                    }
                }
            }
        }
    }
}

/// How far was read, and whether there is more to read at once.
struct Read {
    position: Position,
    more: bool,
}

impl Untold {
    /// Finds out whether the connection for hints is dead.
    fn note(&mut self, followed: &Followed, before: Revision, ear: &Ear) {
        let now = Instant::now();
        if let Some((news, since)) = self.news
            && now >= since + HINTS_ARE_LATE
        {
            self.news = None;
            let trusted = self.suspected.is_none_or(|at| now >= at + SUSPECT_EVERY);
            if ear.is_open() && !ear.was_told_of(news) && trusted {
                self.suspected = Some(now);
                ear.is_deaf();
            }
        }
        let newest = followed.events.last().map(|event| event.revision);
        if let Some(newest) = newest.filter(|newest| *newest > before && !ear.was_told_of(*newest)) {
            self.news.get_or_insert((newest, now));
        }
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(RegistryError::Interrupted))
}
