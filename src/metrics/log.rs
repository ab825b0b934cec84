//! The log.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntCounter, Registry};

use super::{MetricsError, family};

/// The log.
pub struct Log {
    lost: IntCounter,
    /// So many are in the counter, or are being added by whoever has put the number here.
    noted: AtomicU64,
}

impl Log {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let help = "Lines of the log that were thrown away, because whoever reads them was too slow.";
        Ok(Self { lost: family::counter(registry, "log_lines_lost_total", help)?, noted: AtomicU64::new(0) })
    }

    /// So many were lost so far.
    pub fn note_lost(&self, lines: u64) {
        let noted = self.noted.fetch_max(lines, Ordering::Relaxed);
        self.lost.inc_by(lines.saturating_sub(noted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_at_the_same_time_counts_nothing_twice() {
        let log = Log::new(&Registry::new()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..=10_000).for_each(|lines| log.note_lost(lines)));
            }
        });
        assert_eq!(log.lost.get(), 10_000);
        log.note_lost(9_999);
        assert_eq!(log.lost.get(), 10_000, "who has looked before, and comes after");
    }
}
