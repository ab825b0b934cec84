//! The log.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntCounter, Registry};

use super::{MetricsError, family};

/// The log.
pub struct Log {
    lost: IntCounter,
    /// So many are in the counter, or are being added by whoever has put the number here: two who ask at the same moment
    /// must not add the same.
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
    fn what_was_counted_is_not_counted_again() {
        let log = Log::new(&Registry::new()).unwrap();
        // The last one has looked before the others, and comes after them.
        for lines in [0, 3, 3, 10, 7] {
            log.note_lost(lines);
        }
        assert_eq!(log.lost.get(), 10);
    }
}
