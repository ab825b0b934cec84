//! Loads the table, and reads what has happened since.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::beside::Beside;
use super::listen::{Ear, Heard};
use crate::going::{Turns, aside, jittered, keep_going};
use crate::metrics::Metrics;
use crate::node::{NodeKey, Revision};
use crate::registry::RegistryError;
use crate::registry::bounds::within;
use crate::registry::catalog::Catalog;
use crate::registry::currency::Currency;
use crate::store::{Digest, Followed, Position, Store};

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
/// The longest after the database could not be asked. That it can is found out by this: it closes the breaker.
const LONGEST_WHILE_AWAY: Duration = Duration::from_millis(500);
/// So many nodes are told the catalog at a time.
const TOGETHER: usize = 1_000;
/// The whole table is read in this time at the most, and what is new of it in that.
const LONGEST_LOAD: Duration = Duration::from_mins(5);
const LONGEST_CALL: Duration = Duration::from_secs(15);

/// Keeps the catalog up with the table.
pub(super) struct Reader {
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) currency: Arc<Currency>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ear: Arc<Ear>,
    pub(super) stop: CancellationToken,
}

/// How far was read, and whether there is more to read at once.
struct Read {
    position: Position,
    more: bool,
}

impl Reader {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        // What was read when it panicked may not have been taken: it begins with a load.
        stop.run_until_cancelled(keep_going("following", || self.keep_up())).await;
    }

    async fn keep_up(&self) {
        let mut pause = SHORTEST_PAUSE;
        let mut failing = false;
        let mut position: Option<Position> = None;
        let mut is_loaded = false;
        let mut untold = Untold::default();
        loop {
            if self.catalog.fleet().is_none() {
                self.metrics.catalog.unloaded();
                position = None;
            }
            let is_load = position.is_none();
            let mut longest = LONGEST_PAUSE;
            let began = Instant::now();
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
                    if !is_load {
                        pause = SHORTEST_PAUSE;
                    }
                    if !more {
                        self.currency.note(began);
                    }
                    position = Some(next);
                    is_loaded = is_load;
                    if !more {
                        self.wait(untold.heard).await;
                    }
                    continue;
                }
                Err(RegistryError::EventsGone { kept_after, newest }) => {
                    tracing::warn!(
                        %kept_after, %newest,
                        "the events don't go on from where they were read (the database was restored, or this replica \
                         was away for longer than events are kept): all is read anew"
                    );
                    if position.take().is_some_and(|position| position.revision >= kept_after) {
                        // It isn't old, but wrong.
                        self.catalog.unload();
                    }
                    // What was loaded just now should go on. If it doesn't, it may not the next time either.
                    if !is_load && !is_loaded {
                        continue;
                    }
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(reason = crate::registry::reason(&error), "changes can't be followed");
                    }
                    failing = true;
                    longest = LONGEST_WHILE_AWAY;
                    // Maybe another server answers next, which has lost some of the last numbers.
                    position = position.map(Position::with_journal_unread);
                }
            }
            // Replicas that have lost the database together needn't come back together.
            tokio::time::sleep(jittered(pause.min(longest))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn load(&self) -> Result<Read, RegistryError> {
        let begun = Instant::now();
        let heard = self.ear.so_far();
        let (lent, records) = self.catalog.load().lend();
        let mut beside = Beside::begin(records);
        let mut take = |record| beside.take(record);
        let loading_all = self.store.load(&mut take);
        let loaded = within(LONGEST_LOAD, loading_all).await?;
        let mut loading = lent.give_back(beside.end().await?);
        let mut position = loaded.position.clone();
        let mut signs_are_missing = false;
        let mut is_closed = false;
        loop {
            let followed = within(LONGEST_CALL, self.store.follow(&position)).await?;
            position.clone_from(&followed.position);
            signs_are_missing |= followed.signs_are_missing;
            let more = followed.more();
            loading.followed(&loaded, followed);
            if !more {
                // Once: where revisions have gone back, no reading on brings what somebody was shown.
                if is_closed || !loading.close(&loaded) {
                    break;
                }
                is_closed = true;
            }
        }
        let lives = if signs_are_missing { self.read_signs().await? } else { Vec::new() };
        loading.finish(&loaded).map_err(|_| RegistryError::Interrupted)?;
        self.lived(&lives).await;
        self.ear.correct(heard, position.revision);
        let took_ms = begun.elapsed().as_millis();
        tracing::info!(revision = %position.revision, took_ms, "the catalog is loaded");
        self.metrics.catalog.loaded();
        self.metrics.database.set_revision(position.revision.get());
        Ok(Read { position, more: true })
    }

    async fn read(&self, position: &Position, untold: &mut Untold) -> Result<Read, RegistryError> {
        // What our own batches have told the catalog needn't be read. It is in the snapshot that is taken next, if the log is
        // still the same.
        let fleet = self.catalog.fleet();
        let known = fleet.map(|fleet| (fleet.revision(), fleet.last_event())).unwrap_or_default();
        let position = position.clone().at_least(known.0, known.1);
        let heard = self.ear.so_far();
        let followed = within(LONGEST_CALL, self.store.follow(&position)).await?;
        self.metrics.database.set_event_lag(followed.lag);
        untold.note(&followed, heard, &self.ear);
        self.ear.correct(heard, followed.snapshot);
        if followed.signs_are_missing {
            let lives = self.read_signs().await?;
            self.lived(&lives).await;
        }
        let (position, more) = (followed.position.clone(), followed.more());
        let signs = followed.signs.iter().map(|signs| signs.alive.len() + signs.renewed.len());
        if followed.events.len() + signs.sum::<usize>() <= Turns::STEPS {
            self.catalog.followed(followed);
        } else {
            let catalog = Arc::clone(&self.catalog);
            aside(move || catalog.followed(followed)).await.ok_or(RegistryError::Interrupted)?;
        }
        let known = self.catalog.revision().borrow().unwrap_or_default();
        self.metrics.database.set_revision(known.get());
        Ok(Read { position, more })
    }

    /// Reads all signs of life from the table. Not by a load: that would end all watches, and of events none is missing.
    async fn read_signs(&self) -> Result<Vec<(NodeKey, Digest)>, RegistryError> {
        let mut lives = Vec::new();
        let mut take = |id, digest| lives.push((id, digest));
        within(LONGEST_LOAD, self.store.digests(&mut take)).await?;
        tracing::info!(
            nodes = lives.len(),
            "this replica was away for longer than signs of life are kept for others: they are read from the table"
        );
        Ok(lives)
    }

    async fn lived(&self, lives: &[(NodeKey, Digest)]) {
        for lives in lives.chunks(TOGETHER) {
            self.catalog.lived(lives);
            tokio::task::yield_now().await;
        }
    }

    /// Until there may be something to read, which had not been heard of then.
    async fn wait(&self, then: Heard) {
        let every = if self.ear.is_open() { LOOK_EVERY } else { LOOK_OFTEN };
        let look = tokio::time::sleep(every);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = &mut look => return,
                () = self.ear.heard() => {
                    let is_news = || {
                        let known = self.catalog.revision().borrow().unwrap_or_default();
                        self.ear.so_far().of(known.next(), then)
                    };
                    // Our own batches are told of, too, and come into the catalog at about the same time.
                    if is_news() {
                        tokio::time::sleep(GAPS_CLOSE).await;
                        if is_news() {
                            return;
                        }
                    }
                }
                () = self.catalog.gap() => {
                    if self.catalog.fleet().is_none() {
                        return;
                    }
                    tokio::time::sleep(GAPS_CLOSE).await;
                    if self.catalog.has_gap() {
                        return;
                    }
                }
            }
        }
    }
}

