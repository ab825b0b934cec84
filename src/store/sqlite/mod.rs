//! Registrations in an embedded SQLite file, when no PostgreSQL is configured.
//!
//! The file belongs to one server process, which is therefore its only writer: revisions are in commit order by
//! themselves. WAL with `synchronous=FULL`: what is acknowledged survives a crash of the machine.

mod events;
mod follow;
mod health;
mod hints;
mod pool;
mod read;
mod retention;
mod summary;
mod targets;
mod write;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, Sqlite};

use self::hints::Bell;
use self::pool::{Files, Pool};
use super::clock::Clock;
use super::health::{Census, FleetWatch, LifeChange, ReplicaId, Rules, Targets, Tick};
use super::migration::{Migration, SQLITE};
use super::{
    Connections, DeregisterWrite, Deregistered, Digest, EventPage, Followed, Heartbeat, Hints, IfHeld,
    Loaded, Maintained, MaintenanceWrite, Page, Position, Pruned, RegisterWrite, Registered, Seen, Store,
    StoreError, Swept, Unrecorded, Written,
};
use crate::node::{
    Availability, DiscoveryQuery, Event, EventQuery, Horizon, JsonText, NodeKey, NodeRecord, Outage,
    Revision, Summary, Timestamp, Ttl,
};

/// The number of the last migration.
const SCHEMA_VERSION: &str = "PRAGMA user_version";

/// How many can read at once. Reading never waits for the writer (WAL).
const READERS: u32 = 4;
/// How long a request waits for its turn.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a statement waits for a lock that another process holds, a backup for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A [`Store`] in an SQLite file.
pub struct SqliteStore {
    /// One connection: there is one writer.
    writer: Pool,
    readers: Pool,
    /// Used by nobody; closed last, in [`Store::close`]. SQLite removes the `-wal` with the last connection
    /// (sqlite.org/wal.html, section 4), and pools close theirs now and then: the next one would make another file, which
    /// can't be told from one that somebody has put there.
    anchor: Mutex<Option<SqliteConnection>>,
    clock: Arc<dyn Clock>,
    /// How long a node counts as alive after a sign of life, unless it says otherwise.
    ttl: Ttl,
    path: PathBuf,
    /// Tells of what is committed without being returned to the caller.
    bell: Bell,
    /// Held as long as the store lives. The operating system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// Why a file can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no file.
    #[error("the URL must name a file: a database in memory would be gone with the server")]
    NoFile,
    /// Another process has it.
    #[error("{} belongs to another server process; an SQLite file can have only one", .0.display())]
    InUse(PathBuf),
    /// It can't be made, or the lock file beside it can't be made or locked.
    #[error("{} can't be made or locked", path.display())]
    Lock {
        /// Which of the two.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The migrations in the file are newer than this program's.
    #[error("the file was written by a newer version of the program (migration {0})")]
    TooNew(i64),
    /// SQLite can't open it, or it isn't a database.
    #[error("{} can't be opened as an SQLite database", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
}

impl SqliteStore {
    /// Opens a file, makes it if it is missing, and applies its migrations.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, clock: Arc<dyn Clock>, ttl: Ttl) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|source| OpenError::Database { path: PathBuf::from("the URL"), source })?;
        let path = options.get_filename().to_owned();
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        if in_memory || path.as_os_str().is_empty() {
            return Err(OpenError::NoFile);
        }
        let lock = lock(&path)?;
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let database = |source| OpenError::Database { path: path.clone(), source };

        let pool = |connections| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(database)?;
        migrate(&writer, &path).await?;
        let readers = options.create_if_missing(false).pragma("query_only", "on");
        let mut anchor = readers.connect().await.map_err(database)?;
        // It has the `-wal` open once it has read.
        sqlx::query(SCHEMA_VERSION).execute(&mut anchor).await.map_err(database)?;
        let readers = pool(READERS).connect_with(readers).await.map_err(database)?;
        // Links are followed by SQLite, too.
        let place = path.canonicalize().map_err(|source| OpenError::Lock { path: path.clone(), source })?;
        let files = Files::opened(["", "-wal", ".lock"].map(|end| beside(&place, end)));
        let (writer, readers) = (Pool::of(writer, &files), Pool::of(readers, &files));
        let anchor = Mutex::new(Some(anchor));
        Ok(Self { writer, readers, anchor, clock, ttl, path, bell: Bell::new(), _lock: lock })
    }

