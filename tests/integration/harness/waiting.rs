//! Waiting for what comes true by itself, and not for ever.

use std::time::{Duration, Instant};

/// Longer than anything takes, whatever else the machine does.
const FOREVER: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// How long has been waited for something.
pub(crate) struct Waiting {
    began: Instant,
    at_most: Duration,
}

impl Waiting {
    pub(crate) fn begin() -> Self {
        Self::at_most(FOREVER)
    }

    pub(crate) fn at_most(at_most: Duration) -> Self {
        Self { began: Instant::now(), at_most }
    }

    /// The pause before the next look. Panics, and says what has not come true, if there should be no other.
    pub(crate) async fn look_again(&self, what: impl FnOnce() -> String) {
        assert!(self.began.elapsed() < self.at_most, "it never came true: {}", what());
        tokio::time::sleep(PAUSE).await;
    }
}
