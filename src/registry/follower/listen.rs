//! Listens for hints that there is something to follow.
//!
//! A hint is no more than that: it can be lost with its connection, or the connection can be dead without a word. So the
//! reader looks by itself every half a second, and tells us if it found what no hint had told of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::node::Revision;
use crate::store::{Hints, Store};

/// The pause after a connection was lost, or could not be had; doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often it is tried again whether hints get through after all.
const TRY_AGAIN: Duration = Duration::from_mins(5);
/// To ask for hints takes this long at the most.
const LONGEST_CALL: Duration = Duration::from_secs(15);

/// What was heard. Written by the listener, read by the reader.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Whether hints get through.
    open: AtomicBool,
    /// The newest revision that a hint told of.
    told: AtomicI64,
    /// Something was heard: the reader is to look.
    heard: Notify,
    /// The reader found what nobody had told of: the connection is dead.
    deaf: Notify,
}

impl Ear {
    /// Whether hints get through: then it needn't be looked for them as often.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether a hint told of this revision, or of a later one.
    pub(super) fn was_told_of(&self, revision: Revision) -> bool {
        self.told.load(Ordering::Acquire) >= revision.get()
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
            Some(revision) => self.told.fetch_max(revision.get(), Ordering::AcqRel),
            // It may be about anything.
            None => self.told.swap(i64::MAX, Ordering::AcqRel),
        };
        self.heard.notify_one();
    }

    /// From now on, what is to be told is what comes after this revision.
    pub(super) fn forget(&self, seen: Revision) {
        let _ = self.told.compare_exchange(i64::MAX, seen.get(), Ordering::AcqRel, Ordering::Acquire);
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
        stop.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&self) {
        let mut pause = SHORTEST_PAUSE;
        let mut told = false;
        loop {
            let asked = tokio::time::timeout(LONGEST_CALL, self.store.hints()).await;
            match asked {
                Ok(Ok(Some(hints))) => {
                    if told {
                        tracing::info!("the database tells of changes at once again");
                    }
                    told = false;
                    if self.hear(hints).await {
                        pause = SHORTEST_PAUSE;
                    }
                }
                Ok(Ok(None)) => {
                    if !told {
                        tracing::warn!(
                            "the database can't tell of changes at once (a pooler in transaction mode?): it is asked \
                             for them several times a second"
                        );
                    }
                    told = true;
                    pause = TRY_AGAIN;
                }
                Ok(Err(error)) => {
                    tracing::debug!(reason = crate::registry::reason(&error), "hints can't be had");
                }
                Err(_) => tracing::debug!("hints can't be had: it took too long"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
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
