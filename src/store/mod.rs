//! The durable truth: the [`Store`] interface, and PostgreSQL and SQLite behind it.
//!
//! All SQL of the program is below this module, as static text with bound values. Nothing here knows of HTTP.

pub mod clock;
pub mod digest;
mod error;
mod event_page;
pub mod follow;
pub mod health;
pub mod migration;
mod news;
pub(crate) mod page;
pub mod postgres;
mod retention;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;

pub use error::StoreError;
pub use event_page::EventPage;
pub use follow::{Digest, EventMark, Followed, Hints, Loaded, Position, Recorded, Signs, Written};
pub use page::Page;
pub use retention::{Pruned, Swept};

use self::health::{Census, FleetWatch, LifeChange, ReplicaId, Rules, Targets, Tick};
use self::page::PageBuilder;
use crate::node::{
    DiscoveryQuery, Event, EventKind, EventQuery, Horizon, Life, NodeKey, NodeRecord, Origin, Precondition,
    Reason, Registration, Revision, Summary,
};

/// Where registrations are kept.
///
/// A write has taken effect durably when it returns `Ok`. Writes of one batch are independent: each has its own
/// result, and none harms another. The ids of one batch are distinct.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Registers nodes (upsert), one result per item, in order.
    async fn register(&self, batch: &[RegisterWrite], if_held: IfHeld) -> Written<Registered>;

    /// Removes nodes, one result per item, in order. A node that isn't there is [`StoreError::NotFound`].
    async fn deregister(&self, batch: &[DeregisterWrite], if_held: IfHeld) -> Written<Deregistered>;

    /// Notes a sign of life of nodes, one result per id, in order, and changes nothing else of them. A node that isn't
    /// there is [`StoreError::NotFound`].
    async fn heartbeat(&self, ids: &[NodeKey], if_held: IfHeld) -> Vec<Result<Heartbeat, StoreError>>;

    /// Takes nodes out of service and puts them back, one result per item, in order. A node that isn't there is
    /// [`StoreError::NotFound`].
    async fn set_maintenance(&self, batch: &[MaintenanceWrite], if_held: IfHeld) -> Written<Maintained>;

    /// Reads the whole table in one snapshot, and gives each record to `take`, in no particular order.
    async fn load(&self, take: &mut (dyn FnMut(NodeRecord) + Send)) -> Result<Loaded, StoreError>;

    /// Reads what has happened since a position, in one snapshot: a few thousand events at most, and all signs of life.
    /// [`StoreError::EventsGone`] if it can't be read on from there, because events were deleted or are others than those
    /// that were read, and all has to be loaded again.
    async fn follow(&self, position: &Position) -> Result<Followed, StoreError>;

    /// Asks to be told when there may be something to follow. `None` if the database can't tell us: a pooler stands
    /// between, for example. Then it is to be looked for more often.
    async fn hints(&self) -> Result<Option<Box<dyn Hints>>, StoreError>;

    /// Gives `take` the digest of each node, all of one snapshot, in no particular order.
    async fn digests(&self, take: &mut (dyn FnMut(NodeKey, Digest) + Send)) -> Result<Seen<()>, StoreError>;

    /// Those of some nodes that are registered, all of one snapshot.
    async fn records(&self, ids: &[NodeKey]) -> Result<Seen<Vec<NodeRecord>>, StoreError>;

    /// Records events, by the registry itself, of nodes whose rows have changed without one, if the replica leads: the
    /// number that each of them had, when the difference was seen, is its newest still. Whoever follows the log reads
    /// them anew. `None` if the replica doesn't lead.
    async fn repair(
        &self,
        leader: &ReplicaId,
        changed: &[Unrecorded],
    ) -> Result<Option<Vec<Event>>, StoreError>;

    /// One node.
    async fn get(&self, id: &NodeKey) -> Result<Seen<Option<NodeRecord>>, StoreError>;

    /// One page of nodes. Status is judged by the horizon that the answer carries.
    async fn discover(&self, query: &DiscoveryQuery) -> Result<Seen<Page>, StoreError>;

    /// Reports that this replica reaches the database, and takes or renews the lease of the one that sees to the fleet,
    /// if it is to be had. `watch` is written down if the replica had the lease already; `was_away` says that this is the
    /// first report, or that the one before failed.
    async fn tick(
        &self,
        replica: &ReplicaId,
        watch: Option<&FleetWatch>,
        was_away: bool,
    ) -> Result<Tick, StoreError>;

    /// Gives the lease back.
    async fn resign(&self, replica: &ReplicaId) -> Result<(), StoreError>;

    /// Looks at the whole fleet.
    async fn census(&self, rules: &Rules) -> Result<Census, StoreError>;

    /// Records changes of life as events, if the replica leads, and says which had not been recorded before.
    async fn announce(
        &self,
        leader: &ReplicaId,
        changes: &[LifeChange],
    ) -> Result<Vec<LifeChange>, StoreError>;

    /// Forgets some of what was recorded of the life of nodes that are gone, and of signs of life that every replica has
    /// read long since, if the replica leads.
    async fn forget_the_gone(&self, leader: &ReplicaId) -> Result<(), StoreError>;

    /// Removes the nodes of a census that are overdue, if the replica leads; says of each whether it is gone. Who gave a
    /// sign of life since stays.
    async fn expire(
        &self,
        leader: &ReplicaId,
        overdue: &[NodeKey],
        horizon: &Horizon,
        rules: &Rules,
    ) -> Vec<Result<bool, StoreError>>;

    /// Where nodes are to be probed: what has changed since a revision, or all of it.
    async fn targets(&self, since: Option<Revision>) -> Result<Targets, StoreError>;

    /// One page of the audit trail. [`StoreError::EventsGone`] if it can't be read on from there.
    async fn events(&self, query: &EventQuery) -> Result<Seen<EventPage>, StoreError>;

    /// How many nodes there are. Status is judged by the horizon that the answer carries.
    async fn summary(&self) -> Result<Seen<Summary>, StoreError>;

    /// Deletes the next few events that are older than the retention, but none that carries the revision of a
    /// registered node. `None` if nothing was done because the lease `health` is not the holder's; a store that only
    /// one server can have open has no leases, and doesn't ask.
    async fn prune_events(
        &self,
        leader: &ReplicaId,
        retention: Duration,
    ) -> Result<Option<Pruned>, StoreError>;

    /// Looks at the next few events that [`Store::prune_events`] has left, and deletes those that no node needs any
    /// more. A pass begins after revision 0, and goes on from where the last batch ended. `None` as there.
    async fn sweep_events(&self, leader: &ReplicaId, after: Revision) -> Result<Option<Swept>, StoreError>;

    /// The connections to the database.
    fn connections(&self) -> Connections;

    /// Whether the database is another process, which may be stopped, or behind a network that swallows what is sent.
    fn can_fall_silent(&self) -> bool;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Waits for what is under way and closes all connections.
    async fn close(&self);
}

