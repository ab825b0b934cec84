//! Registrations in the user's own PostgreSQL (13 or newer).
//!
//! We are a guest there: other programs write to the same table with plain SQL, the tables may belong to somebody
//! else, and rows may hold what our API would refuse.

mod begin;
mod decode;
mod events;
mod follow;
mod health;
mod hosts;
mod pool;
mod preflight;
mod read;
mod retention;
mod revision;
mod sessions;
mod status;
mod summary;
mod tag;
mod write;

pub mod migrate;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Semaphore;

use self::hosts::{Hosts, Seeker};
use self::pool::Pool;
use self::sessions::Sessions;
use self::tag::Tag;
use super::health::{Census, FleetWatch, LifeChange, ReplicaId, Rules, Targets, Tick};
use super::{
    Connections, DeregisterWrite, Deregistered, Digest, EventPage, Followed, Heartbeat, Hints, IfHeld,
    Loaded, Maintained, MaintenanceWrite, Page, Position, Pruned, RegisterWrite, Registered, Seen, Store,
    StoreError, Swept, Unrecorded, Written,
};
use crate::node::{DiscoveryQuery, Event, EventQuery, Horizon, NodeKey, NodeRecord, Revision, Summary, Ttl};

pub use events::{SCAN, SCAN_NODES, SCAN_SETTINGS};
pub use preflight::NotReady;
pub use read::DISCOVER;

/// How long the first connection may take, at start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for its turn, and then for a free connection or for a new one to be made.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// So many of the connections may be taken by writes that wait for rows,
const WAITING_WRITES_PERCENT: u32 = 50;
/// and so many by reads of clients. The rest is for what takes no time.
const READS_PERCENT: u32 = 40;

/// A [`Store`] in PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: Pool,
    /// The turns of writes that wait for a row which another transaction holds, see [`write`]. Each keeps a connection
    /// meanwhile, and there are fewer turns than connections, so that nobody else is left without.
    turns: Arc<Semaphore>,
    /// The turns of reads that clients wait for. They may take long, and come in any number: what follows the changes,
    /// what writes, and what reports that the database was reached would be left without a connection.
    reads: Arc<Semaphore>,
    /// How long a node counts as alive after a sign of life, unless it says otherwise.
    ttl: Ttl,
    /// Who wrote a row of `onex_registry_signs`.
    tag: Arc<Tag>,
    /// Whether named statements and settings of a session can be used.
    sessions: Sessions,
    /// Tells other replicas of what batches have recorded.
    notifier: Arc<follow::Notifier>,
    /// The servers that there are, one of which is in use.
    hosts: Hosts,
    /// Sees to it that it is the one that takes writes.
    seeker: Arc<Seeker>,
}

impl PostgresStore {
    /// Connects, and makes sure that the server answers. Nothing in the database is changed or assumed yet: that is
    /// what [`PostgresStore::migrate`] and [`PostgresStore::preflight`] are for.
    ///
    /// # Errors
    /// If the URL is not one of PostgreSQL, or the server can't be reached.
    pub async fn connect(url: &str, max_connections: u32, ttl: Ttl) -> Result<Self, sqlx::Error> {
        let store = Self::new(url, max_connections, ttl)?;
        store.reach(CONNECT_TIMEOUT).await?;
        Ok(store)
    }

