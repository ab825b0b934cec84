//! What other programs do with plain SQL, while a replica reads on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onex_registry::node::Event;
use onex_registry::store::IfHeld;
use onex_registry::store::Store;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::{Copy, Setting, another, apply, effect, told};
use crate::harness::{Backend, TestDatabase, sql};

const WRITERS: usize = 40;
const ROUNDS: usize = 15;

/// Changes nodes that it shares with others, in transactions that overlap: some short, some long, some undone.
async fn write(mut connection: PgConnection, writer: usize) {
    for round in 0..ROUNDS {
        let id = format!("n{}", (writer * 7 + round * 3) % 25);
        let own = format!("own{writer}");
        sql::run(&mut connection, "BEGIN").await;
        let metadata = format!("{{\"by\": [{writer}, {round}]}}");
        sql::upsert(&mut connection, &own, "effect", &metadata).await.unwrap();
        if (writer + round).is_multiple_of(4) {
            sql::delete(&mut connection, &id).await.unwrap();
        } else {
            sql::upsert(&mut connection, &id, "compute", &metadata).await.unwrap();
        }
        sql::dawdle(&mut connection, ((writer * 13 + round * 5) % 9) as u64).await;
        sql::run(&mut connection, if (writer + round) % 6 == 5 { "ROLLBACK" } else { "COMMIT" }).await;
    }
}

/// Reads on until nobody writes any more. Returns its copy, and the events in the order in which they were read.
async fn read(store: &dyn Store, writing: &AtomicUsize) -> (Copy, Vec<Event>) {
    let (mut copy, loaded) = super::load(store).await;
    let (mut position, mut events) = (loaded.position, Vec::new());
    loop {
        let last = writing.load(Ordering::SeqCst) == 0;
        let followed = store.follow(&position).await.unwrap();
        apply(&mut copy, &followed);
        position = followed.position.clone();
        let more = followed.more();
        events.extend(followed.events);
        if last && !more {
            return (copy, events);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_read_once_and_none_comes_late_and_the_copy_is_the_table() {
    let setting = Setting::open(Backend::Postgres).await;
    let database = setting.database.as_ref().unwrap();
    let writing = Arc::new(AtomicUsize::new(WRITERS + 1));
    let stores = [another(database).await, another(database).await];
    let readers = stores.map(|store| {
        let writing = Arc::clone(&writing);
        tokio::spawn(async move { read(&store, &writing).await })
    });
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (connection, writing) = (database.connect().await, Arc::clone(&writing));
        writers.spawn(async move {
            write(connection, writer).await;
            writing.fetch_sub(1, Ordering::SeqCst);
        });
    }
    let (store, still_writing) = (Arc::clone(&setting.store), Arc::clone(&writing));
    writers.spawn(async move {
        for round in 0..ROUNDS {
            let ids = ["n1", "n2", "ours"].map(|id| super::registration(id, &effect(round)));
            // A row that a plain writer holds for long is not to be had.
            drop(store.register(&ids, IfHeld::Wait).await);
        }
        still_writing.fetch_sub(1, Ordering::SeqCst);
    });
    writers.join_all().await;
    let table = setting.discovered().await;
    let mut owner = database.connect().await;
    let log: Vec<i64> = sql::events(&mut owner, 0).await.iter().map(|event| event.revision).collect();
    assert!(log.len() > WRITERS * ROUNDS);
    for reader in readers {
        let (copy, events) = reader.await.unwrap();
        let first = events.first().map_or(0, |event| event.revision.get());
        let read: Vec<i64> = events.iter().map(|event| event.revision.get()).collect();
        let since: Vec<i64> = log.iter().copied().filter(|revision| *revision >= first).collect();
        assert_eq!(read, since);
        assert!(read.len() > log.len() / 2, "it began before the others were done");
        assert_eq!(copy, table.value);
    }
}

async fn with_two() -> (Setting, TestDatabase) {
    let mut setting = Setting::open(Backend::Postgres).await;
    setting.register(&["a", "b"], &effect(0)).await;
    let database = setting.database.take().unwrap();
    (setting, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_commits_late_is_read_late() {
    let (setting, database) = with_two().await;
    let position = setting.here().await;
    let mut late = database.connect().await;
    sql::run(&mut late, "BEGIN").await;
    sql::upsert(&mut late, "a", "compute", "{}").await.unwrap();
    setting.register(&["b"], &effect(1)).await;
    let followed = setting.follow(&position).await;
    assert_eq!(told(&followed), [("b", "updated")]);
    sql::run(&mut late, "COMMIT").await;
    let followed = setting.follow(&followed.position).await;
    assert_eq!(told(&followed), [("a", "updated")]);
    assert_eq!(followed.events[0].actor, "sql:postgres");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_empties_the_table_is_read() {
    let (setting, database) = with_two().await;
    let (mut copy, loaded) = setting.load().await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, "BEGIN; TRUNCATE node_registrations").await;
    sql::upsert(&mut owner, "b", "compute", "{}").await.unwrap();
    sql::run(&mut owner, "COMMIT").await;
    let followed = setting.follow(&loaded.position).await;
    assert_eq!(told(&followed), [("a", "deregistered"), ("b", "deregistered"), ("b", "registered")]);
    apply(&mut copy, &followed);
    assert_eq!(copy, setting.discovered().await.value);
    assert_eq!(copy.len(), 1);
    sql::run(&mut owner, "TRUNCATE node_registrations").await;
    let followed = setting.follow(&followed.position).await;
    assert!(followed.records.is_empty());
    assert_eq!(told(&followed), [("b", "deregistered")]);
}
