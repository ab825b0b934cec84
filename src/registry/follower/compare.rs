//! Compares the catalog with the table: triggers can be disabled and databases restored, and then no event tells of a
//! change. What differs is recorded as events of the registry's own, by the replica that leads, and followed by all like
//! any other: so whoever watches is told, too. Only what no event is ever about is mended here, and what somebody waits for
//! that has written it, and that nobody can record at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::owed::Owed;
use crate::going::survive;
use crate::metrics::Metrics;
use crate::node::{EventKind, NodeKey, NodeRecord, Revision, Timestamp};
use crate::registry::RegistryError;
use crate::registry::bounds::within;
use crate::registry::catalog::{Catalog, Correction, Fleet};
use crate::registry::health::Standing;
use crate::store::health::ReplicaId;
use crate::store::{Digest, Seen, Store, Unrecorded, digest};

/// One comparison takes this long at the most,
const LONGEST: Duration = Duration::from_mins(2);
/// and the follower, this long to get to what the table has shown.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// So many nodes are looked at again, and told of, at a time.
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
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let comparing =
            async { while survive("comparing", self.compare_again_and_again()).await.is_none() {} };
        stop.run_until_cancelled(comparing).await;
    }

    async fn compare_again_and_again(&mut self) {
        let mut owed = Owed::default();
        let mut next = Instant::now() + self.every;
        loop {
            let suspicion = tokio::select! {
                () = tokio::time::sleep_until(next) => None,
                Some(suspicion) = self.suspected.recv() => Some(suspicion),
            };
            let compared = async {
                match &suspicion {
                    Some(suspicion) => self.look_into(&suspicion.ids, &mut owed).await,
                    None => self.compare(&mut owed).await,
                }
            };
            let outcome = within(LONGEST, compared).await;
            if suspicion.is_none() {
                next = Instant::now() + self.every;
            }
            if let Err(error) = outcome
                && !error.is_of_an_outage(self.store.can_fall_silent())
            {
                tracing::warn!(
                    reason = crate::registry::reason(&error),
                    "table and catalog can't be compared"
                );
            }
        }
    }

    async fn compare(&self, owed: &mut Owed) -> Result<(), RegistryError> {
        if self.catalog.fleet().is_none() {
            return Ok(());
        }
        let mut table = HashMap::new();
        let mut take = |id, digest| {
            table.insert(id, digest);
        };
        let snapshot = self.store.digests(&mut take).await?;
        let Some(fleet) = self.fleet_at(snapshot.revision).await? else { return Ok(()) };
        // It goes through the whole fleet, and reckons the hash of each node that is new.
        let finding = tokio::task::spawn_blocking(move || suspects(&fleet, table, &snapshot));
        let mut suspects = finding.await.map_err(|_| RegistryError::Interrupted)?;
        suspects.extend(owed.ids().cloned());
        let suspects: Vec<NodeKey> = suspects.into_iter().collect();
        self.look_at(&suspects, owed).await?;
        let recorded = self.record(owed.unrecorded(), owed).await.map(drop);
        let overdue = owed.overdue(self.every);
        if overdue > 0 {
            tracing::warn!(
                nodes = overdue,
                "nobody has recorded what the table holds and no event has told of: all is read anew"
            );
            owed.all_are_known();
            self.catalog.unload();
        }
        recorded
    }

    /// Somebody has written these nodes, and the catalog doesn't know them so. He waits, and is to find them by his next
    /// read: by their event if it can be recorded now, and by what the table has if that is for others to do.
    async fn look_into(&self, ids: &[NodeKey], owed: &mut Owed) -> Result<(), RegistryError> {
        self.look_at(ids, owed).await?;
        let recorded = self.record(owed.unrecorded_of(ids), owed).await;
        for ids in owed.unknown_of(ids).chunks(TOGETHER) {
            self.put_in(ids, owed).await?;
        }
        if let Some(newest) = recorded? {
            self.fleet_at(newest).await?;
        }
        Ok(())
    }

    /// Looks again at nodes that may differ.
    async fn look_at(&self, suspects: &[NodeKey], owed: &mut Owed) -> Result<(), RegistryError> {
        let mut found = 0;
        for ids in suspects.chunks(TOGETHER) {
            found += self.look_again(ids, owed).await?;
        }
        if found > 0 {
            tracing::warn!(nodes = found, "the table holds what no event has told of (disabled triggers?)");
            self.metrics.catalog.mended(found);
        }
        Ok(())
    }

    /// Puts nodes into the catalog as the table has them. Their events are owed as before.
    async fn put_in(&self, ids: &[NodeKey], owed: &mut Owed) -> Result<(), RegistryError> {
        let Seen { value: records, revision, horizon } = self.store.records(ids).await?;
        if self.fleet_at(revision).await?.is_some() {
            for record in &records {
                owed.is_known(&record.node_id);
            }
            self.catalog.untold(&Seen { value: (), revision, horizon }, records);
        }
        Ok(())
    }

    /// The fleet once it has all changes up to a revision. `None`: it is being loaded.
    async fn fleet_at(&self, revision: Revision) -> Result<Option<Arc<Fleet>>, RegistryError> {
        let reached = async {
            self.catalog.reaches(revision).await;
            Ok(())
        };
        within(LONGEST_WAIT, reached).await?;
        Ok(self.catalog.fleet())
    }

    /// Looks again at nodes that differ or have differed, and mends the times of those whose registration doesn't; says
    /// in how many it does, and was not known to.
    async fn look_again(&self, ids: &[NodeKey], owed: &mut Owed) -> Result<u64, RegistryError> {
        let Some(fleet) = self.catalog.fleet() else { return Ok(0) };
        // Whatever is known by now has been committed, and is in the snapshot that is taken next.
        let noted: HashMap<&NodeKey, Digest> =
            ids.iter().filter_map(|id| Some((id, fleet.get(id)?.digest()))).collect();
        let Seen { value: records, revision, horizon } = self.store.records(ids).await?;
        let Some(fleet) = self.fleet_at(revision).await? else { return Ok(0) };
        let snapshot = Seen { value: (), revision, horizon };
        let mut present: HashMap<NodeKey, NodeRecord> =
            records.into_iter().map(|record| (record.node_id.clone(), record)).collect();
        let mut found = 0;
        let mut corrections = Vec::new();
        for id in ids {
            let (known, record) = (fleet.get(id).map(|node| node.digest()), present.remove(id));
            let stored = record.as_ref().map(digest_of);
            if let Some(kind) = difference(known.as_ref(), stored.as_ref(), &snapshot) {
                // Of a row that is gone, the last event of the registration that it had tells which one that was.
                let newest = stored.or(known).map_or(Revision::ZERO, |digest| digest.revision);
                found += u64::from(owed.note(id, kind, newest));
                continue;
            }
            owed.agree(id, record.as_ref());
            if let (Some(record), Some(noted)) = (record, noted.get(id))
                && known != stored
            {
                corrections.push(Correction { record, noted: *noted });
            }
        }
        self.catalog.corrected(&snapshot, corrections);
        Ok(found)
    }

    /// Records events that are owed, if this replica leads. Returns the number of the last one.
    async fn record(
        &self,
        unrecorded: Vec<Unrecorded>,
        owed: &mut Owed,
    ) -> Result<Option<Revision>, RegistryError> {
        let mut newest = None;
        for unrecorded in unrecorded.chunks(TOGETHER) {
            if !self.standing.borrow().leads() {
                break;
            }
            let recorded = self.store.repair(&self.replica, unrecorded).await?;
            for event in recorded.iter().flatten() {
                owed.told(&event.node_id);
                newest = newest.max(Some(event.revision));
            }
        }
        Ok(newest)
    }
}

/// Those nodes that seem to be something else in the table than in the catalog.
fn suspects(fleet: &Fleet, mut table: HashMap<NodeKey, Digest>, snapshot: &Seen<()>) -> HashSet<NodeKey> {
    let mut suspects = HashSet::new();
    fleet.for_each_digest(|id, known| {
        let stored = table.remove(id);
        if difference(Some(&known), stored.as_ref(), snapshot).is_some()
            || stored.is_some_and(|stored| differs_otherwise(&known, &stored, snapshot))
        {
            suspects.insert(id.clone());
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
    // What was noted since is no difference. But a foreign writer may have set a time far in the future, and back.
    let end = snapshot.horizon.at.plus_micros(i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX));
    let is_later = |at: Timestamp| at > snapshot.horizon.at && at <= end;
    let later = known.last_heartbeat.is_some_and(is_later) || is_later(known.updated_at);
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