    /// Where the data lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a file beside the database. Not the database itself: closing any other handle of it would drop SQLite's own
/// locks on it (sqlite.org/howtocorrupt.html, section 2.2).
fn lock(database: &Path) -> Result<File, OpenError> {
    // Two names of one file must not be two locks. A link to a file that isn't there yet can be followed only once it
    // is: SQLite takes an empty file for a new database.
    let unresolved = |source| OpenError::Lock { path: database.to_owned(), source };
    if !database.exists() {
        OpenOptions::new().create(true).append(true).open(database).map_err(unresolved)?;
    }
    let path = beside(&database.canonicalize().map_err(unresolved)?, ".lock");
    let failed = |source| OpenError::Lock { path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The file whose name has this more at its end.
fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

async fn migrate(pool: &SqlitePool, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
    let done: i64 = sqlx::query_scalar(SCHEMA_VERSION).fetch_one(&mut *tx).await.map_err(database)?;
    if done > SQLITE.last().map_or(0, |last| last.version) {
        return Err(OpenError::TooNew(done));
    }
    for Migration { version, sql, .. } in SQLITE.iter().filter(|migration| migration.version > done) {
        sqlx::raw_sql(*sql).execute(&mut *tx).await.map_err(database)?;
        // A pragma takes no bound value; the number is ours.
        let mark = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
        sqlx::raw_sql(mark).execute(&mut *tx).await.map_err(database)?;
    }
    tx.commit().await.map_err(database)
}

#[async_trait]
impl Store for SqliteStore {
    async fn register(&self, batch: &[RegisterWrite], _: IfHeld) -> Written<Registered> {
        write::register(&self.writer, batch, &*self.clock, self.ttl).await
    }

    async fn deregister(&self, batch: &[DeregisterWrite], _: IfHeld) -> Written<Deregistered> {
        write::deregister(&self.writer, batch, &*self.clock, self.ttl).await
    }

    async fn heartbeat(&self, ids: &[NodeKey], _: IfHeld) -> Vec<Result<Heartbeat, StoreError>> {
        write::heartbeat(&self.writer, ids, &*self.clock, self.ttl).await
    }

    async fn set_maintenance(&self, batch: &[MaintenanceWrite], _: IfHeld) -> Written<Maintained> {
        write::set_maintenance(&self.writer, batch, &*self.clock, self.ttl).await
    }

    async fn load(&self, take: &mut (dyn FnMut(NodeRecord) + Send)) -> Result<Loaded, StoreError> {
        follow::load(self, take).await
    }

    async fn follow(&self, position: &Position) -> Result<Followed, StoreError> {
        follow::follow(self, position).await
    }

    async fn hints(&self) -> Result<Option<Box<dyn Hints>>, StoreError> {
        Ok(Some(Box::new(self.bell.listen())))
    }

    async fn digests(&self, take: &mut (dyn FnMut(NodeKey, Digest) + Send)) -> Result<Seen<()>, StoreError> {
        follow::digests(self, take).await
    }

    async fn records(&self, ids: &[NodeKey]) -> Result<Seen<Vec<NodeRecord>>, StoreError> {
        follow::records(self, ids).await
    }

    async fn repair(&self, _: &ReplicaId, changed: &[Unrecorded]) -> Result<Option<Vec<Event>>, StoreError> {
        let recorded = follow::repair(self, changed).await?;
        if !recorded.is_empty() {
            self.bell.ring();
        }
        Ok(Some(recorded))
    }

    async fn get(&self, id: &NodeKey) -> Result<Seen<Option<NodeRecord>>, StoreError> {
        Ok(read::get(&self.readers, id, self.ttl, &*self.clock).await?)
    }

    async fn discover(&self, query: &DiscoveryQuery) -> Result<Seen<Page>, StoreError> {
        Ok(read::discover(&self.readers, query, self.ttl, &*self.clock).await?)
    }

    async fn tick(
        &self,
        _: &ReplicaId,
        watch: Option<&FleetWatch>,
        was_away: bool,
    ) -> Result<Tick, StoreError> {
        health::tick(&self.writer, watch, was_away, &*self.clock, self.ttl).await
    }

    async fn resign(&self, _: &ReplicaId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn census(&self, rules: &Rules) -> Result<Census, StoreError> {
        health::census(&self.readers, rules, &*self.clock, self.ttl).await
    }

    async fn announce(&self, _: &ReplicaId, changes: &[LifeChange]) -> Result<Vec<LifeChange>, StoreError> {
        let told = health::announce(&self.writer, changes, &*self.clock).await?;
        if !told.is_empty() {
            self.bell.ring();
        }
        Ok(told)
    }

    async fn forget_the_gone(&self, _: &ReplicaId) -> Result<(), StoreError> {
        health::forget_the_gone(&self.writer).await
    }

    async fn expire(
        &self,
        _: &ReplicaId,
        overdue: &[NodeKey],
        horizon: &Horizon,
        rules: &Rules,
    ) -> Vec<Result<bool, StoreError>> {
        match health::expire(&self.writer, overdue, horizon, rules, &*self.clock, self.ttl).await {
            Ok(gone) => {
                if gone.contains(&true) {
                    self.bell.ring();
                }
                gone.into_iter().map(Ok).collect()
            }
            Err(error) => overdue.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn targets(&self, since: Option<Revision>) -> Result<Targets, StoreError> {
        targets::targets(&self.readers, since, &*self.clock).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Seen<EventPage>, StoreError> {
        events::events(&self.readers, query, self.ttl, &*self.clock).await
    }

    async fn summary(&self) -> Result<Seen<Summary>, StoreError> {
        Ok(summary::summary(&self.readers, self.ttl, &*self.clock).await?)
    }

    async fn prune_events(&self, _: &ReplicaId, retention: Duration) -> Result<Option<Pruned>, StoreError> {
        let pruned = retention::prune(&self.writer, retention, &*self.clock).await?;
        if pruned.deleted > 0 {
            self.bell.ring();
        }
        Ok(Some(pruned))
    }

    async fn sweep_events(&self, _: &ReplicaId, after: Revision) -> Result<Option<Swept>, StoreError> {
        Ok(Some(retention::sweep(&self.writer, after).await?))
    }

    fn connections(&self) -> Connections {
        let pools = [&self.writer, &self.readers];
        let sum = |count: fn(&Pool) -> u32| pools.iter().map(|pool| count(pool)).sum::<u32>();
        let idle = sum(Pool::idle);
        Connections { idle, in_use: sum(Pool::size).saturating_sub(idle), max: sum(Pool::max) }
    }

    fn can_fall_silent(&self) -> bool {
        false
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(read::ping(&self.readers).await?)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        let anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(anchor) = anchor
            && let Err(error) = anchor.close().await
        {
            tracing::warn!(%error, "the SQLite file could not be closed; the next start reads its -wal");
        }
    }
}

/// Closes a connection after a failure: SQLite may have ended its transaction by itself, on a full disk for example
/// (`sqlite.org/lang_transaction.html`, section 3), and sqlx would go on to believe in it. The pool makes another.
async fn keep_if_sound<T, E>(connection: PoolConnection<Sqlite>, result: &Result<T, E>) {
    if result.is_err()
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "a connection could not be closed after a failure");
    }
}

/// The columns of a record, by name.
fn record(row: &SqliteRow) -> Result<NodeRecord, sqlx::Error> {
    let json = |column| row.try_get::<&str, _>(column).map(JsonText::from_database);
    let time = |column| row.try_get::<i64, _>(column).map(Timestamp::from_unix_micros);
    let node_id: String = row.try_get("node_id")?;
    Ok(NodeRecord {
        node_id: NodeKey::new(node_id).ok_or_else(|| broken("an id that no node can have"))?,
        node_type: row.try_get("node_type")?,
        node_version: row.try_get("node_version")?,
        capabilities: json("capabilities")?,
        endpoints: json("endpoints")?,
        metadata: json("metadata")?,
        health_endpoint: row.try_get("health_endpoint")?,
        last_heartbeat: row.try_get::<Option<i64>, _>("last_heartbeat")?.map(Timestamp::from_unix_micros),
        registered_at: time("registered_at")?,
        updated_at: time("updated_at")?,
        ttl_seconds: row.try_get("ttl_seconds")?,
        maintenance: row.try_get("maintenance")?,
        revision: Revision::new(row.try_get("revision")?).ok_or_else(|| broken("a negative revision"))?,
    })
}

/// An instant that may be missing.
fn instant(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_unix_micros))
}

/// Until when heartbeats were taken.
async fn availability(connection: &mut SqliteConnection) -> Result<Availability, sqlx::Error> {
    let row = sqlx::query("SELECT served_until, outage_began, outage_ended FROM onex_registry_state")
        .fetch_one(connection)
        .await?;
    let outage = instant(&row, "outage_began")?.zip(instant(&row, "outage_ended")?);
    Ok(Availability {
        served_until: instant(&row, "served_until")?,
        outage: outage.map(|(began, ended)| Outage { began, ended }),
    })
}

fn broken(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fault::Path as Place;
    use crate::node::registration::IdFrom;
    use crate::node::{Actor, Faults, Origin, Precondition, Registration};
    use crate::store::clock::SystemClock;

    fn large(id: &str) -> RegisterWrite {
        let body = format!(r#"{{"node_type":"effect","metadata":{{"a":"{}"}}}}"#, "x".repeat(60_000));
        let mut faults = Faults::at_most(1);
        let raw = serde_json::from_str(&body).unwrap();
        RegisterWrite {
            registration: Registration::read(raw, &Place::Root, IdFrom::Path(id), &mut faults).unwrap(),
            alive: false,
            precondition: Precondition::None,
            origin: Origin { actor: Actor::anonymous(), correlation_id: None },
        }
    }

    async fn store(folder: &tempfile::TempDir) -> SqliteStore {
        let url = format!("sqlite://{}", folder.path().join("registry.db").display());
        SqliteStore::open(&url, Arc::new(SystemClock), Ttl::from_seconds(90)).await.unwrap()
    }

    /// Pools close connections that are old, that nobody uses, or in which something has failed.
    #[tokio::test]
    async fn the_files_are_the_same_when_all_connections_are_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        for id in ["before", "after"] {
            assert!(store.register(&[large(id)], IfHeld::Wait).await.results.pop().unwrap().is_ok(), "{id}");
            for pool in [&store.readers, &store.writer] {
                while pool.size() > 0 {
                    pool.acquire().await.unwrap().close().await.unwrap();
                }
            }
        }
        assert_eq!(store.discover(&DiscoveryQuery::default()).await.unwrap().value.records.len(), 2);
        store.close().await;
        assert!(!beside(store.path(), "-wal").exists(), "all is in one file, and it can be copied");
    }

    #[tokio::test]
    async fn writes_go_on_when_there_is_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        // SQLite says the same of a file that may not grow as of a disk that is full.
        let mut writer = store.writer.acquire().await.unwrap();
        sqlx::query("PRAGMA max_page_count = 60").execute(&mut *writer).await.unwrap();
        drop(writer);
        let mut stored = 0;
        let refused = loop {
            let mut results = store.register(&[large(&format!("n{stored}"))], IfHeld::Wait).await.results;
            match results.pop().unwrap() {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(stored > 0 && matches!(refused, StoreError::Full(_)), "{stored} {refused:?}");
        // The connection that was full is gone, and its limit with it.
        for _ in 0..3 {
            assert!(store.register(&[large("after")], IfHeld::Wait).await.results.pop().unwrap().is_ok());
        }
        let query =
            DiscoveryQuery { limit: crate::node::PageLimit::new(1_000).unwrap(), ..Default::default() };
        let page = store.discover(&query).await.unwrap().value;
        assert_eq!(page.records.len(), stored + 1, "what was acknowledged is there, and nothing else");
        store.close().await;
    }
}
