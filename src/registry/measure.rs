//! What is measured when somebody asks for the metrics.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Registry;
use crate::node::NodeType;

/// Counting a fleet goes through all of it: not oftener than this, however often is asked.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Metrics are asked for most when the database is slow, so they don't wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the fleet was last counted. Locked while it is counted: whoever comes second doesn't wait for it.
#[derive(Debug, Default)]
pub(super) struct LastCount(Mutex<Option<Instant>>);

impl Registry {
    /// Measures what nobody counts as it happens: connections, and nodes by type and status.
    pub async fn measure(&self) {
        self.metrics.database.set_connections(self.store.connections());
        let Ok(mut last) = self.last_count.0.try_lock() else { return };
        if last.is_some_and(|last| last.elapsed() < COUNT_EVERY) {
            return;
        }
        *last = Some(Instant::now());
        match tokio::time::timeout(PATIENCE, self.store.summary()).await {
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
