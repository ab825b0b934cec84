//! What all clients of a site write down.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::checker::Operation;
use crate::rules::{Asked, Beat, Stream};

/// Where clients write down what they asked, and were told. Each list has a std mutex, held for a push.
pub(crate) struct Book {
    began: Instant,
    asked: Mutex<Vec<Asked>>,
    history: Mutex<Vec<Operation>>,
    beats: Mutex<Vec<Beat>>,
    streams: Mutex<Vec<Stream>>,
    /// What each watcher was told, by its number.
    told: Mutex<Vec<(usize, Vec<i64>)>>,
    /// The newest revision that some client was told of: to be asked for elsewhere.
    newest: AtomicI64,
    /// The last number that a client has written.
    values: AtomicI64,
}

impl Book {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            asked: Mutex::default(),
            history: Mutex::default(),
            beats: Mutex::default(),
            streams: Mutex::default(),
            told: Mutex::default(),
            newest: AtomicI64::new(0),
            values: AtomicI64::new(0),
        }
    }

    /// Microseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A number that nobody has written.
    pub(crate) fn next_value(&self) -> i64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn newest(&self) -> i64 {
        self.newest.load(Ordering::SeqCst)
    }

    pub(crate) fn is_told_of(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        locked(&self.asked)
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, Vec<Operation>> {
        locked(&self.history)
    }

    pub(crate) fn beats(&self) -> MutexGuard<'_, Vec<Beat>> {
        locked(&self.beats)
    }

    pub(crate) fn streams(&self) -> MutexGuard<'_, Vec<Stream>> {
        locked(&self.streams)
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Vec<(usize, Vec<i64>)>> {
        locked(&self.told)
    }
}

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // A push is whole, or hasn't happened.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
