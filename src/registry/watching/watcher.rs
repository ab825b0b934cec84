//! One that watches: a position in the order of changes.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::judge::{Judge, Told};
use super::{From, LOOKED_AT_ONCE, WatchQuery};
use crate::node::{ColumnText, EventQuery, Filter, PageLimit, Revision, Shown};
use crate::registry::catalog::{Change, Conditions, Fleet};
use crate::registry::{Registry, RegistryError};

/// So many nodes of a snapshot are told at once. What is told and not yet sent is all that a watcher keeps.
const NODES_AT_ONCE: PageLimit = PageLimit::of::<64>();
/// So many events are read from the log at once.
const EVENTS_AT_ONCE: PageLimit = PageLimit::of::<200>();
/// A snapshot that takes longer is cut off, unless all changes since it began are kept anyway: it keeps a fleet alive that
/// nobody else needs.
const LONGEST_SNAPSHOT: Duration = Duration::from_mins(5);
/// The pause after the database could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// What a watcher is told.
pub enum Notice {
    /// Some nodes that match, as they were when the watch began.
    Snapshot(Vec<Shown>),
    /// All nodes have been told, as of this revision. Changes follow.
    Synced(Revision),
    /// Changes, in their order.
    Changes(Vec<Told>),
    /// Nothing more is told.
    End(End),
}

/// Why a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server stops.
    Shutdown,
    /// The watcher reads more slowly than changes come, and the next one is not kept any more.
    SlowReader,
    /// What comes next is not known: its events were deleted, or the database was restored.
    Reset,
}

/// One that watches. It belongs to its client, and costs nothing when that is gone.
pub struct Watcher {
    registry: Arc<Registry>,
    query: WatchQuery,
    /// Those of the query.
    conditions: Conditions<'static>,
    /// All changes up to this one have been told, or need not be.
    position: Revision,
    /// The loading of the catalog that the position belongs to.
    epoch: u64,
    phase: Phase,
    pulse: watch::Receiver<()>,
}

enum Phase {
    /// Nodes of this fleet are told, those after `query.nodes.after`, since then.
    Snapshot(Arc<Fleet>, Instant),
    /// All of them have been told.
    Synced,
    /// It is not known whether the changes after the position are kept in memory.
    Behind,
    /// The changes after the position were kept in memory when it was looked last.
    Live,
}

impl Watcher {
    pub(super) fn new(registry: Arc<Registry>, mut query: WatchQuery, fleet: Arc<Fleet>) -> Self {
        query.nodes.limit = NODES_AT_ONCE;
        query.nodes.after = None;
        let epoch = fleet.epoch();
        let (position, phase) = match query.from {
            From::Now => (fleet.revision(), Phase::Live),
            From::Snapshot => (fleet.revision(), Phase::Snapshot(fleet, Instant::now())),
            From::After(after) => (after, Phase::Behind),
        };
        let pulse = registry.watching.pulse.subscribe();
        let conditions = Conditions::owning(query.nodes.clone());
        Self { registry, query, conditions, position, epoch, phase, pulse }
    }

