//! The log.

use prometheus::{IntCounter, Registry};

use super::{MetricsError, family};

/// The log.
pub struct Log {
    lost: IntCounter,
}

impl Log {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let help = "Lines of the log that were thrown away, because whoever reads them was too slow.";
        Ok(Self { lost: family::counter(registry, "log_lines_lost_total", help)? })
    }

    /// So many were lost so far.
    pub fn note_lost(&self, lines: u64) {
        self.lost.inc_by(lines.saturating_sub(self.lost.get()));
    }
}
