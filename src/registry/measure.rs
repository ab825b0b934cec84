//! What is measured when somebody asks for the metrics.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Registry;
use crate::node::NodeType;
use crate::store::Connections;

/// Counting a fleet goes through all of it: not oftener than this, however often is asked.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Metrics are asked for most when the database is slow, so they don't wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// When the fleet was last counted, or is being counted: whoever comes second doesn't count it too, nor waits. A lock for
/// a copy, never held over an await.
#[derive(Debug, Default)]
pub(super) struct LastCount(Mutex<Option<Instant>>);

impl LastCount {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= COUNT_EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

impl Registry {
    /// Measures what nobody counts as it happens: connections, what waits to be written, and nodes by type and status.
    pub async fn measure(&self) {
        let Connections { idle, in_use, max } = self.store.connections();
        self.metrics.database.set_connections(crate::metrics::Connections { idle, in_use, max });
        self.metrics.writes.set_queue_lengths(self.writer.lengths());
        if let Some(age) = self.currency.age() {
            self.metrics.catalog.set_stale(age);
        }
        let fleet = self.catalog.fleet();
        self.metrics.catalog.set_changes(fleet.as_ref().map_or(0, |fleet| fleet.kept_changes()));
        if !self.last_count.is_due() {
            return;
        }
        let count = async {
            match fleet {
                Some(fleet) => self.counted(fleet).await,
                None => self.store.summary().await,
            }
        };
        match tokio::time::timeout(PATIENCE, count).await {
            Ok(Ok(seen)) => {
                let counts: Vec<_> = seen
                    .value
                    .by_type_and_status
                    .entries
                    .iter()
                    .map(|((node_type, status), nodes)| (NodeType::from_name(node_type), *status, *nodes))
                    .collect();
                self.metrics.nodes.set(&counts);
                self.metrics.database.set_revision(seen.revision.get());
            }
            // Old numbers would be a claim.
            Ok(Err(_)) | Err(_) => self.metrics.nodes.clear(),
        }
    }
}
