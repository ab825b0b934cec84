//! Where a database without a clock of its own takes its time from.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::node::Timestamp;

/// A clock. Passed in, so that what depends on time can be tested without sleeping.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            // A clock before 1970 is wrong, but no reason to stop.
            Err(_) => 0,
        };
        Timestamp::from_unix_micros(micros)
    }
}
