//! Of all replicas on a PostgreSQL database one sees to the fleet, as long as it keeps its lease.

mod deeds;
mod overdue;
mod told_late;

use std::time::Duration;

use onex_registry::node::{
    Actor, Faults, NodeKey, Origin, Precondition, Registration, Timestamp, Ttl, fault::Path,
    registration::IdFrom,
};
use onex_registry::store::health::{FleetCounts, FleetWatch, ReplicaId, Rules, Tick};
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{IfHeld, RegisterWrite, Store as _};
use serde_json::Value;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use crate::harness::{TestDatabase, sql};

const TTL: Ttl = Ttl::from_seconds(60);

const RULES: Rules =
    Rules { expire_after: Some(Duration::from_hours(1)), probing: false, uptime: Duration::from_hours(24) };

/// A store without a server: time is what the test says, and nobody ticks or looks at the fleet by himself.
struct Bench {
    store: PostgresStore,
    owner: PgConnection,
    database: TestDatabase,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = PostgresStore::connect(&database.url(), 1, TTL).await.unwrap();
        store.migrate().await.unwrap();
        Self { store, owner: database.connect().await, database }
    }

    async fn tick(&self, replica: &ReplicaId, watch: Option<&FleetWatch>) -> Tick {
        self.store.tick(replica, watch, false).await.unwrap()
    }

    async fn leads(&self, replica: &ReplicaId) -> bool {
        self.tick(replica, None).await.leads
    }

    /// The lease that somebody has doesn't end while the test goes on, however slow the machine is; nor is it an outage
    /// that nobody ticks.
    async fn time_stands_still(&mut self) {
        let still = "UPDATE onex_registry_leases SET expires_at = 'infinity';
                     UPDATE onex_registry_state SET served_until = 'infinity'";
        sql::run(&mut self.owner, still).await;
    }

    async fn the_lease_ends(&mut self) {
        let past = "UPDATE onex_registry_leases SET expires_at = clock_timestamp() - interval '1 second'";
        sql::run(&mut self.owner, past).await;
    }

    /// A replica that leads until the end of the test, or of the lease.
    async fn leader(&mut self) -> ReplicaId {
        let leader = ReplicaId::random();
        assert!(self.leads(&leader).await);
        self.time_stands_still().await;
        leader
    }

    /// Registers a node as a client does.
    async fn register(&self, id: &str, alive: bool, body: &Value) {
        let raw = serde_json::value::to_raw_value(body).unwrap();
        let mut faults = Faults::at_most(1);
        let registration = Registration::read(&raw, &Path::Root, IdFrom::Path(id), &mut faults).unwrap();
        let write = RegisterWrite { registration, alive, precondition: Precondition::None, origin: origin() };
        self.store.register(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    }
}

fn origin() -> Origin {
    Origin { actor: Actor::anonymous(), correlation_id: None }
}

fn key(id: &str) -> NodeKey {
    NodeKey::new(id.to_owned()).unwrap()
}

