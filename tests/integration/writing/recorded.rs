//! What a batch has added to the log, and what came just before it.

use std::collections::HashSet;

use futures_util::future::join_all;
use onex_registry::node::{Event, EventQuery, PageLimit, Precondition, Reason, Revision};
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{IfHeld, MaintenanceWrite, Recorded, Store as _};
use serde_json::json;

use super::{deregister, key, open, origin, register};
use crate::harness::{TestDatabase, sql};

/// The whole log.
async fn log(store: &PostgresStore) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(Revision::ZERO, |event: &Event| event.revision);
        let query = EventQuery {
            after: Some(after),
            node_ids: None,
            kinds: Vec::new(),
            limit: PageLimit::new(1_000).unwrap(),
        };
        let page = store.events(&query).await.unwrap().value;
        if page.events.is_empty() {
            return events;
        }
        events.extend(page.events);
    }
}

fn events(recorded: &[Recorded]) -> Vec<Event> {
    recorded.iter().flat_map(|recorded| recorded.events.clone()).collect()
}

/// Each begins where the log ended before it.
fn assert_joins_the_log(recorded: &[Recorded], log: &[Event]) {
    for Recorded { previous, events } in recorded {
        let first = log.iter().position(|event| event.revision == events[0].revision).unwrap();
        assert_eq!(&log[first..first + events.len()], events, "nothing of others is among them");
        let before = if first == 0 { Revision::ZERO } else { log[first - 1].revision };
        assert_eq!(*previous, before, "{events:?}");
    }
}

#[tokio::test]
async fn every_write_tells_what_it_has_added_to_the_log() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    let mut recorded = Vec::new();
    let new = store.register(&["c", "a", "b"].map(|id| register(id, &json!({}))), IfHeld::Wait).await;
    assert_eq!(new.recorded.len(), 1);
    recorded.extend(new.recorded);
    let again = [("a", json!({})), ("c", json!({"new": 1}))].map(|(id, metadata)| register(id, &metadata));
    recorded.extend(store.register(&again, IfHeld::Wait).await.recorded);
    let reason = Some(Reason::parse("disk").unwrap());
    let taken_out = MaintenanceWrite {
        node_id: key("a"),
        reason,
        precondition: Precondition::None,
        origin: origin("other"),
    };
    let taken_out = [taken_out];
    recorded.extend(store.set_maintenance(&taken_out, IfHeld::Wait).await.recorded);
    recorded.extend(store.deregister(&["b", "nobody"].map(deregister), IfHeld::Wait).await.recorded);
    // What changes nothing records nothing.
    assert!(store.set_maintenance(&taken_out, IfHeld::Wait).await.recorded.is_empty());
    assert!(store.deregister(&[deregister("b")], IfHeld::Wait).await.recorded.is_empty());
    let same = store.register(&again[1..], IfHeld::Wait).await;
    assert!(same.recorded.is_empty());

    let log = log(&store).await;
    assert_eq!(events(&recorded), log);
    assert_joins_the_log(&recorded, &log);
    let told: Vec<_> =
        log.iter().map(|event| (event.node_id.as_str(), event.kind.as_str(), event.changed.len())).collect();
    assert_eq!(
        told,
        [
            ("c", "registered", 0),
            ("a", "registered", 0),
            ("b", "registered", 0),
            ("c", "updated", 1),
            ("a", "maintenance", 0),
            ("b", "deregistered", 0)
        ]
    );
    assert_eq!(same.results[0].as_ref().unwrap().record.revision, log[3].revision);
}

#[tokio::test]
async fn a_batch_that_is_done_in_parts_tells_of_each_part() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, "ALTER TABLE node_registrations ADD CHECK (node_id NOT IN ('n3', 'n8'))").await;
    // One more is held for a while, and goes a side way.
    sql::upsert(&mut owner, "n5", "compute", "{}").await.unwrap();
    sql::run(&mut owner, "BEGIN; SELECT * FROM node_registrations WHERE node_id = 'n5' FOR UPDATE").await;
    let batch: Vec<_> = (0..10).map(|n| register(&format!("n{n}"), &json!({}))).collect();
    let ends = async {
        sql::eventually("the others are done", async || {
            sql::value::<i64>(&mut owner, "SELECT count(*) FROM node_events").await == 8
        })
        .await;
        sql::run(&mut owner, "COMMIT").await;
    };
    let (written, ()) = tokio::join!(store.register(&batch, IfHeld::Wait), ends);
    assert_eq!(written.results.iter().filter(|result| result.is_ok()).count(), 8);
    assert!(written.recorded.len() > 2, "{:?}", written.recorded);
    let log = log(&store).await;
    assert_eq!(events(&written.recorded), log[1..], "in the order of revisions");
    assert_joins_the_log(&written.recorded, &log);
}

#[tokio::test]
async fn what_came_before_is_what_was_committed_and_not_what_was_numbered() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    let previous = async |id: &str| {
        let recorded = store.register(&[register(id, &json!({}))], IfHeld::Wait).await.recorded;
        (recorded[0].previous, recorded[0].events[0].revision)
    };
    let (nothing, first) = previous("a").await;
    assert_eq!(nothing, Revision::ZERO);
    sql::run(&mut owner, "BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await;
    sql::upsert(&mut owner, "never", "effect", "{}").await.unwrap();
    sql::run(&mut owner, "ROLLBACK").await;
    let (before, second) = previous("b").await;
    assert_eq!(before, first, "nobody can ever read what was rolled back");
    assert!(second.get() > first.get() + 1);

    // The newest events can be deleted, but not without a trace.
    sql::run(&mut owner, "DELETE FROM node_events").await;
    sql::run(&mut owner, format!("UPDATE onex_registry_state SET pruned_through = {second}")).await;
    assert_eq!(previous("c").await.0, second);
    // Whoever has emptied the state as well has nothing to begin from.
    sql::run(&mut owner, "DELETE FROM node_events; DELETE FROM onex_registry_state").await;
    assert_eq!(previous("d").await.0, Revision::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_is_exact_however_many_write_at_once() {
    let database = TestDatabase::create().await;
    let (one, other) = (open(&database).await, open(&database).await);
    let by_store =
        join_all([&one, &other, &one, &other].into_iter().enumerate().map(|(writer, store)| async move {
            let mut recorded = Vec::new();
            for round in 0..20 {
                let batch: Vec<_> = (0..10)
                    .map(|n| {
                        register(&format!("n{}", (n * 7 + writer) % 30), &json!({"by": [writer, round]}))
                    })
                    .collect();
                recorded.extend(store.register(&batch, IfHeld::Wait).await.recorded);
                recorded.extend(
                    store.deregister(&[deregister(&format!("n{round}"))], IfHeld::Wait).await.recorded,
                );
            }
            recorded
        }));
    let by_sql = join_all((0..3).map(|writer| {
        let database = &database;
        async move {
            let mut connection = database.connect().await;
            for round in 0..40 {
                let metadata = format!("{{\"round\": {round}}}");
                sql::upsert(&mut connection, &format!("sql{writer}"), "effect", &metadata).await.unwrap();
            }
        }
    }));
    let (by_store, _) = tokio::join!(by_store, by_sql);
    let log = log(&one).await;
    let mut ours = HashSet::new();
    for recorded in by_store {
        assert!(recorded.len() >= 20);
        assert_joins_the_log(&recorded, &log);
        ours.extend(events(&recorded).into_iter().map(|event| event.revision));
    }
    let theirs = log.iter().filter(|event| event.actor.starts_with("sql:")).count();
    assert_eq!((theirs, ours.len()), (120, log.len() - 120), "each event is told of once");
}
