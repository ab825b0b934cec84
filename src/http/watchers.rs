//! How many may wait for changes at once: watches and long polls. With HTTP/2, a connection may have hundreds.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use super::seldom::Seldom;

/// Counts who waits for changes.
pub(super) struct Watchers {
    room: Arc<Semaphore>,
    told: Seldom,
}

/// One that waits. It counts as long as this lives.
pub(super) struct Place {
    _room: OwnedSemaphorePermit,
}

impl Watchers {
    pub(super) fn new(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), told: Seldom::default() }
    }

    /// One more.
    ///
    /// # Errors
    /// If there are as many as may be.
    pub(super) fn enter(&self) -> Result<Place, Problem> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            if self.told.is_due() {
                tracing::warn!(
                    "as many wait for changes as may (ONEX_REGISTRY_MAX_WATCHERS): those that come now are told to come again"
                );
            }
            Problem::too_many_watchers()
        })?;
        Ok(Place { _room: room })
    }
}
