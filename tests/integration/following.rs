//! How a replica keeps up with the table, on the stores themselves: all of it at first, then what has happened since.

mod comparing;
pub(crate) mod hinted;
mod loading;
mod reading_on;
mod repairing;
mod signs;
mod with_others;

use std::collections::HashMap;
use std::sync::Arc;

use onex_registry::node::fault::Path;
use onex_registry::node::registration::IdFrom;
use onex_registry::node::{
    Actor, DiscoveryQuery, Faults, NodeKey, NodeRecord, Origin, PageLimit, Precondition, Reason,
    Registration, Revision, Ttl,
};
use onex_registry::store::IfHeld;
use onex_registry::store::clock::SystemClock;
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::sqlite::SqliteStore;
use onex_registry::store::{
    DeregisterWrite, Followed, Loaded, MaintenanceWrite, Position, RegisterWrite, Seen, Store, StoreError,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

use crate::harness::{Backend, TestDatabase, sql};

const TTL: Ttl = Ttl::from_seconds(90);
const LEADER: &str = "the holder of the lease";

/// Makes a test for each store of every function that is named: `async fn name(setting: &Setting)`.
macro_rules! on_each_store {
    ($($name:ident),+ $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let setting = crate::following::Setting::open(crate::harness::Backend::Postgres).await;
                    super::$name(&setting).await;
                    setting.store.close().await;
                }
            )+
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let setting = crate::following::Setting::open(crate::harness::Backend::Sqlite).await;
                    super::$name(&setting).await;
                    setting.store.close().await;
                }
            )+
        }
    };
}
use on_each_store;

/// A store without a server: nobody follows, ticks or looks at the fleet by himself.
struct Setting {
    store: Arc<dyn Store>,
    /// Of PostgreSQL.
    database: Option<TestDatabase>,
    /// Of SQLite.
    folder: Option<TempDir>,
}

impl Setting {
    async fn open(backend: Backend) -> Self {
        match backend {
            Backend::Postgres => {
                let database = TestDatabase::create().await;
                let store = another(&database).await;
                store.migrate().await.unwrap();
                Self { store: Arc::new(store), database: Some(database), folder: None }
            }
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", folder.path().join("registry.db").display());
                let store = SqliteStore::open(&url, Arc::new(SystemClock), TTL).await.unwrap();
                Self { store: Arc::new(store), database: None, folder: Some(folder) }
            }
        }
    }

    /// A statement of another hand, as each of the stores takes it.
    async fn run(&self, postgres: &str, sqlite: &'static str) {
        if let Some(database) = &self.database {
            sql::run(&mut database.connect().await, postgres).await;
        } else {
            let file = self.folder.as_ref().unwrap().path().join("registry.db");
            let url = format!("sqlite://{}", file.display());
            let mut other = SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(sqlite).execute(&mut other).await.unwrap();
            other.close().await.unwrap();
        }
    }

    /// Someone leads, until the end of the test.
    async fn lead(&self) {
        let lead = format!("UPDATE onex_registry_leases SET holder = '{LEADER}', expires_at = 'infinity'");
        self.run(&lead, "SELECT 1").await;
    }

    async fn register(&self, ids: &[&str], body: &Value) {
        let writes: Vec<_> = ids.iter().map(|id| registration(id, body)).collect();
        for result in self.store.register(&writes, IfHeld::Wait).await.results {
            result.unwrap();
        }
    }

    async fn deregister(&self, id: &str) {
        let write = DeregisterWrite { node_id: key(id), precondition: Precondition::None, origin: origin() };
        self.store.deregister(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    }

    async fn set_maintenance(&self, id: &str, reason: Option<&str>) {
        let reason = reason.map(|reason| Reason::parse(reason).unwrap());
        let write =
            MaintenanceWrite { node_id: key(id), reason, precondition: Precondition::None, origin: origin() };
        self.store.set_maintenance(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    }

    async fn load(&self) -> (Copy, Loaded) {
        load(&*self.store).await
    }

    async fn follow(&self, position: &Position) -> Followed {
        self.store.follow(position).await.unwrap()
    }

    /// The position of who has read all there is.
    async fn here(&self) -> Position {
        self.load().await.1.position
    }

    /// All nodes, by the way of discovery.
    async fn discovered(&self) -> Seen<Copy> {
        let mut query = DiscoveryQuery { limit: PageLimit::new(1_000).unwrap(), ..Default::default() };
        let mut copy = Copy::new();
        loop {
            let page = self.store.discover(&query).await.unwrap();
            query.after = page.value.records.last().map(|last| last.node_id.clone());
            copy.extend(page.value.records.into_iter().map(|record| (record.node_id.clone(), record)));
            if !page.value.more {
                return Seen { value: copy, revision: page.revision, horizon: page.horizon };
            }
        }
    }
}

/// The fleet as a replica has it.
type Copy = HashMap<NodeKey, NodeRecord>;

/// Another replica's store.
async fn another(database: &TestDatabase) -> PostgresStore {
    PostgresStore::connect(&database.url(), 10, TTL).await.unwrap()
}

async fn load(store: &dyn Store) -> (Copy, Loaded) {
    let mut copy = Copy::new();
    let mut twice = Vec::new();
    let loaded = store.load(&mut |record| twice.extend(copy.insert(record.node_id.clone(), record))).await;
    assert_eq!(twice, [], "no node comes twice");
    (copy, loaded.unwrap())
}

/// Does what a replica does with what it reads.
fn apply(copy: &mut Copy, followed: &Followed) {
    for event in &followed.events {
        match followed.records.get(&event.node_id) {
            Some(record) => drop(copy.insert(event.node_id.clone(), record.clone())),
            None => drop(copy.remove(&event.node_id)),
        }
    }
}

fn is_gone(followed: &Result<Followed, StoreError>) -> bool {
    matches!(followed, Err(StoreError::EventsGone { .. }))
}

fn registration(id: &str, body: &Value) -> RegisterWrite {
    let raw = serde_json::value::to_raw_value(body).unwrap();
    let mut faults = Faults::at_most(1);
    let registration = Registration::read(&raw, &Path::Root, IdFrom::Path(id), &mut faults).unwrap();
    RegisterWrite { registration, alive: false, precondition: Precondition::None, origin: origin() }
}

fn effect(round: usize) -> Value {
    json!({"node_type": "effect", "metadata": {"round": round}})
}

fn origin() -> Origin {
    Origin { actor: Actor::anonymous(), correlation_id: Some("a request".to_owned()) }
}

fn key(id: &str) -> NodeKey {
    NodeKey::new(id).unwrap()
}

fn revision(number: i64) -> Revision {
    Revision::new(number).unwrap()
}

/// The ids and kinds of what was read, in order.
fn told(followed: &Followed) -> Vec<(&str, &str)> {
    followed.events.iter().map(|event| (event.node_id.as_str(), event.kind.as_str())).collect()
}
