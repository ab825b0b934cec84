//! The whole table, at first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::Connection as _;

use super::{Setting, effect, key, load, on_each_store};
use crate::harness::{Backend, sql};
use onex_registry::store::IfHeld;

on_each_store!(
    what_is_loaded_is_the_table,
    an_empty_table_is_loaded,
    of_some_nodes_those_that_are_there_are_read
);

async fn what_is_loaded_is_the_table(setting: &Setting) {
    let ids: Vec<String> = (0..2_500).map(|number| format!("n{number}")).collect();
    for ids in ids.chunks(500) {
        setting.register(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &effect(0)).await;
    }
    setting.register(&["n1", "n2", "é 🦀", "a/b"], &effect(1)).await;
    setting.store.heartbeat(&[key("n2"), key("n3")], IfHeld::Wait).await;
    setting.set_maintenance("n3", Some("a disk")).await;
    setting.deregister("n4").await;
    setting.run(
        "INSERT INTO node_registrations (node_id, node_type, metadata, last_heartbeat) VALUES ('foreign', '', '[1]', 'infinity')",
        "INSERT INTO node_registrations (node_id, node_type, metadata) VALUES ('foreign', '', '[1]')",
    )
    .await;

    let (copy, loaded) = setting.load().await;
    let seen = setting.discovered().await;
    assert_eq!(copy.len(), 2_502);
    assert_eq!(copy, seen.value);
    assert_eq!(loaded.position.revision, seen.revision);
    assert!(loaded.horizon.at <= seen.horizon.at && loaded.horizon.outage == seen.horizon.outage);
    assert_eq!(copy[&key("n3")].revision, seen.value[&key("n3")].revision);

    let followed = setting.follow(&loaded.position).await;
    assert!(followed.events.is_empty() && followed.records.is_empty() && followed.signs.is_empty());
    assert_eq!((followed.snapshot, followed.position.revision), (seen.revision, seen.revision));
    assert!(!followed.more() && followed.horizon.at >= loaded.horizon.at && followed.lag.is_zero());
}

/// No more rows than this are read in a row; in truth it is half of it.
const IN_A_ROW: usize = 32;

/// On a runtime with one thread, where everybody stands still as long as somebody takes no pause.
async fn who_reads_all_lets_others_have_their_turn(backend: Backend) {
    let setting = Setting::open(backend).await;
    let ids: Vec<String> = (0..2_000).map(|number| format!("n{number}")).collect();
    for ids in ids.chunks(500) {
        setting.register(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &effect(0)).await;
    }
    let since_others_had_it = Arc::new(AtomicUsize::new(0));
    let since = Arc::clone(&since_others_had_it);
    let others = tokio::spawn(async move {
        loop {
            since.store(0, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let (mut rows, mut longest) = (0, 0);
    let mut take = || {
        rows += 1;
        longest = longest.max(since_others_had_it.fetch_add(1, Ordering::Relaxed) + 1);
    };
    setting.store.load(&mut |_| take()).await.unwrap();
    setting.store.digests(&mut |_, _| take()).await.unwrap();
    assert_eq!(rows, 4_000);
    assert!(longest <= IN_A_ROW, "{longest} rows were read in a row");
    others.abort();
    setting.store.close().await;
}

#[tokio::test]
async fn who_reads_all_of_postgres_lets_others_have_their_turn() {
    who_reads_all_lets_others_have_their_turn(Backend::Postgres).await;
}

#[tokio::test]
async fn who_reads_all_of_sqlite_lets_others_have_their_turn() {
    who_reads_all_lets_others_have_their_turn(Backend::Sqlite).await;
}

async fn an_empty_table_is_loaded(setting: &Setting) {
    let (copy, loaded) = setting.load().await;
    assert!(copy.is_empty());
    setting.register(&["first"], &effect(0)).await;
    let followed = setting.follow(&loaded.position).await;
    assert_eq!(super::told(&followed), [("first", "registered")]);
}

async fn of_some_nodes_those_that_are_there_are_read(setting: &Setting) {
    setting.register(&["a", "b", "c"], &effect(0)).await;
    setting.register(&["b"], &effect(1)).await;
    setting.deregister("c").await;
    let found = setting.store.records(&["b", "c", "nobody", "a"].map(key)).await.unwrap();
    let all = setting.discovered().await;
    assert_eq!(found.value.len(), 2);
    assert!(found.value.iter().all(|record| all.value[&record.node_id] == *record));
    assert_eq!(found.revision, all.revision);
    assert!(setting.store.records(&[]).await.unwrap().value.is_empty());
}

/// What is loaded is one snapshot, however long it takes, and what comes after is read after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_the_table_is_loaded_is_read_after_it() {
    let setting = Setting::open(Backend::Postgres).await;
    let database = setting.database.as_ref().unwrap();
    let ids: Vec<String> = (0..1_000).map(|number| format!("n{number}")).collect();
    setting.register(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &effect(0)).await;
    let url = database.url();
    let mut changes = Some(move || {
        // On a thread of its own: who takes the records can't wait for a future.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
            let change = "UPDATE node_registrations SET node_type = 'compute'; DELETE FROM node_registrations WHERE node_id = 'n7';
                INSERT INTO onex_registry_signs (at, replica, alive) VALUES (clock_timestamp(), 'other', '{n8}')";
            sql::run(&mut other, change).await;
        });
    });
    let mut copy = super::Copy::new();
    let mut take = |record: onex_registry::node::NodeRecord| {
        if let Some(changes) = changes.take() {
            std::thread::spawn(changes).join().unwrap();
        }
        copy.insert(record.node_id.clone(), record);
    };
    let loaded = setting.store.load(&mut take).await.unwrap();
    assert_eq!(copy.values().filter(|record| record.node_type == "effect").count(), 1_000);
    let followed = setting.follow(&loaded.position).await;
    assert_eq!(followed.events.len(), 1_001);
    assert_eq!(followed.signs.len(), 1);
    super::apply(&mut copy, &followed);
    assert_eq!(copy, load(&*setting.store).await.0);
}
