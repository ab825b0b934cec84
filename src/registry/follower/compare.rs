//! Compares the catalog with the table: triggers can be disabled and databases restored, and then no event tells of a
//! change. What differs is recorded as events of the registry's own, by the replica that leads, and read anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::node::{EventKind, NodeKey, NodeRecord, Revision};
use crate::registry::RegistryError;
use crate::registry::catalog::{Catalog, Fleet};
use crate::registry::health::Standing;
use crate::store::health::ReplicaId;
use crate::store::{Digest, Seen, Store, Unrecorded, digest};

/// One comparison takes this long at the most.
const LONGEST: Duration = Duration::from_mins(2);
/// So many nodes are looked at again, and mended, at a time.
const TOGETHER: usize = 1_000;

/// So many suspicions may wait. Who has another waits until there is room.
const MAX_SUSPICIONS: usize = 16;

/// Compares table and catalog now and then.
pub(super) struct Comparer {
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) replica: ReplicaId,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) every: Duration,
    pub(super) suspected: mpsc::Receiver<Suspicion>,
    pub(super) stop: CancellationToken,
}

/// Nodes that are to be compared at once. Who has found them is told when they have been.
pub(in crate::registry) struct Suspicion {
    ids: Vec<NodeKey>,
    /// Dropped then.
    _looked_at: oneshot::Sender<()>,
}

impl Suspicion {
    pub(in crate::registry) fn of(ids: Vec<NodeKey>) -> (Self, oneshot::Receiver<()>) {
        let (looked_at, is_looked_at) = oneshot::channel();
        (Self { ids, _looked_at: looked_at }, is_looked_at)
    }

    pub(in crate::registry) fn channel() -> (mpsc::Sender<Self>, mpsc::Receiver<Self>) {
        mpsc::channel(MAX_SUSPICIONS)
    }
}

impl Comparer {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.compare_again_and_again()).await;
    }

    async fn compare_again_and_again(mut self) {
        let mut next = Instant::now() + self.every;
        loop {
            let suspicion = tokio::select! {
                () = tokio::time::sleep_until(next) => None,
                Some(suspicion) = self.suspected.recv() => Some(suspicion),
            };
            let compared = async {
                match &suspicion {
                    Some(suspicion) => self.look_at(&suspicion.ids).await,
                    None => self.compare().await,
                }
            };
            let outcome = tokio::time::timeout(LONGEST, compared).await;
            let outcome = outcome.unwrap_or(Err(RegistryError::Interrupted));
            if suspicion.is_none() {
                next = Instant::now() + self.every;
            }
            if let Err(error) = outcome {
                tracing::warn!(
                    reason = crate::registry::reason(&error),
                    "table and catalog can't be compared"
                );
            }
        }
    }

    async fn compare(&self) -> Result<(), RegistryError> {
        if self.catalog.fleet().is_none() {
            return Ok(());
        }
        let mut table = HashMap::new();
        let mut take = |id, digest| {
            table.insert(id, digest);
        };
        let snapshot = self.store.digests(&mut take).await?;
        let Some(fleet) = self.fleet_at(snapshot.revision).await else { return Ok(()) };
        self.look_at(&suspects(&fleet, table, &snapshot)).await
    }

    async fn look_at(&self, suspects: &[NodeKey]) -> Result<(), RegistryError> {
        let mut mended = 0;
        for ids in suspects.chunks(TOGETHER) {
            mended += self.mend(ids).await?;
        }
        if mended > 0 {
            tracing::warn!(
                nodes = mended,
                "the table held what no event had told of (disabled triggers?): the catalog was mended"
            );
            self.metrics.catalog.mended(mended);
        }
        Ok(())
    }

    /// The fleet once it has all changes up to a revision.
    async fn fleet_at(&self, revision: Revision) -> Option<Arc<Fleet>> {
        let mut known = self.catalog.revision();
        known.wait_for(|known| known.is_some_and(|known| known >= revision)).await.ok()?;
        self.catalog.fleet()
    }

    /// Looks again, at nodes that differ or have differed, and mends those that do; says how many.
    async fn mend(&self, ids: &[NodeKey]) -> Result<u64, RegistryError> {
        let Seen { value: records, revision, horizon } = self.store.records(ids).await?;
        let Some(fleet) = self.fleet_at(revision).await else { return Ok(0) };
        let snapshot = Seen { value: (), revision, horizon };
        let present: HashMap<&NodeKey, &NodeRecord> =
            records.iter().map(|record| (&record.node_id, record)).collect();
        let mut unrecorded = Vec::new();
        for id in ids {
            let (known, record) = (fleet.get(id).map(|node| node.digest()), present.get(id).copied());
            if let Some(kind) = difference(known.as_ref(), record.map(digest_of).as_ref(), &snapshot) {
                let revision = record.map_or(Revision::ZERO, |record| record.revision);
                unrecorded.push(Unrecorded { node_id: id.clone(), kind, revision });
            }
        }
        let mended = unrecorded.len() as u64;
        if mended > 0 && self.standing.borrow().leads() {
            // Whoever follows the log reads these nodes anew.
            self.store.repair(&self.replica, &unrecorded).await?;
        }
        let gone: Vec<NodeKey> = ids.iter().filter(|id| !present.contains_key(id)).cloned().collect();
        // Signs of life and times of registration, too, which no event is ever about.
        self.catalog.corrected(&snapshot, records, &gone);
        Ok(mended)
    }
}

