//! Deleting old events, a few at a time, while this replica leads.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::standing::Follow;
use super::{bounded, survive};
use crate::metrics::Metrics;
use crate::node::Revision;
use crate::registry::RegistryError;
use crate::store::Store;
use crate::store::health::ReplicaId;

/// The pause before events are looked for that have become old enough.
const PAUSE: Duration = Duration::from_secs(10);
/// The pause between two batches: everybody else gets through.
const BETWEEN_BATCHES: Duration = Duration::from_millis(50);

/// Sees to it that events are kept no longer than they have to be.
pub(super) struct Retention {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) replica: ReplicaId,
    pub(super) follow: Follow,
    pub(super) keep: Duration,
    pub(super) stop: CancellationToken,
}

impl Retention {
    pub(super) async fn run(mut self) {
        // Where the second pass goes on, over what the first has left.
        let mut after = Revision::ZERO;
        let stop = self.stop.clone();
        while let Some(Some(_)) = stop.run_until_cancelled(self.follow.until_leading()).await {
            let pause = match survive("retention", self.batch(&mut after)).await {
                Some(Ok(pause)) => pause,
                None => PAUSE,
                Some(Err(error)) => {
                    tracing::warn!(reason = crate::registry::reason(&error), "old events can't be deleted");
                    PAUSE
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn batch(&self, after: &mut Revision) -> Result<Duration, RegistryError> {
        let leader = &self.replica;
        let Some(pruned) = bounded(self.store.prune_events(leader, self.keep)).await? else {
            return Ok(PAUSE);
        };
        self.metrics.database.events_pruned(pruned.deleted);
        if pruned.more {
            return Ok(BETWEEN_BATCHES);
        }
        let Some(swept) = bounded(self.store.sweep_events(leader, *after)).await? else { return Ok(PAUSE) };
        self.metrics.database.events_pruned(swept.deleted);
        *after = swept.next.unwrap_or_default();
        Ok(PAUSE)
    }
}
