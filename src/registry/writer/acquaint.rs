//! Nodes that were written, and that the catalog doesn't know so.
//!
//! A sign of life, or a registration that changes nothing, leaves no event. The node itself may be one that another
//! replica took a moment ago, or that somebody has put into the table while the triggers were disabled. The catalog has
//! to hear of it first, so that who wrote finds it by his next read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Writer;
use super::tell::Tell;
use crate::node::{NodeKey, NodeRecord};
use crate::registry::catalog::Fleet;
use crate::registry::follower::Suspicion;
use crate::registry::{RegistryError, reason};
use crate::store::digest;

/// For so long the catalog is waited for at the most. What was written is in the database, and the answer says no more.
const PATIENCE: Duration = Duration::from_secs(2);

impl Writer {
    /// Tells this, as soon as these nodes can be read. The lane doesn't wait for that.
    pub(super) fn once_known<T: Tell>(self: &Arc<Self>, ids: HashSet<NodeKey>, later: Vec<T>) {
        if ids.is_empty() {
            return;
        }
        let writer = Arc::clone(self);
        self.tasks.spawn(async move {
            let ids: Vec<NodeKey> = ids.into_iter().collect();
            let known = tokio::time::timeout(PATIENCE, writer.acquaint(&ids)).await;
            if let Err(error) = known.unwrap_or(Err(RegistryError::Behind)) {
                let reason = reason(&error);
                tracing::warn!(nodes = ids.len(), reason, "what was written can't be read here yet");
            }
            writer.tell_all(later);
        });
    }

    async fn acquaint(&self, ids: &[NodeKey]) -> Result<(), RegistryError> {
        let seen = self.store.records(ids).await?;
        self.catalog.reaches(seen.revision).await;
        let Some(fleet) = self.catalog.fleet() else { return Ok(()) };
        let unknown = seen.value.into_iter().filter(|record| !is_known(&fleet, record));
        let ids: Vec<NodeKey> = unknown.map(|record| record.node_id).collect();
        if !ids.is_empty() {
            let (suspicion, looked_at) = Suspicion::of(ids);
            // Without anybody who compares table and catalog, it is left at that.
            if self.suspicions.send(suspicion).await.is_ok() {
                drop(looked_at.await);
            }
        }
        Ok(())
    }
}

fn is_known(fleet: &Fleet, record: &NodeRecord) -> bool {
    fleet.get(&record.node_id).is_some_and(|node| {
        node.revision() > record.revision || node.digest().columns == digest::of_columns(record)
    })
}