/// Those nodes that seem to be something else in the table than in the catalog.
fn suspects(fleet: &Fleet, mut table: HashMap<NodeKey, Digest>, snapshot: &Seen<()>) -> Vec<NodeKey> {
    let mut suspects = Vec::new();
    fleet.for_each_digest(|id, known| {
        let stored = table.remove(id);
        if difference(Some(&known), stored.as_ref(), snapshot).is_some()
            || stored.is_some_and(|stored| differs_otherwise(&known, &stored, snapshot))
        {
            suspects.push(id.clone());
        }
    });
    let unknown = |(id, stored): (NodeKey, Digest)| difference(None, Some(&stored), snapshot).map(|_| id);
    // It may have been removed since, and the catalog knows: a second look finds out.
    suspects.extend(table.into_iter().filter_map(unknown));
    suspects
}

/// What an event should have said, if the registration in the catalog isn't that of the table. What has changed since the
/// snapshot is not known to differ.
fn difference(known: Option<&Digest>, stored: Option<&Digest>, snapshot: &Seen<()>) -> Option<EventKind> {
    match (known, stored) {
        (Some(known), _) if known.revision > snapshot.revision => None,
        (Some(_), None) => Some(EventKind::Deregistered),
        (None, Some(_)) => Some(EventKind::Registered),
        (Some(known), Some(stored)) if known.registered_at != stored.registered_at => {
            Some(EventKind::Registered)
        }
        (Some(known), Some(stored)) if known.columns != stored.columns => Some(EventKind::Updated),
        _ => None,
    }
}

/// Whether somebody has set the times of a node by hand, or the number of its registration is another.
fn differs_otherwise(known: &Digest, stored: &Digest, snapshot: &Seen<()>) -> bool {
    let later = known.last_heartbeat.is_some_and(|at| at > snapshot.horizon.at)
        || known.updated_at > snapshot.horizon.at;
    let of = |digest: &Digest| (digest.revision, digest.last_heartbeat, digest.updated_at);
    !later && of(known) != of(stored)
}

fn digest_of(record: &NodeRecord) -> Digest {
    Digest {
        revision: record.revision,
        columns: digest::of_columns(record),
        last_heartbeat: record.last_heartbeat,
        registered_at: record.registered_at,
        updated_at: record.updated_at,
    }
}
