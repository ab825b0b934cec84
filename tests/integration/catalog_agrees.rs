//! The catalog gives the store's answers: the same pages of the same nodes, whatever is asked. On random fleets, on both
//! stores, with PostgreSQL to say what containment is.

mod histories;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use onex_registry::node::fault::Path;
use onex_registry::node::registration::IdFrom;
use onex_registry::node::{
    Actor, ColumnText, DiscoveryQuery, Faults, Filter, Horizon, JsonObject, NodeKey, NodeRecord, Origin,
    PageLimit, Precondition, Reason, Registration, Revision, ShownRecord, Status, Ttl,
};
use onex_registry::registry::catalog::{Catalog, Fleet, Outcome};
use onex_registry::store::clock::SystemClock;
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::sqlite::SqliteStore;
use onex_registry::store::{
    DeregisterWrite, Followed, IfHeld, MaintenanceWrite, Position, RegisterWrite, Store,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseResult;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::harness::{TestDatabase, sql};
use crate::stores_agree::{IDS, TYPES, VERSIONS, holds, object_text, runtime};

const TTL: Ttl = Ttl::from_seconds(90);

/// A node as a client or another hand writes it.
#[derive(Debug, Clone)]
struct Written {
    id: &'static str,
    body: String,
    alive: bool,
    in_maintenance: bool,
    /// What another hand has done to it since, in the words of both stores.
    foreign: Option<Foreign>,
}

#[derive(Debug, Clone, Copy)]
enum Foreign {
    /// A JSON column holds something else than an object.
    Capabilities(&'static str),
    /// A version that is none.
    Version(&'static str),
    /// A sign of life that is about one TTL old, in milliseconds from that.
    AboutToBeStale(i32),
    Ttl(i32),
}

fn written() -> impl Strategy<Value = Written> {
    let foreign = prop_oneof![
        select(vec!["[]", "1", "null", r#""text""#, r#"[{"a":1}]"#, r#"{"a":1e500}"#])
            .prop_map(Foreign::Capabilities),
        select(vec!["none", "1.0", "v1.0.0", ""]).prop_map(Foreign::Version),
        (-300..300_i32).prop_map(Foreign::AboutToBeStale),
        (-1..3_i32).prop_map(Foreign::Ttl),
    ];
    (
        (select(&IDS[..]), select(&TYPES[..]), select(&VERSIONS[..])),
        (object_text(), object_text()),
        (any::<bool>(), prop::bool::weighted(0.2), option::weighted(0.3, foreign)),
    )
        .prop_map(|((id, node_type, version), (capabilities, metadata), (alive, in_maintenance, foreign))| Written {
            id,
            body: format!(
                r#"{{"node_type":"{node_type}","node_version":"{version}","capabilities":{capabilities},"metadata":{metadata}}}"#
            ),
            alive,
            in_maintenance,
            foreign,
        })
}

fn query() -> impl Strategy<Value = DiscoveryQuery> {
    let some_of = |name: &'static str, values: &'static [&'static str]| {
        option::weighted(0.25, vec(select(values), 0..4)).prop_map(move |values| {
            values.and_then(|values| Filter::new(name, values.into_iter().map(str::to_owned).collect()))
        })
    };
    let filters =
        (some_of("node_type", &TYPES), some_of("node_id", &IDS), some_of("node_version", &VERSIONS));
    let prefix = option::weighted(0.2, select(vec!["a", "", "é", "a\u{10FFFF}", "\u{10FFFF}", "%", "_"]));
    let range =
        option::weighted(0.2, select(vec!["^1.2", ">=1.0, <2.0", "*", "=1.2.0-rc.1", "~0.1.0", ">1"]));
    let wanted = || option::weighted(0.3, object_text()).prop_map(|text| text.as_deref().map(object));
    let status = option::weighted(0.4, vec(select(Status::ALL.to_vec()), 1..3));
    let page = (select(vec![1, 2, 5, 1_000]), option::weighted(0.2, select(&IDS[..])));
    (filters, prefix, range, wanted(), wanted(), status, page).prop_map(
        |(filters, prefix, range, capabilities, metadata, status, (limit, after))| DiscoveryQuery {
            filters: [filters.0, filters.1, filters.2].into_iter().flatten().collect(),
            node_id_prefix: prefix.and_then(ColumnText::new),
            status: status.unwrap_or_default(),
            capabilities,
            metadata,
            version_req: range.map(|range| range.parse().unwrap()),
            limit: PageLimit::new(limit).unwrap(),
            after: after.and_then(NodeKey::new),
        },
    )
}

fn object(text: &str) -> JsonObject {
    let raw = serde_json::from_str(text).unwrap();
    JsonObject::read(raw, &Path::Root, &mut Faults::at_most(1)).unwrap()
}

fn origin() -> Origin {
    Origin { actor: Actor::anonymous(), correlation_id: None }
}

/// A store, with a catalog beside it that hears of what is written and follows.
struct Side {
    store: Arc<dyn Store>,
    catalog: Catalog,
    /// Another hand at the data.
    other: Other,
}

enum Other {
    Postgres { connection: PgConnection, _database: TestDatabase },
    Sqlite { connection: SqliteConnection, _folder: TempDir },
}

impl Side {
    async fn postgres() -> Self {
        let database = TestDatabase::create().await;
        let store = PostgresStore::connect(&database.url(), 2, TTL).await.unwrap();
        store.migrate().await.unwrap();
        let other = Other::Postgres { connection: database.connect().await, _database: database };
        Self { store: Arc::new(store), catalog: Catalog::new(TTL), other }
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("registry.db").display());
        let store = SqliteStore::open(&url, Arc::new(SystemClock), TTL).await.unwrap();
        let other =
            Other::Sqlite { connection: SqliteConnection::connect(&url).await.unwrap(), _folder: folder };
        Self { store: Arc::new(store), catalog: Catalog::new(TTL), other }
    }

    async fn clear(&self) {
        let batch: Vec<DeregisterWrite> = IDS
            .iter()
            .map(|id| DeregisterWrite {
                node_id: NodeKey::new(*id).unwrap(),
                precondition: Precondition::None,
                origin: origin(),
            })
            .collect();
        let written = self.store.deregister(&batch, IfHeld::Wait).await;
        let gone = batch.iter().zip(&written.results).filter_map(|(write, result)| {
            Some(Outcome::Gone(write.node_id.clone(), result.as_ref().ok()?.revision))
        });
        self.catalog.written(&written.recorded, gone.collect());
    }

    async fn load(&self) {
        let mut loading = self.catalog.load();
        let loaded = self.store.load(&mut |record| loading.take(record)).await.unwrap();
        loading.finish(&loaded).unwrap();
    }

    /// Writes a node, and tells the catalog, as the server does.
    async fn write(&mut self, node: &Written) {
        let raw = serde_json::from_str(&node.body).unwrap();
        let mut faults = Faults::at_most(1);
        let registration = Registration::read(raw, &Path::Root, IdFrom::Path(node.id), &mut faults).unwrap();
        let node_id = registration.node_id.key().clone();
        let write = RegisterWrite {
            registration,
            alive: node.alive,
            precondition: Precondition::None,
            origin: origin(),
        };
        let written = self.store.register(&[write], IfHeld::Wait).await;
        let present =
            |record: &NodeRecord| vec![Outcome::Present(record.clone(), Arc::new(ShownRecord::of(record)))];
        self.catalog.written(&written.recorded, present(&written.results[0].as_ref().unwrap().record));
        if node.in_maintenance {
            let reason = Reason::parse(node.id).ok();
            let write = MaintenanceWrite {
                node_id: node_id.clone(),
                reason,
                precondition: Precondition::None,
                origin: origin(),
            };
            let written = self.store.set_maintenance(&[write], IfHeld::Wait).await;
            self.catalog.written(&written.recorded, present(&written.results[0].as_ref().unwrap().record));
        }
        if let Some(foreign) = node.foreign {
            self.meddle(&node_id, foreign).await;
        }
    }

    async fn meddle(&mut self, id: &NodeKey, foreign: Foreign) {
        let id = id.as_str().replace('\'', "''");
        let mut set = String::new();
        match (foreign, &self.other) {
            (Foreign::Capabilities(json), _) => write!(set, "capabilities = '{json}'"),
            (Foreign::Version(version), _) => write!(set, "node_version = '{version}'"),
            (Foreign::Ttl(seconds), _) => write!(set, "ttl_seconds = {seconds}"),
            (Foreign::AboutToBeStale(millis), Other::Postgres { .. }) => {
                write!(set, "last_heartbeat = now() - interval '90 s' + interval '1 ms' * {millis}")
            }
            (Foreign::AboutToBeStale(millis), Other::Sqlite { .. }) => {
                write!(set, "last_heartbeat = last_heartbeat - 90000000 + {millis} * 1000")
            }
        }
        .unwrap();
        let update = format!("UPDATE node_registrations SET {set} WHERE node_id = '{id}'");
        match &mut self.other {
            Other::Postgres { connection, .. } => sql::run(connection, update).await,
            Other::Sqlite { connection, .. } => {
                sqlx::raw_sql(AssertSqlSafe(update)).execute(connection).await.unwrap();
            }
        }
    }

    /// Nothing has happened until then that the catalog doesn't know.
    fn judge_by(&self, horizon: Horizon) {
        self.catalog.followed(Followed {
            events: vec![],
            records: HashMap::new(),
            snapshot: Revision::ZERO,
            signs: vec![],
            signs_are_missing: false,
            position: Position::default(),
            horizon,
            lag: Duration::ZERO,
        });
    }

    /// Whether the store and the catalog give one answer, at the instant at which the store gave it.
    async fn agree(&self, query: &DiscoveryQuery) -> Result<usize, TestCaseError> {
        let seen = self.store.discover(query).await.unwrap();
        self.judge_by(seen.horizon);
        let fleet = self.catalog.fleet().unwrap();
        prop_assert_eq!(*fleet.horizon(), seen.horizon);
        let found = fleet.discover(query);
        let ours = found.nodes;
        let records: Vec<NodeRecord> =
            ours.iter().map(|shown| shown.record.read_back(&shown.moment).unwrap()).collect();
        prop_assert_eq!(&records, &seen.value.records, "{:?}", query);
        prop_assert_eq!(found.more, seen.value.more, "{:?}", query);
        for (shown, record) in ours.iter().zip(&records) {
            prop_assert_eq!(shown.moment.status, record.status(&seen.horizon, TTL));
        }
        Ok(records.len())
    }
}

/// What the fleets of a run found, so that it is known not to be nothing.
fn on(side: Side) {
    let runtime = runtime();
    let side = std::cell::RefCell::new(side);
    let found = Cell::new(0);
    let property = |(fleet, queries): (Vec<Written>, Vec<DiscoveryQuery>)| -> TestCaseResult {
        let mut side = side.borrow_mut();
        runtime.block_on(async {
            side.clear().await;
            // Some by reading the table, others by what was written since.
            let (read, heard): (Vec<_>, Vec<_>) = fleet.iter().partition(|node| node.foreign.is_some());
            for node in read {
                side.write(node).await;
            }
            side.load().await;
            for node in heard {
                side.write(node).await;
            }
            for query in &queries {
                found.set(found.get() + side.agree(query).await?);
            }
            Ok(())
        })
    };
    holds(40, &(vec(written(), 1..25), vec(query(), 30)), property);
    assert!(found.get() > 200, "{} nodes were found", found.get());
    let side = side.into_inner();
    runtime.block_on(side.store.close());
}

#[test]
fn the_catalog_finds_what_postgresql_finds() {
    on(runtime().block_on(Side::postgres()));
}

#[test]
fn the_catalog_finds_what_sqlite_finds() {
    on(runtime().block_on(Side::sqlite()));
}

/// The pages of a large fleet end where the store's do.
#[test]
fn pages_end_where_the_store_ends_them() {
    let runtime = runtime();
    runtime.block_on(async {
        for mut side in [Side::postgres().await, Side::sqlite().await] {
            let filler = "x".repeat(60_000);
            for n in 0..100 {
                let id: &'static str = Box::leak(format!("n{n}").into_boxed_str());
                let body = format!(r#"{{"node_type":"effect","capabilities":{{"a":"{filler}"}},"metadata":{{"a":"{filler}"}}}}"#);
                let node = Written { id, body, alive: n % 2 == 0, in_maintenance: false, foreign: None };
                side.write(&node).await;
            }
            side.load().await;
            let mut query = DiscoveryQuery::default();
            let mut pages = 0;
            loop {
                side.agree(&query).await.unwrap();
                pages += 1;
                let fleet: Arc<Fleet> = side.catalog.fleet().unwrap();
                let found = fleet.discover(&query);
                query.after = found.nodes.last().map(|node| node.record.node_id().clone());
                if !found.more {
                    break;
                }
            }
            assert!(pages > 2, "{pages} pages");
            side.store.close().await;
        }
    });
}
