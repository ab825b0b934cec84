//! Being told that there is something to read.

use std::time::Duration;

use onex_registry::node::Revision;
use onex_registry::store::IfHeld;
use onex_registry::store::health::{LifeChange, ReplicaId};
use onex_registry::store::{Hints, Store, StoreError};

use super::{LEADER, Setting, TTL, another, effect, key, registration};
use crate::harness::proxy::Proxy;
use crate::harness::{Backend, sql};

/// A hint that comes. None that is waited for comes later than this.
async fn hint(hints: &mut Box<dyn Hints>) -> Result<Option<Revision>, StoreError> {
    tokio::time::timeout(Duration::from_secs(30), hints.next()).await.expect("a hint comes")
}

async fn listen(store: &dyn Store) -> Box<dyn Hints> {
    store.hints().await.unwrap().expect("sessions are real here")
}

/// PostgreSQL's triggers don't notify where transactions can be prepared, as they can in the cluster of the tests.
pub(crate) const NOTIFY_ANYWAY: &str = r"
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('onex_registry_record(text,text,text[])'::regprocedure), '= ''0''', '<> ''''');
END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_by_whomever_one_is_told() {
    let setting = Setting::open(Backend::Postgres).await;
    let database = setting.database.as_ref().unwrap();
    let mut owner = database.connect().await;
    sql::run(&mut owner, NOTIFY_ANYWAY).await;
    let mut hints = listen(&*setting.store).await;
    // What a replica asks to see whether it is told is no concern of others.
    let other = another(database).await;
    drop(listen(&other).await);

    setting.register(&["own"], &effect(0)).await;
    let here = setting.discovered().await.revision;
    assert_eq!(hint(&mut hints).await.unwrap(), Some(here));
    other.register(&[registration("other", &effect(0))], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    let here = setting.discovered().await.revision;
    assert_eq!(hint(&mut hints).await.unwrap(), Some(here));
    sql::upsert(&mut owner, "plain", "effect", "{}").await.unwrap();
    assert_eq!(hint(&mut hints).await.unwrap(), None, "there is something, wherever it ends");
    sql::run(&mut owner, "TRUNCATE node_registrations").await;
    assert_eq!(hint(&mut hints).await.unwrap(), None);
    sql::run(&mut owner, "NOTIFY onex_registry, 'nonsense'; NOTIFY onex_registry, '77'").await;
    assert_eq!(hint(&mut hints).await.unwrap().map(Revision::get), Some(77));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_come_by_now_is_one_hint() {
    let setting = Setting::open(Backend::Postgres).await;
    let mut owner = setting.database.as_ref().unwrap().connect().await;
    let mut hints = listen(&*setting.store).await;
    // What one transaction notifies of is sent at once.
    sql::run(&mut owner, "SELECT pg_notify('onex_registry', n::text) FROM generate_series(1, 1000) n").await;
    let first = hint(&mut hints).await.unwrap().unwrap();
    let mut last = first;
    while last.get() < 1_000 {
        last = hint(&mut hints).await.unwrap().unwrap();
    }
    assert!(first.get() > 1, "each was a hint of its own");
    sql::run(
        &mut owner,
        "BEGIN; NOTIFY onex_registry, '9'; NOTIFY onex_registry; NOTIFY onex_registry, '8'; COMMIT",
    )
    .await;
    assert_eq!(hint(&mut hints).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_connection_is_told_so() {
    let setting = Setting::open(Backend::Postgres).await;
    let mut owner = setting.database.as_ref().unwrap().connect().await;
    let mut hints = listen(&*setting.store).await;
    let listening =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(sql::value::<i64>(&mut owner, listening).await, 1);
    let kill = listening.replace("count(*)", "bool_or(pg_terminate_backend(pid))");
    assert!(sql::value::<bool>(&mut owner, kill).await);
    for _ in 0..2 {
        let lost = hint(&mut hints).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    }
    let mut again = listen(&*setting.store).await;
    setting.register(&["a"], &effect(0)).await;
    assert!(hint(&mut again).await.unwrap().is_some());
    drop((hints, again));
    sql::eventually("nobody listens any more", async || sql::value::<i64>(&mut owner, listening).await == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_a_connection_that_is_silently_dead_leaves_none_open() {
    let setting = Setting::open(Backend::Postgres).await;
    let database = setting.database.as_ref().unwrap();
    let mut proxy = Proxy::to(database).await;
    let store = onex_registry::store::postgres::PostgresStore::connect(proxy.url(), 4, TTL).await.unwrap();
    // The first connection is a trial.
    proxy.has_ended(1).await;
    let mut hints = listen(&store).await;
    proxy.silence();
    setting.register(&["a"], &effect(0)).await;
    let nothing = tokio::time::timeout(Duration::from_millis(200), hints.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    drop(hints);
    tokio::time::timeout(Duration::from_secs(30), proxy.has_ended(2)).await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_tells_of_what_it_does_by_itself() {
    let setting = Setting::open(Backend::Sqlite).await;
    let mut hints = listen(&*setting.store).await;
    let write = onex_registry::store::RegisterWrite { alive: true, ..registration("a", &effect(0)) };
    let registered = setting.store.register(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    let since = registered.record.last_heartbeat.unwrap();
    let healthy = LifeChange { node_id: key("a"), healthy: true, since };
    let leader = ReplicaId::from(LEADER);
    assert_eq!(setting.store.announce(&leader, std::slice::from_ref(&healthy)).await.unwrap().len(), 1);
    assert_eq!(hint(&mut hints).await.unwrap(), None);
    // What was told is not told again, and what a caller learns from the answer is no hint.
    assert!(setting.store.announce(&leader, &[healthy]).await.unwrap().is_empty());
    setting.register(&["a"], &effect(1)).await;
    assert!(tokio::time::timeout(Duration::ZERO, hints.next()).await.is_err());
}
