//! How current the catalog is: when this replica last knew that it has all that the table has.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Younger than this, nobody is told. The table is looked at twice a second.
const FRESH: Duration = Duration::from_secs(3);

/// Never.
const NEVER: i64 = i64::MIN;

/// When the catalog was last known to be up to date. Written by who follows the table, read for each answer.
#[derive(Debug)]
pub(super) struct Currency {
    /// Instants are counted from this one. What was known by an earlier process lies before it.
    began: Instant,
    /// In microseconds since then.
    known: AtomicI64,
    /// Whether this process has found it out itself.
    is_confirmed: AtomicBool,
}

impl Currency {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), known: AtomicI64::new(NEVER), is_confirmed: AtomicBool::new(false) }
    }

    /// All that was there at an instant is known.
    pub(super) fn note(&self, at: Instant) {
        self.known.fetch_max(micros(at.saturating_duration_since(self.began)), Ordering::AcqRel);
        self.is_confirmed.store(true, Ordering::Release);
    }

    /// What was there so long ago is known, as an earlier process has left it.
    pub(super) fn note_age(&self, age: Duration) {
        let now = micros(self.began.elapsed());
        self.known.fetch_max(now.saturating_sub(micros(age)), Ordering::AcqRel);
    }

    /// For how long it isn't known what the table has; `None` if nothing ever was.
    pub(super) fn age(&self) -> Option<Duration> {
        let known = self.known.load(Ordering::Acquire);
        let age = micros(self.began.elapsed()).saturating_sub(known);
        (known != NEVER).then(|| Duration::from_micros(u64::try_from(age).unwrap_or_default()))
    }

    /// The same, if it is long enough for others to be told. What an earlier process has left is never fresh.
    pub(super) fn stale(&self) -> Option<Duration> {
        self.age().filter(|age| *age >= FRESH || !self.is_confirmed.load(Ordering::Acquire))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_last_counts() {
        let currency = Currency::new();
        assert_eq!((currency.age(), currency.stale()), (None, None));
        currency.note_age(Duration::ZERO);
        assert!(currency.stale().is_some(), "nobody here has found it out");
        let currency = Currency::new();
        currency.note_age(Duration::from_hours(1));
        assert!(currency.stale().is_some_and(|age| age >= Duration::from_hours(1)));
        currency.note(Instant::now());
        assert!(currency.age().is_some() && currency.stale().is_none());
        currency.note_age(Duration::from_hours(1));
        assert_eq!(currency.stale(), None, "what was known earlier is known still");
    }
}