fn watch(seconds: i64, counts: [u64; 4]) -> FleetWatch {
    let [taking_part, healthy, were_healthy, turned_stale] = counts;
    FleetWatch {
        preserving_since: Some(Timestamp::from_unix_micros(seconds * 1_000_000 + 1)),
        calm_since: Some(Timestamp::from_unix_micros(seconds * 1_000_000 + 2)),
        counts: FleetCounts { taking_part, healthy, were_healthy, turned_stale },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_of_all_who_come_when_its_lease_is_over_exactly_one() {
    let mut bench = Bench::new().await;
    let (first, second) = (ReplicaId::random(), ReplicaId::random());
    assert!(bench.leads(&first).await);
    bench.time_stands_still().await;
    assert!(!bench.leads(&second).await);
    assert!(bench.leads(&first).await, "it renews its lease");
    let until = "SELECT expires_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '3 seconds'
                   FROM onex_registry_leases";
    assert!(sql::value::<bool>(&mut bench.owner, until).await, "for no longer than a lease");
    let store = PostgresStore::connect(&bench.database.url(), 8, TTL).await.unwrap();
    for _ in 0..10 {
        bench.the_lease_ends().await;
        let mut ticks = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            ticks.spawn(async move { store.tick(&ReplicaId::random(), None, false).await.unwrap().leads });
        }
        let lead = ticks.join_all().await;
        assert_eq!(lead.iter().filter(|leads| **leads).count(), 1, "{lead:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_to_its_own_lease_that_nobody_took_leads_on() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    bench.the_lease_ends().await;
    assert!(bench.leads(&leader).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_sees_what_the_predecessor_wrote_down_and_nobody_else_writes() {
    let mut bench = Bench::new().await;
    let (first, second) = (ReplicaId::random(), ReplicaId::random());
    let (of_first, of_second) = (watch(1_000, [40, 30, 20, 10]), watch(2_000, [4, 3, 2, 1]));
    // It can't know yet what has been written down before it led.
    let tick = bench.tick(&first, Some(&of_first)).await;
    assert_eq!((tick.leads, tick.watch), (true, FleetWatch::default()));
    assert_eq!(bench.tick(&first, Some(&of_first)).await.watch, of_first);
    assert_eq!(bench.tick(&first, None).await.watch, of_first, "nothing to write is no reason to forget");
    bench.time_stands_still().await;
    let tick = bench.tick(&second, Some(&of_second)).await;
    assert_eq!((tick.leads, tick.watch), (false, of_first), "who isn't the holder writes nothing down");
    bench.the_lease_ends().await;
    let tick = bench.tick(&second, Some(&of_second)).await;
    assert_eq!((tick.leads, tick.watch), (true, of_first), "nor who becomes it");
    bench.time_stands_still().await;
    let tick = bench.tick(&first, Some(&watch(3_000, [9; 4]))).await;
    assert_eq!((tick.leads, tick.watch), (false, of_first), "nor who was it");
    assert_eq!(bench.tick(&second, Some(&of_second)).await.watch, of_second);
    let calm = FleetWatch { preserving_since: None, calm_since: None, ..of_second };
    assert_eq!(bench.tick(&second, Some(&calm)).await.watch, calm, "what is over is written down as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resigns_is_succeeded_at_once_and_nobody_resigns_for_another() {
    let mut bench = Bench::new().await;
    let (first, second) = (bench.leader().await, ReplicaId::random());
    let written = watch(1_000, [1, 2, 3, 4]);
    bench.tick(&first, Some(&written)).await;
    bench.time_stands_still().await;
    bench.store.resign(&second).await.unwrap();
    assert!(!bench.leads(&second).await, "it was not his to give");
    bench.store.resign(&first).await.unwrap();
    let tick = bench.tick(&second, None).await;
    assert_eq!((tick.leads, tick.watch), (true, written));
    bench.time_stands_still().await;
    bench.store.resign(&first).await.unwrap();
    assert!(!bench.leads(&first).await, "it was not his any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_deleted_by_hand_come_back_by_ticking() {
    let mut bench = Bench::new().await;
    let (first, second) = (bench.leader().await, ReplicaId::random());
    sql::run(&mut bench.owner, "DELETE FROM onex_registry_state; DELETE FROM onex_registry_leases").await;
    assert!(!bench.leads(&first).await, "a lease that isn't there is nobody's");
    let state = "SELECT served_until IS NOT NULL AND outage_began IS NULL FROM onex_registry_state";
    assert!(sql::value::<bool>(&mut bench.owner, state).await);
    assert!(bench.leads(&first).await);
    bench.time_stands_still().await;
    assert!(!bench.leads(&second).await);
    let rows =
        "SELECT (SELECT count(*) FROM onex_registry_state) + (SELECT count(*) FROM onex_registry_leases)";
    assert_eq!(sql::value::<i64>(&mut bench.owner, rows).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_the_row_of_the_lease_keeps_nobody_from_reporting_that_the_database_was_reached() {
    let mut bench = Bench::new().await;
    let (leader, other) = (bench.leader().await, ReplicaId::random());
    let mut idle = bench.database.connect().await;
    sql::run(&mut idle, "BEGIN; SELECT * FROM onex_registry_leases FOR UPDATE").await;
    for replica in [&leader, &other] {
        sql::run(&mut bench.owner, "UPDATE onex_registry_state SET served_until = NULL").await;
        let tick = bench.store.tick(replica, None, false).await;
        let reached = "SELECT served_until IS NOT NULL FROM onex_registry_state";
        assert!(sql::value::<bool>(&mut bench.owner, reached).await, "{tick:?}");
        // Whose lease it isn't needs no lock on it.
        assert_eq!(tick.is_err(), replica == &leader, "{tick:?}");
    }
    sql::run(&mut idle, "ROLLBACK").await;
    assert!(bench.leads(&leader).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_becomes_an_outage_when_somebody_ticks_again() {
    let mut bench = Bench::new().await;
    let leader = ReplicaId::random();
    assert_eq!(bench.tick(&leader, None).await.horizon.outage, None, "the first one ever is no outage");
    let past = "UPDATE onex_registry_state SET served_until = clock_timestamp() - interval '1 hour'";
    sql::run(&mut bench.owner, past).await;
    let horizon = bench.tick(&leader, None).await.horizon;
    let outage = horizon.outage.unwrap();
    assert_eq!(outage.ended, horizon.at);
    let written = "SELECT outage_ended = served_until AND outage_ended - outage_began >= interval '1 hour'
                     FROM onex_registry_state";
    assert!(sql::value::<bool>(&mut bench.owner, written).await);
    // Written down once: whoever ticks next knows the same.
    assert_eq!(bench.tick(&ReplicaId::random(), None).await.horizon.outage, Some(outage));
}
