//! The time that probes are due at: the wall clock, as it was when it was looked at last, and steady from there.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Unix time that never jumps. The rhythm of probes is kept in Unix time because it is the same on all replicas; but a
/// wall clock that is set back by an hour must not stop the probes for an hour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    wall: Duration,
    at: Instant,
}

impl Clock {
    /// A clock that starts with the present wall time.
    pub(super) fn start() -> Self {
        // A clock before 1970 is as good as any: only the rhythm comes from it.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { wall, at: Instant::now() }
    }

    /// The present time since the Unix epoch.
    pub(super) fn now(&self) -> Duration {
        self.wall + self.at.elapsed()
    }

    /// When the clock will show this time since the Unix epoch.
    pub(super) fn instant(&self, unix_time: Duration) -> Instant {
        self.at + unix_time.saturating_sub(self.wall)
    }
}