/// What becomes of the items of a batch whose rows another transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfHeld {
    /// They come back at once, as [`StoreError::Held`]: the others of their batch needn't wait for them.
    ComeBack,
    /// They are waited for, and the batch with them: for about two seconds, then they are [`StoreError::Contended`].
    Wait,
}

/// One registration to write.
#[derive(Debug, Clone)]
pub struct RegisterWrite {
    /// What to register.
    pub registration: Registration,
    /// Whether it counts as a heartbeat as well.
    pub alive: bool,
    /// What must hold of the present registration.
    pub precondition: Precondition,
    /// For the audit trail.
    pub origin: Origin,
}

/// One node to remove.
#[derive(Debug, Clone)]
pub struct DeregisterWrite {
    /// Which one.
    pub node_id: NodeKey,
    /// What must hold of the present registration.
    pub precondition: Precondition,
    /// For the audit trail.
    pub origin: Origin,
}

/// A registration that was written.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Whether the node was not registered before.
    pub created: bool,
    /// The node as it is now.
    pub record: NodeRecord,
    /// What its status is judged by.
    pub horizon: Horizon,
}

/// A sign of life that was noted.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// The node's life as it is now. A later sign of life than this one stays what it is.
    pub life: Life,
    /// What its status is judged by. The sign of life is of that instant.
    pub horizon: Horizon,
}

/// A node to take out of service, or to put back.
#[derive(Debug, Clone)]
pub struct MaintenanceWrite {
    /// Which one.
    pub node_id: NodeKey,
    /// Why it is taken out of service; `None`: it is put back.
    pub reason: Option<Reason>,
    /// What must hold of the present registration.
    pub precondition: Precondition,
    /// For the audit trail.
    pub origin: Origin,
}

/// A node that is out of service, or back, as was asked.
#[derive(Debug, Clone)]
pub struct Maintained {
    /// The node as it is now.
    pub record: NodeRecord,
    /// What its status is judged by.
    pub horizon: Horizon,
}

/// A node that was removed.
#[derive(Debug, Clone, Copy)]
pub struct Deregistered {
    /// The number of the event that says so.
    pub revision: Revision,
}

/// A row that has changed, and no event says so.
#[derive(Debug, Clone)]
pub struct Unrecorded {
    /// Which node.
    pub node_id: NodeKey,
    /// What an event should have said: `Registered`, `Updated` or `Deregistered`.
    pub kind: EventKind,
    /// The newest number of its registration when the difference was seen; zero if it had none.
    pub revision: Revision,
}

/// Something read, and how fresh it is.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    /// What was read.
    pub value: T,
    /// All changes up to this one are in it.
    pub revision: Revision,
    /// What status is judged by: the database's time of the reading.
    pub horizon: Horizon,
}

/// Connections to the database.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Open, and free to be used.
    pub idle: u32,
    /// Open, and in use.
    pub in_use: u32,
    /// How many may be open.
    pub max: u32,
}
