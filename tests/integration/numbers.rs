//! Where the sequence of revisions stands behind the log, as after a logical replica took over or data was restored alone:
//! what is written is numbered after what everybody has read, by whichever way it comes.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::PgConnection;

use crate::harness::{Backend, TestDatabase, TestServer, ids_of, node, sql};

const EFFECT: &str = r#"{"node_type":"effect"}"#;

/// The newest event.
async fn newest(owner: &mut PgConnection) -> i64 {
    sql::value(owner, "SELECT COALESCE(max(revision), 0) FROM node_events").await
}

/// All ways to make an event. Each says which node it is about.
async fn write(server: &TestServer, owner: &mut PgConnection, way: &str) {
    let done = match way {
        "one new" => server.put(&node("new"), EFFECT).await,
        "one changed" => server.put(&node("a"), r#"{"node_type":"effect","metadata":{"x":1}}"#).await,
        "many" => {
            let nodes = json!({"nodes": [{"node_id": "m1", "node_type": "effect"},
                                         {"node_id": "m2", "node_type": "effect"}]});
            server.post("/v1/batch/nodes", nodes).await
        }
        "gone" => server.delete(&node("b")).await,
        "maintenance" => server.put(&format!("{}/maintenance", node("c")), json!({"reason": "disk"})).await,
        _ => return sql::upsert(owner, "by_sql", "effect", "{}").await.unwrap(),
    };
    assert!((200..300).contains(&done.status), "{way}: {}", done.text);
    if way == "many" {
        let results = done.json()["results"].as_array().unwrap().clone();
        assert!(results.iter().all(|result| result["status"] == 201), "{way}: {}", done.text);
    }
}

const WAYS: [&str; 6] = ["one new", "one changed", "many", "gone", "maintenance", "plain SQL"];

/// The numbers below are taken, and they are free because old events were deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_on_from_the_newest_wherever_the_sequence_stands() {
    let deleted = "DELETE FROM node_events WHERE revision < (SELECT max(revision) FROM node_events);
                   UPDATE onex_registry_state SET pruned_through = (SELECT max(revision) - 1 FROM node_events)";
    let all_deleted =
        "UPDATE onex_registry_state SET pruned_through = (SELECT max(revision) FROM node_events);
                       DELETE FROM node_events";
    for (name, meanwhile) in [("taken", ""), ("deleted", deleted), ("all deleted", all_deleted)] {
        for way in WAYS {
            let database = TestDatabase::create().await;
            let server = TestServer::start_on(&database.url(), &["--compare-interval=1h"]).await;
            let other = TestServer::start_on(&database.url(), &["--compare-interval=1h"]).await;
            let mut owner = database.connect().await;
            for round in 0..3 {
                for id in ["a", "b", "c"] {
                    let body = json!({"node_type": "effect", "metadata": {"round": round}});
                    server.register(id, body).await;
                }
            }
            let before = newest(&mut owner).await;
            let heard = other.get(&format!("/v1/nodes?min_revision={before}")).await;
            assert_eq!(heard.status, 200, "{}", heard.text);
            let mut watch = other.watch("").await;
            sql::run(&mut owner, format!("{meanwhile}; SELECT setval('node_events_revision_seq', 2)")).await;

            write(&server, &mut owner, way).await;
            let after = newest(&mut owner).await;
            assert!(after > before, "{name}, {way}: {after} comes after {before}");
            let message = watch.next().await;
            let told = message.id.unwrap();
            assert!(told > before && told <= after, "{name}, {way}: {message:?}");
            let strong = server.get(&format!("/v1/nodes?consistency=strong&min_revision={after}")).await;
            let here = other.get(&format!("/v1/nodes?min_revision={after}")).await;
            // Without its event, a node has another revision, and the catalog needn't know.
            assert_eq!(ids_of(&here.json()), ids_of(&strong.json()), "{name}, {way}");
            server.stop().await;
            other.stop().await;
        }
    }
}

/// Whoever serves owns nothing: the sequence is set by a function that may do that, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_on_the_sequence_can_have_it_mended_and_no_more() {
    let database = TestDatabase::create().await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    server.register("a", EFFECT).await;
    let mut owner = database.connect().await;
    let before = newest(&mut owner).await;
    let name = format!("mender_{}", database.name());
    sql::run(&mut owner, format!("CREATE ROLE {name}; SET ROLE {name}")).await;
    let refused = sqlx::query("SELECT setval('node_events_revision_seq', 1)").execute(&mut owner).await;
    assert!(refused.is_err());
    sql::run(&mut owner, "RESET ROLE; SELECT setval('node_events_revision_seq', 1)").await;
    sql::run(&mut owner, format!("SET ROLE {name}; SELECT onex_registry_mend_numbers(); RESET ROLE")).await;
    let next: i64 = sql::value(&mut owner, "SELECT nextval('node_events_revision_seq')").await;
    assert_eq!(next, before + 1);
    // What is ahead stays ahead.
    sql::run(&mut owner, "SELECT onex_registry_mend_numbers()").await;
    let next: i64 = sql::value(&mut owner, "SELECT nextval('node_events_revision_seq')").await;
    assert_eq!(next, before + 2);
    sql::run(&mut owner, format!("DROP ROLE {name}")).await;
    server.stop().await;
}

/// Concurrent writers that are SERIALIZABLE don't fail because of each other: they write to different nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serializable_writers_of_different_nodes_are_not_made_to_depend_on_each_other() {
    let server = TestServer::start(Backend::Postgres).await;
    let database = server.database.as_ref().unwrap();
    let mut failures = BTreeMap::new();
    for round in 0..10 {
        let (mut one, mut other) = (database.connect().await, database.connect().await);
        for connection in [&mut one, &mut other] {
            sql::run(connection, "BEGIN ISOLATION LEVEL SERIALIZABLE").await;
        }
        sql::upsert(&mut one, &format!("one{round}"), "effect", "{}").await.unwrap();
        sql::upsert(&mut other, &format!("other{round}"), "effect", "{}").await.unwrap();
        for (name, connection) in [("one", &mut one), ("other", &mut other)] {
            if let Err(error) = sqlx::raw_sql("COMMIT").execute(connection).await {
                failures.insert((name, round), error.to_string());
            }
        }
    }
    assert_eq!(failures, BTreeMap::new());
    server.stop().await;
}