    /// Makes sure that the server answers, in so long at the most.
    ///
    /// # Errors
    /// If it doesn't, or refuses us.
    pub async fn reach(&self, at_most: Duration) -> Result<(), sqlx::Error> {
        // One connection by hand: a pool tries again until its time is up, and then says no more than that.
        let options = self.pool.connect_options();
        let reaching = async {
            if self.hosts.are_several() {
                let host = self.hosts.find().await?;
                hosts::use_host(&self.pool, host, &self.sessions.moved);
                return Ok(());
            }
            options.connect().await?.close().await
        };
        tokio::time::timeout(at_most, reaching).await.map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// The same without a connection: nothing is asked of the server before it is needed.
    ///
    /// # Errors
    /// If the URL is not one of PostgreSQL.
    pub fn new(url: &str, max_connections: u32, ttl: Ttl) -> Result<Self, sqlx::Error> {
        let hosts = Hosts::of(url, options)?;
        // The first one, until it is known which takes writes.
        let first = hosts.first().cloned().ok_or(sqlx::Error::PoolClosed)?;
        let sessions = Sessions::default();
        let pool = sessions
            .pool()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(first);
        let pool = Pool::new(pool, sessions.clone());
        let notifier = Arc::new(follow::Notifier::start(pool.clone(), sessions.clone()));
        let seeker = Arc::new(Seeker::start(hosts.clone(), pool.clone(), sessions.moved.clone()));
        Ok(Self {
            pool,
            turns: share(max_connections, WAITING_WRITES_PERCENT),
            reads: share(max_connections, READS_PERCENT),
            ttl,
            tag: Arc::new(Tag::new()),
            sessions,
            notifier,
            hosts,
            seeker,
        })
    }

    /// Which database a URL means, without who we are there: where the server is, and what the database is called.
    #[must_use]
    pub fn place(url: &str) -> Option<String> {
        let hosts = Hosts::of(url, options).ok()?;
        let first = hosts.first()?;
        let database = first.get_database().unwrap_or(first.get_username());
        let places: Vec<String> = hosts.iter().map(hosts::place).collect();
        Some(format!("{}/{database}", places.join(",")))
    }

    /// Whether a text is the URL of a PostgreSQL database. Nothing is connected to.
    #[must_use]
    pub fn is_url(text: &str) -> bool {
        Hosts::of(text, options).is_ok()
    }

    /// Checks that the database has all that serving needs, and that we have the rights. An owner's are not needed.
    ///
    /// # Errors
    /// All that is missing.
    pub async fn preflight(&self) -> Result<(), NotReady> {
        preflight::check(&self.pool).await
    }

    /// To be called when a notification has come through from another session: no pooler in transaction mode stands
    /// between, and writes may use named statements.
    pub fn sessions_are_ours(&self) {
        self.sessions.are_ours();
    }

    /// The turns of those that wait for a row; nobody waits without.
    fn turns(&self, if_held: IfHeld) -> Option<&Semaphore> {
        (if_held == IfHeld::Wait).then_some(&*self.turns)
    }

    /// Reads for a client, when it is its turn.
    async fn read<T, E: Into<StoreError>>(
        &self,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(ACQUIRE_TIMEOUT, self.reads.acquire()).await;
        // Nobody closes it.
        let _turn = turn.map_err(|_| StoreError::Crowded)?;
        read.await.map_err(Into::into)
    }

    /// Applies the migrations that the database hasn't had yet, and returns their versions.
    ///
    /// # Errors
    /// If the database refuses them, or is busy for longer than is waited.
    pub async fn migrate(&self) -> Result<Vec<i64>, migrate::MigrateError> {
        migrate::run(&self.pool).await
    }
}

/// Turns for a part of the connections.
fn share(connections: u32, percent: u32) -> Arc<Semaphore> {
    let turns = u64::from(connections) * u64::from(percent) / 100;
    Arc::new(Semaphore::new(usize::try_from(turns).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)))
}

fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("onex-registry"),
    };
    // Poolers refuse start-up parameters that they don't know. sqlx's log lines carry SQL; ours say what was slow.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

#[async_trait]
impl Store for PostgresStore {
    async fn register(&self, batch: &[RegisterWrite], if_held: IfHeld) -> Written<Registered> {
        write::register(self, batch, if_held).await
    }

    async fn deregister(&self, batch: &[DeregisterWrite], if_held: IfHeld) -> Written<Deregistered> {
        write::deregister(self, batch, if_held).await
    }

    async fn heartbeat(&self, ids: &[NodeKey], if_held: IfHeld) -> Vec<Result<Heartbeat, StoreError>> {
        write::heartbeat(self, ids, if_held).await
    }

