//! A database that was restored, or whose place another one has taken: the last of what was known never was.

use serde_json::{Value, json};

use crate::harness::sql;
use crate::harness::{TestServer, ids_of};

on_both_stores!(
    where_the_end_of_the_log_is_another_all_is_read_anew_and_watches_end,
    a_write_after_a_restore_is_seen_by_the_next_read,
);

fn effect(round: usize) -> String {
    json!({"node_type": "effect", "metadata": {"round": round}}).to_string()
}

/// What a test does to the log, as each of the stores takes it.
const GO_BACK: (&str, &str) = (
    "BEGIN; SET LOCAL session_replication_role = replica;
     DELETE FROM node_registrations WHERE node_id LIKE 'lost%';
     DELETE FROM node_events WHERE node_id LIKE 'lost%';
     SELECT setval('node_events_revision_seq', (SELECT max(revision) FROM node_events));
     COMMIT",
    "BEGIN; DELETE FROM node_registrations WHERE node_id LIKE 'lost%';
     DELETE FROM node_events WHERE node_id LIKE 'lost%';
     UPDATE sqlite_sequence SET seq = (SELECT max(revision) FROM node_events) WHERE name = 'node_events';
     COMMIT",
);
/// The same, and others have written more since than was lost.
const GO_BACK_AND_ON: (&str, &str) = (
    "BEGIN; SET LOCAL session_replication_role = replica;
     DELETE FROM node_registrations WHERE node_id LIKE 'lost%';
     DELETE FROM node_events WHERE node_id LIKE 'lost%';
     SELECT setval('node_events_revision_seq', (SELECT max(revision) FROM node_events));
     INSERT INTO node_registrations (node_id, node_type) SELECT 'new' || n, 'effect' FROM generate_series(1, 9) n;
     INSERT INTO node_events (revision, node_id, kind, actor, occurred_at)
     SELECT nextval('node_events_revision_seq'), 'new' || n, 'registered', 'another', now() FROM generate_series(1, 9) n;
     COMMIT",
    "BEGIN; DELETE FROM node_registrations WHERE node_id LIKE 'lost%';
     DELETE FROM node_events WHERE node_id LIKE 'lost%';
     UPDATE sqlite_sequence SET seq = (SELECT max(revision) FROM node_events) WHERE name = 'node_events';
     INSERT INTO node_registrations (node_id, node_type)
     SELECT 'new' || value, 'effect' FROM json_each('[1,2,3,4,5,6,7,8,9]');
     INSERT INTO node_events (node_id, kind, actor, occurred_at)
     SELECT 'new' || value, 'registered', 'another', CAST(unixepoch('subsec') * 1000000 AS INTEGER)
       FROM json_each('[1,2,3,4,5,6,7,8,9]');
     COMMIT",
);

async fn where_the_end_of_the_log_is_another_all_is_read_anew_and_watches_end(server: &TestServer) {
    server.register("kept", effect(0)).await;
    for (round, go_back) in [GO_BACK_AND_ON, GO_BACK].into_iter().enumerate() {
        for n in 0..5 {
            server.register(&format!("lost{n}"), effect(round)).await;
        }
        let mut watch = server.watch("").await;
        sql::run_on(server, go_back.0, go_back.1).await;
        let told = watch.rest().await;
        let closing = told.last().unwrap();
        assert_eq!((closing.name.as_str(), &closing.data), ("closing", &json!({"reason": "reset"})));
        let ids = server.ids("").await;
        assert_eq!((ids.len(), ids[0].as_str()), (10, "kept"), "{ids:?}");
    }
}

async fn a_write_after_a_restore_is_seen_by_the_next_read(server: &TestServer) {
    for round in 0..5 {
        let kept = format!("kept{round}");
        server.register(&kept, effect(0)).await;
        for n in 0..5 {
            server.register(&format!("lost{n}"), effect(round)).await;
        }
        sql::run_on(server, GO_BACK.0, GO_BACK.1).await;
        // Its number is one that something else had.
        let written = server.register(&kept, effect(1)).await;
        let new = format!("new{round}");
        server.register(&new, effect(0)).await;
        let page = server.get_once("/v1/nodes?limit=1000").await.json();
        let shown = page["nodes"].as_array().unwrap().iter().find(|node| node["node_id"] == *kept);
        assert_eq!(shown.map_or(&Value::Null, |node| &node["revision"]), &written["revision"]);
        let ids = ids_of(&page);
        assert_eq!(ids.len(), 2 * (round + 1), "{ids:?}");
        assert!(ids.contains(&new));
    }
}