    /// All changes up to this one have been told, or need not be.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.position
    }

    /// Whether nodes are told, and no changes yet.
    #[must_use]
    pub fn is_in_snapshot(&self) -> bool {
        matches!(self.phase, Phase::Snapshot(..) | Phase::Synced)
    }

    /// What is to be told next; waits until there is something. Nothing is lost if it is not waited for to the end.
    pub async fn next(&mut self) -> Notice {
        let stopping = self.registry.watching.stopping.clone();
        match stopping.run_until_cancelled(self.notice()).await {
            Some(notice) => notice,
            None => Notice::End(End::Shutdown),
        }
    }

    async fn notice(&mut self) -> Notice {
        loop {
            // Before looking: what comes while we look wakes us up again.
            self.pulse.mark_unchanged();
            if let Some(notice) = self.look().await {
                return notice;
            }
            // The sender lives as long as the registry, which is held here.
            let _ = self.pulse.changed().await;
        }
    }

    /// Looks whether there is something to tell.
    async fn look(&mut self) -> Option<Notice> {
        match &self.phase {
            Phase::Snapshot(fleet, begun) => {
                let (fleet, begun) = (Arc::clone(fleet), *begun);
                let notice = match self.outlives(begun) {
                    Some(end) => Notice::End(end),
                    None => self.next_nodes(&fleet).await,
                };
                if matches!(notice, Notice::End(_)) {
                    // The fleet is let go of, however long it takes to send the rest.
                    self.phase = Phase::Behind;
                }
                return Some(notice);
            }
            Phase::Synced => {
                self.phase = Phase::Behind;
                return Some(Notice::Synced(self.position));
            }
            Phase::Behind | Phase::Live => {}
        }
        loop {
            let fleet = self.registry.catalog.fleet()?;
            if fleet.epoch() != self.epoch
                // Boxed: it happens once, if ever, and each idle watcher would have room for it.
                && let Err(notice) = Box::pin(self.go_over_to(&fleet)).await
            {
                return notice;
            }
            // Another replica has been here.
            if fleet.revision() < self.position {
                return None;
            }
            let notice = match fleet.changes_after(self.position, LOOKED_AT_ONCE) {
                Ok(changes) => {
                    self.phase = Phase::Live;
                    self.next_changes(&fleet, changes)
                }
                Err(_) if matches!(self.phase, Phase::Live) => Some(Notice::End(End::SlowReader)),
                Err(_) => {
                    self.phase = Phase::Behind;
                    self.read_log(&fleet).await
                }
            };
            if notice.is_some() || self.position == fleet.revision() {
                return notice;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Goes on with a fleet that has been loaded since. `Err` has what is told instead.
    ///
    /// In place of what was on the disk, that is: its numbers are the table's own, so that the log says what has come after
    /// them. Any other fleet is only replaced if something was wrong with it, and the same numbers may mean something else.
    async fn go_over_to(&mut self, fleet: &Fleet) -> Result<(), Option<Notice>> {
        if self.registry.restored != Some(self.epoch) {
            return Err(Some(Notice::End(End::Reset)));
        }
        let turn = self.registry.watching.log_readers.acquire().await;
        match self.registry.check_log(self.position).await {
            Ok(()) => {
                self.epoch = fleet.epoch();
                self.phase = Phase::Behind;
                Ok(())
            }
            Err(RegistryError::EventsGone { .. }) => Err(Some(Notice::End(End::Reset))),
            Err(_) => {
                // With the turn: nobody else is told anything else now.
                tokio::time::sleep(PAUSE).await;
                drop(turn);
                Err(None)
            }
        }
    }

    /// Why a snapshot can't go on, if it can't.
    fn outlives(&self, begun: Instant) -> Option<End> {
        let present = self.registry.catalog.fleet()?;
        if present.epoch() != self.epoch {
            return Some(End::Reset);
        }
        let is_slow = begun.elapsed() > LONGEST_SNAPSHOT && present.changes_after(self.position, 0).is_err();
        is_slow.then_some(End::SlowReader)
    }

    async fn next_nodes(&mut self, fleet: &Arc<Fleet>) -> Notice {
        let found = loop {
            match self.registry.page(fleet, &self.query.nodes).await {
                Ok(found) => break found,
                // Others have their turn first.
                Err(RegistryError::Crowded) => {}
                Err(_) => return Notice::End(End::Reset),
            }
        };
        match found.nodes.last() {
            Some(last) if found.more => self.query.nodes.after = Some(last.record.node_id().clone()),
            _ => self.phase = Phase::Synced,
        }
        Notice::Snapshot(found.nodes)
    }

    fn next_changes(&mut self, fleet: &Fleet, changes: Vec<Arc<Change>>) -> Option<Notice> {
        let are_all = changes.len() < LOOKED_AT_ONCE;
        let judge = Judge::new(&self.conditions, fleet);
        let mut told = Vec::new();
        for change in changes {
            self.position = change.event.revision;
            if change.event.is_of(&self.query.kinds) {
                told.extend(judge.told(change));
            }
        }
        if are_all {
            self.position = fleet.revision();
        }
        some(told)
    }

    /// Tells what the log has and the memory hasn't any more. What the nodes were before is not known then.
    async fn read_log(&mut self, fleet: &Fleet) -> Option<Notice> {
        let query = EventQuery {
            after: Some(self.position),
            node_ids: self.node_ids(),
            kinds: self.query.kinds.clone(),
            limit: EVENTS_AT_ONCE,
        };
        let turn = self.registry.watching.log_readers.acquire().await;
        let page = match self.registry.events(&query).await {
            Ok(seen) => seen.value,
            Err(RegistryError::EventsGone { .. }) => return Some(Notice::End(End::Reset)),
            Err(_) => {
                // With the turn: nobody else is told anything else now.
                tokio::time::sleep(PAUSE).await;
                return None;
            }
        };
        drop(turn);
        let judge = Judge::new(&self.conditions, fleet);
        let mut told = Vec::new();
        // What the fleet doesn't have yet is told later, with the node as it is then.
        for event in page.events.into_iter().filter(|event| event.revision <= fleet.revision()) {
            let change = Arc::new(Change { event, before: None, after: None });
            told.extend(judge.told(change));
        }
        self.position = page.next_after.min(fleet.revision());
        some(told)
    }

    /// The ids that are asked for, if the log can look for them.
    fn node_ids(&self) -> Option<BTreeSet<ColumnText>> {
        let ids = self.query.nodes.filters.iter().find_map(|filter| match filter {
            Filter::NodeId(ids) => Some(ids),
            Filter::NodeType(_) | Filter::NodeVersion(_) => None,
        })?;
        (ids.len() <= EventQuery::MAX_NODE_IDS).then(|| ids.iter().cloned().collect())
    }
}

fn some(told: Vec<Told>) -> Option<Notice> {
    (!told.is_empty()).then_some(Notice::Changes(told))
}

impl Registry {
    /// Whether the log has all that comes after a revision, and ever had that revision.
    pub(super) async fn check_log(&self, after: Revision) -> Result<(), RegistryError> {
        let limit = PageLimit::of::<1>();
        self.events(&EventQuery { after: Some(after), limit, ..EventQuery::default() }).await.map(drop)
    }
}