/// What was read that no hint had told of.
#[derive(Default)]
struct Untold {
    /// What had been heard when it was read last.
    heard: Heard,
    news: Option<News>,
    suspected: Option<Instant>,
}

/// Something that was read.
struct News {
    revision: Revision,
    read_at: Instant,
    /// What had been heard before it was there.
    heard: Heard,
}

impl Untold {
    /// Finds out whether the connection for hints is dead: what was read is told of, before or a little later.
    fn note(&mut self, followed: &Followed, heard: Heard, ear: &Ear) {
        let (now, by_now) = (Instant::now(), ear.so_far());
        if let Some(news) = self.news.take_if(|news| now >= news.read_at + HINTS_ARE_LATE) {
            let trusted = self.suspected.is_none_or(|at| now >= at + SUSPECT_EVERY);
            if ear.is_open() && !by_now.of(news.revision, news.heard) && trusted {
                self.suspected = Some(now);
                ear.is_deaf();
            }
        }
        // It wasn't there when it was read the last time.
        let earlier = std::mem::replace(&mut self.heard, heard);
        let newest = followed.events.last().map(|event| event.revision);
        if let Some(revision) = newest.filter(|newest| !by_now.of(*newest, earlier)) {
            self.news.get_or_insert(News { revision, read_at: now, heard: earlier });
        }
    }
}