    async fn set_maintenance(&self, batch: &[MaintenanceWrite], if_held: IfHeld) -> Written<Maintained> {
        write::set_maintenance(self, batch, if_held).await
    }

    async fn load(&self, take: &mut (dyn FnMut(NodeRecord) + Send)) -> Result<Loaded, StoreError> {
        follow::load(self, take).await
    }

    async fn follow(&self, position: &Position) -> Result<Followed, StoreError> {
        follow::follow(self, position).await
    }

    async fn hints(&self) -> Result<Option<Box<dyn Hints>>, StoreError> {
        follow::hints(self).await
    }

    async fn digests(&self, take: &mut (dyn FnMut(NodeKey, Digest) + Send)) -> Result<Seen<()>, StoreError> {
        follow::digests(self, take).await
    }

    async fn records(&self, ids: &[NodeKey]) -> Result<Seen<Vec<NodeRecord>>, StoreError> {
        follow::records(self, ids).await
    }

    async fn repair(
        &self,
        leader: &ReplicaId,
        changed: &[Unrecorded],
    ) -> Result<Option<Vec<Event>>, StoreError> {
        follow::repair(self, leader, changed).await
    }

    async fn get(&self, id: &NodeKey) -> Result<Seen<Option<NodeRecord>>, StoreError> {
        self.read(read::get(&self.pool, id, self.ttl)).await
    }

    async fn discover(&self, query: &DiscoveryQuery) -> Result<Seen<Page>, StoreError> {
        self.read(read::discover(&self.pool, query, self.ttl)).await
    }

    async fn tick(
        &self,
        replica: &ReplicaId,
        watch: Option<&FleetWatch>,
        was_away: bool,
    ) -> Result<Tick, StoreError> {
        Ok(health::tick(&self.pool, replica, watch, was_away, self.ttl).await?)
    }

    async fn resign(&self, replica: &ReplicaId) -> Result<(), StoreError> {
        Ok(health::resign(&self.pool, replica).await?)
    }

    async fn census(&self, rules: &Rules) -> Result<Census, StoreError> {
        Ok(health::census(&self.pool, rules, self.ttl).await?)
    }

    async fn announce(
        &self,
        leader: &ReplicaId,
        changes: &[LifeChange],
    ) -> Result<Vec<LifeChange>, StoreError> {
        health::announce(&self.pool, leader, changes).await
    }

    async fn forget_the_gone(&self, leader: &ReplicaId) -> Result<(), StoreError> {
        health::forget_the_gone(&self.pool, leader).await?;
        follow::forget(&self.pool, leader).await
    }

    async fn expire(
        &self,
        leader: &ReplicaId,
        overdue: &[NodeKey],
        horizon: &Horizon,
        rules: &Rules,
    ) -> Vec<Result<bool, StoreError>> {
        health::expire(&self.pool, leader, overdue, horizon, rules, self.ttl).await
    }

    async fn targets(&self, since: Option<Revision>) -> Result<Targets, StoreError> {
        Ok(health::targets(&self.pool, since).await?)
    }

    async fn events(&self, query: &EventQuery) -> Result<Seen<EventPage>, StoreError> {
        self.read(events::events(&self.pool, query, self.ttl)).await
    }

    async fn summary(&self) -> Result<Seen<Summary>, StoreError> {
        self.read(summary::summary(&self.pool, self.ttl)).await
    }

    async fn prune_events(
        &self,
        leader: &ReplicaId,
        retention: Duration,
    ) -> Result<Option<Pruned>, StoreError> {
        retention::prune(&self.pool, leader, retention).await
    }

    async fn sweep_events(&self, leader: &ReplicaId, after: Revision) -> Result<Option<Swept>, StoreError> {
        retention::sweep(&self.pool, leader, after).await
    }

    fn connections(&self) -> Connections {
        self.pool.connections()
    }

    fn can_fall_silent(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(read::ping(&self.pool).await?)
    }

    async fn close(&self) {
        self.seeker.close().await;
        self.notifier.close().await;
        self.pool.close().await;
    }
}
