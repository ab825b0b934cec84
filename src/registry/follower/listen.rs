//! Listens for hints that there is something to follow.
//!
//! A hint is no more than that: it can be lost with its connection, or the connection can be dead without a word. So the
//! reader looks by itself every half a second, and tells us if it found what no hint had told of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::going::keep_going;
use crate::node::Revision;
use crate::registry::bounds::within;
use crate::store::{Hints, Store};

/// The pause after a connection was lost, or could not be had; doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pause before it is tried again whether hints get through after all; doubled each time, up to the longest. A pooler
/// lets none through for good, and a database that did nothing for a second just now, soon.
const FIRST_TRY_AGAIN: Duration = Duration::from_secs(5);
const LAST_TRY_AGAIN: Duration = Duration::from_mins(5);
/// To ask for hints takes this long at the most.
const LONGEST_CALL: Duration = Duration::from_secs(15);

/// What was heard. Written by the listener, read by the reader.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Whether hints get through.
    open: AtomicBool,
    /// The newest revision that a hint told of.
    told: AtomicI64,
    /// How many hints told of something, and not up to where.
    vague: AtomicU64,
    /// Something was heard: the reader is to look.
    heard: Notify,
    /// The reader found what nobody had told of: the connection is dead.
    deaf: Notify,
}

/// What had been heard at an instant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard {
    told: i64,
    vague: u64,
}

impl Heard {
    /// Whether a hint told of this revision, or of a later one, or, since another instant, of something that may be it.
    pub(super) fn of(self, revision: Revision, since: Self) -> bool {
        self.told >= revision.get() || self.vague != since.vague
    }
}

impl Ear {
    /// Whether hints get through: then it needn't be looked for them as often.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// What has been heard so far.
    pub(super) fn so_far(&self) -> Heard {
        Heard { told: self.told.load(Ordering::Acquire), vague: self.vague.load(Ordering::Acquire) }
    }

    /// Waits for a hint. One that came before is not lost.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }

    /// There was something that no hint told of, long enough ago.
    pub(super) fn is_deaf(&self) {
        self.open.store(false, Ordering::Release);
        self.deaf.notify_one();
    }

    fn tell(&self, hint: Option<Revision>) {
        match hint {
            Some(revision) => drop(self.told.fetch_max(revision.get(), Ordering::AcqRel)),
            None => drop(self.vague.fetch_add(1, Ordering::AcqRel)),
        }
        self.heard.notify_one();
    }

    /// All there is has been read since then, and it ends at this revision. If more was told of, that was never there, or
    /// was lost by a restore, and it must not stand for what comes up to it.
    pub(super) fn correct(&self, heard: Heard, newest: Revision) {
        if heard.told > newest.get() {
            // What has been told meanwhile is left alone.
            let _ = self.told.compare_exchange(heard.told, newest.get(), Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// Listens for as long as it is let.
pub(super) struct Listener {
    pub(super) store: Arc<dyn Store>,
    pub(super) ear: Arc<Ear>,
    pub(super) stop: CancellationToken,
}

impl Listener {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        // Dropping the hints closes their connection.
        stop.run_until_cancelled(keep_going("listening", || self.listen())).await;
    }

    async fn listen(&self) {
        // It may have been open when this panicked.
        self.ear.open.store(false, Ordering::Release);
        let mut pause = SHORTEST_PAUSE;
        let mut try_again = FIRST_TRY_AGAIN;
        let mut told = false;
        loop {
            let before_next = match within(LONGEST_CALL, self.store.hints()).await {
                Ok(Some(hints)) => {
                    if told {
                        tracing::info!("the database tells of changes at once again");
                    }
                    told = false;
                    try_again = FIRST_TRY_AGAIN;
                    if self.hear(hints).await {
                        pause = SHORTEST_PAUSE;
                    }
                    double(&mut pause, LONGEST_PAUSE)
                }
                Ok(None) => {
                    if !told {
                        tracing::warn!(
                            "the database can't tell of changes at once (a pooler in transaction mode?): it is asked \
                             for them several times a second"
                        );
                    }
                    told = true;
                    double(&mut try_again, LAST_TRY_AGAIN)
                }
                Err(error) => {
                    tracing::debug!(reason = crate::registry::reason(&error), "hints can't be had");
                    double(&mut pause, LONGEST_PAUSE)
                }
            };
            tokio::time::sleep(before_next).await;
        }
    }

    /// Hears hints until there can be no more. Whether there was any.
    async fn hear(&self, mut hints: Box<dyn Hints>) -> bool {
        self.ear.open.store(true, Ordering::Release);
        // What happened before may have gone untold.
        self.ear.tell(None);
        let mut any = false;
        loop {
            tokio::select! {
                hint = hints.next() => match hint {
                    Ok(hint) => {
                        any = true;
                        self.ear.tell(hint);
                    }
                    Err(error) => {
                        tracing::info!(reason = crate::registry::reason(&error), "the connection for hints was lost");
                        break;
                    }
                },
                () = self.ear.deaf.notified() => {
                    tracing::warn!("the connection for hints is dead: changes came that it did not tell of");
                    break;
                }
            }
        }
        self.ear.open.store(false, Ordering::Release);
        self.ear.tell(None);
        any
    }
}

/// This pause. The next one is twice as long, up to the longest.
fn double(pause: &mut Duration, longest: Duration) -> Duration {
    let next = (*pause * 2).min(longest);
    std::mem::replace(pause, next)
}
