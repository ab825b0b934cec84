//! Plain writers in transactions that take their time, or ask for more than READ COMMITTED.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{pair, start};
use crate::harness::{TestServer, node, sql};

fn statuses(results: &Value) -> BTreeMap<i64, Vec<String>> {
    let mut statuses = BTreeMap::<i64, Vec<String>>::new();
    for result in results["results"].as_array().unwrap() {
        let id = result["node_id"].as_str().unwrap().to_owned();
        statuses.entry(result["status"].as_i64().unwrap()).or_default().push(id);
    }
    statuses
}

/// A writer idles in its transaction after these statements. Its node `held` can't be written; all else can.
async fn idles(before: &str, statements: &str) {
    let (server, mut owner) = start().await;
    sql::run(&mut owner, before).await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut idle, format!("BEGIN; {statements}")).await;

    // Whatever waited for the idle one would wait for ever, and be given up with 503.
    for id in ["a", "other", "z"] {
        assert_eq!(server.put(&node(id), json!({"node_type": "compute"})).await.status, 201, "{id}");
        sql::upsert(&mut owner, id, "reducer", "{}").await.unwrap();
        assert_eq!(server.delete(&node(id)).await.status, 204, "{id}");
    }
    let refused = server.put(&node("held"), json!({"node_type": "compute"})).await;
    refused.problem(503, "contended");
    assert!(refused.header("retry-after").is_some());

    let ids = (0..100).map(|i| if i == 63 { "held".to_owned() } else { format!("n{i}") });
    let nodes: Vec<Value> = ids.map(|id| json!({"node_id": id, "node_type": "effect"})).collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await.json();
    let statuses = statuses(&answer);
    assert_eq!(statuses[&503], ["held"], "{statuses:?}");
    assert_eq!(statuses[&201].len(), 99);
    assert_eq!(answer["results"][63]["problem"]["type"], "/problems/contended");

    sql::run(&mut idle, "ROLLBACK").await;
    server.register("held", json!({"node_type": "compute"})).await;
    assert_eq!(server.delete(&node("held")).await.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn one_that_idles_after_an_insert_delays_nobody_else() {
    idles("", "INSERT INTO node_registrations (node_id, node_type) VALUES ('held', 'effect')").await;
}

#[tokio::test]
async fn one_that_idles_after_an_update_delays_nobody_else() {
    idles(
        "INSERT INTO node_registrations (node_id, node_type) VALUES ('held', 'effect')",
        "UPDATE node_registrations SET node_version = '2.0.0' WHERE node_id = 'held'",
    )
    .await;
}

#[tokio::test]
async fn one_that_idles_after_a_delete_delays_nobody_else() {
    idles(
        "INSERT INTO node_registrations (node_id, node_type) VALUES ('held', 'effect')",
        "DELETE FROM node_registrations",
    )
    .await;
}

#[tokio::test]
async fn many_rows_of_one_that_idles_are_given_up_together() {
    let (server, _owner) = start().await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    let insert = "INSERT INTO node_registrations (node_id, node_type)
                  SELECT 'n' || i, 'effect' FROM generate_series(0, 59, 2) AS i";
    sql::run(&mut idle, format!("BEGIN; {insert}")).await;
    let nodes: Vec<Value> =
        (0..60).map(|i| json!({"node_id": format!("n{i}"), "node_type": "effect"})).collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let statuses = statuses(&answer.json());
    assert_eq!((statuses[&201].len(), statuses[&503].len()), (30, 30));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_ask_for_held_nodes_leave_connections_for_the_others() {
    let (server, mut owner) = start().await;
    let insert = "INSERT INTO node_registrations (node_id, node_type)
                  SELECT 'held' || i, 'effect' FROM generate_series(0, 39) AS i";
    sql::run(&mut owner, insert).await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut idle, "BEGIN; UPDATE node_registrations SET metadata = '{\"held\": true}'").await;

    let mut others = 0;
    let answers = {
        let asking = join_all((0..40).map(|i| {
            let server = &server;
            async move { server.put(&node(&format!("held{i}")), json!({"node_type": "compute"})).await }
        }));
        tokio::pin!(asking);
        // As long as those wait, everybody else is served.
        loop {
            let other = async {
                let answer =
                    server.put(&node(&format!("other{others}")), json!({"node_type": "effect"})).await;
                assert_eq!(answer.status, 201, "{}", answer.text);
                assert_eq!(server.get("/v1/nodes?limit=1").await.status, 200);
                // A server has ten connections, and half of them may wait for rows.
                let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                                  AND wait_event IN ('transactionid', 'tuple')";
                assert!(sql::value::<i64>(&mut owner, waiting).await <= 5);
            };
            tokio::select! {
                answers = &mut asking => break answers,
                () = other => others += 1,
            }
        }
    };
    assert!(others > 0, "somebody else was served meanwhile");
    for answer in answers {
        answer.problem(503, "contended");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_held_node_is_not_deregistered_and_the_others_are() {
    let (server, mut owner) = start().await;
    for id in ["a", "held", "z"] {
        sql::upsert(&mut owner, id, "effect", "{}").await.unwrap();
    }
    let mut tx = owner.begin().await.unwrap();
    sql::upsert(&mut tx, "held", "compute", "{}").await.unwrap();
    server.delete(&node("held")).await.problem(503, "contended");
    let ids = json!({"node_ids": ["a", "held", "z", "nobody"]});
    let answer = server.post("/v1/batch/deregister", &ids).await;
    answer.problem(503, "contended");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(server.ids("").await, ["held"]);
    tx.commit().await.unwrap();
    let answer = server.post("/v1/batch/deregister", &ids).await.json();
    assert_eq!(answer, json!({"deregistered": 1, "unknown": ["a", "nobody", "z"]}));
    server.stop().await;
}

#[tokio::test]
async fn a_write_that_waits_for_a_held_node_goes_on_when_it_is_let_go() {
    let (server, mut owner) = start().await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    let path = node("held");
    // It may be given up before the other lets go: then it is asked again.
    for round in 0.. {
        sql::run(&mut idle, "BEGIN").await;
        sql::upsert(&mut idle, "held", "effect", &format!("{{\"round\": {round}}}")).await.unwrap();
        let waits = server.put(&path, json!({"node_type": "compute"}));
        let lets_go = async {
            sql::eventually("the server waits for a lock", async || {
                let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
                                WHERE datname = current_database() AND wait_event_type = 'Lock'";
                sql::value(&mut owner, waiting).await
            })
            .await;
            sql::run(&mut idle, "COMMIT").await;
        };
        let (answer, ()) = tokio::join!(waits, lets_go);
        if answer.status == 200 {
            assert_eq!(answer.json()["node_type"], "compute");
            break;
        }
        answer.problem(503, "contended");
        assert!(round < 5, "never done");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_keeps_the_numbers_to_himself_is_waited_for_once_and_not_by_readers() {
    let (server, mut owner) = start().await;
    server.register("n", json!({"node_type": "effect"})).await;
    // A plain writer that wants its constraints checked at once is numbered at once, and may idle then.
    sql::run(&mut owner, "BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await;
    sql::upsert(&mut owner, "early", "effect", "{}").await.unwrap();

    let nodes: Vec<Value> =
        (0..100).map(|i| json!({"node_id": format!("n{i}"), "node_type": "effect"})).collect();
    let batch = json!({ "nodes": nodes });
    let answer = server.post("/v1/batch/nodes", &batch).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(statuses(&answer.json())[&503].len(), 100);
    server.delete(&node("n")).await.problem(503, "contended");
    // Nothing new is no event and needs no number; nor does reading.
    assert_eq!(server.put(&node("n"), json!({"node_type": "effect"})).await.status, 200);
    assert_eq!(server.ids("").await, ["n"]);

    sql::run(&mut owner, "COMMIT").await;
    let answer = server.post("/v1/batch/nodes", &batch).await.json();
    assert_eq!(statuses(&answer)[&201].len(), 100);
    assert_eq!(server.delete(&node("n")).await.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn an_event_has_its_number_when_its_transaction_commits() {
    let (server, mut owner) = start().await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut idle, "BEGIN").await;
    sql::upsert(&mut idle, "early", "effect", "{}").await.unwrap();
    let late = server.register("late", json!({"node_type": "effect"})).await;
    sql::upsert(&mut owner, "later", "effect", "{}").await.unwrap();
    let newest = sql::newest(&mut owner).await;
    assert!(newest > late["revision"].as_i64().unwrap());
    let page = server.get("/v1/nodes").await.json();
    assert_eq!(page["revision"], newest);

    sql::run(&mut idle, "COMMIT").await;
    assert_eq!(sql::kinds(&mut owner, newest).await, [pair("early", "registered")]);
    assert_eq!(server.get(&node("early")).await.json()["revision"], sql::newest(&mut owner).await);
    server.stop().await;
}

#[tokio::test]
async fn a_plain_transaction_can_be_prepared() {
    let (server, mut owner) = start().await;
    let most: String = sql::value(&mut owner, "SHOW max_prepared_transactions").await;
    assert_ne!(most, "0", "TEST_DATABASE_URL names a server that has max_prepared_transactions = 0: set it");
    let name = server.database.as_ref().unwrap().name();
    sql::run(&mut owner, "BEGIN").await;
    sql::upsert(&mut owner, "n", "effect", "{}").await.unwrap();
    sql::run(&mut owner, format!("PREPARE TRANSACTION '{name}'")).await;
    server.get(&node("n")).await.problem(404, "node-not-found");
    sql::run(&mut owner, format!("COMMIT PREPARED '{name}'")).await;
    assert_eq!(sql::kinds(&mut owner, 0).await, [pair("n", "registered")]);
    assert_eq!(server.get(&node("n")).await.json()["revision"], sql::newest(&mut owner).await);
    server.stop().await;
}

#[tokio::test]
async fn writers_with_an_old_snapshot_are_numbered_as_they_commit() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let (server, mut owner) = start().await;
        let database = server.database.as_ref().unwrap();
        let (mut one, mut other) = (database.connect().await, database.connect().await);
        sql::upsert(&mut owner, "shared", "effect", "{}").await.unwrap();
        for connection in [&mut one, &mut other] {
            sql::run(connection, format!("BEGIN ISOLATION LEVEL {level}")).await;
            // The snapshot is taken now.
            let rows: i64 = sql::value(connection, "SELECT count(*) FROM node_registrations").await;
            assert_eq!(rows, 1);
        }
        server.register("meanwhile", json!({"node_type": "effect"})).await;
        sql::upsert(&mut one, "one", "effect", "{}").await.unwrap();
        sql::upsert(&mut one, "shared", "compute", "{}").await.unwrap();
        sql::run(&mut one, "COMMIT").await;
        // Both have read what the other writes, so a SERIALIZABLE one may be told to try again; not by our doing, and
        // nothing of it is left then.
        let before = sql::newest(&mut owner).await;
        sql::upsert(&mut other, "other", "effect", "{}").await.ok();
        let committed = sqlx::raw_sql("COMMIT").execute(&mut other).await.is_ok()
            && server.get(&node("other")).await.status == 200;
        assert!(committed || level == "SERIALIZABLE", "{level}");
        let expected = if committed { vec![pair("other", "registered")] } else { Vec::new() };
        assert_eq!(sql::kinds(&mut owner, before).await, expected, "{level}");
        let all = sql::kinds(&mut owner, 0).await;
        let first = ["shared", "meanwhile", "one", "shared"];
        assert_eq!(all.iter().map(|(id, _)| id.as_str()).take(4).collect::<Vec<_>>(), first, "{level}");
        server.stop().await;
    }
}

#[tokio::test]
async fn serializable_writers_of_different_nodes_do_not_meet_in_our_tables() {
    let (server, _owner) = start().await;
    let database = server.database.as_ref().unwrap();
    let mut writers = Vec::new();
    for _ in 0..5 {
        writers.push(database.connect().await);
    }
    for (i, writer) in writers.iter_mut().enumerate() {
        sql::run(writer, "BEGIN ISOLATION LEVEL SERIALIZABLE").await;
        sql::upsert(writer, &format!("n{i}"), "effect", "{}").await.unwrap();
    }
    for writer in &mut writers {
        sql::run(writer, "COMMIT").await;
    }
    assert_eq!(server.ids("").await.len(), 5);
    server.stop().await;
}

/// A pseudo-random number: the tests need no better.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Writes by plain SQL, and pauses inside its transactions.
async fn write_by_sql(mut connection: PgConnection, writer: u64) {
    let mut state = writer;
    for round in 0..15 {
        let mut tx = connection.begin().await.unwrap();
        for step in 0..=random(&mut state, 3) {
            let id = format!("sql{writer}-{step}");
            sql::upsert(&mut tx, &id, "effect", &format!("{{\"round\": {round}}}")).await.unwrap();
            sql::dawdle(&mut tx, random(&mut state, 15)).await;
        }
        if random(&mut state, 4) == 0 {
            tx.rollback().await.unwrap();
        } else {
            tx.commit().await.unwrap();
        }
    }
}

async fn write_over_http(server: Arc<TestServer>, writer: u64) {
    for round in 0..15 {
        let node = |i: u64| json!({"node_id": format!("http{writer}-{i}"), "node_type": "effect", "metadata": {"round": round}});
        let nodes: Vec<Value> = (0..=writer % 4).map(node).collect();
        let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

/// Reads on from the last revision that it has seen, until the writers are done and nothing is left.
async fn follow(mut connection: PgConnection, done: Arc<AtomicBool>) -> Vec<i64> {
    let mut seen = vec![0];
    loop {
        let last_time = done.load(Ordering::SeqCst);
        let rows = sqlx::query("SELECT revision FROM node_events WHERE revision > $1 ORDER BY revision")
            .bind(seen.last())
            .fetch_all(&mut connection)
            .await
            .unwrap();
        seen.extend(rows.iter().map(|row| row.get::<i64, _>("revision")));
        if last_time {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_read_up_to_a_revision_never_finds_one_below_it_later() {
    let (server, mut owner) = start().await;
    let server = Arc::new(server);
    let database = server.database.as_ref().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(tokio::spawn(follow(database.connect().await, Arc::clone(&done))));
    }
    let mut writers = Vec::new();
    for writer in 0..10 {
        writers.push(tokio::spawn(write_by_sql(database.connect().await, writer)));
        writers.push(tokio::spawn(write_over_http(Arc::clone(&server), writer)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let mut all = vec![0];
    all.extend(sql::events(&mut owner, 0).await.iter().map(|event| event.revision));
    assert!(all.len() > 300, "only {} events", all.len());
    for reader in readers {
        let seen = reader.await.unwrap();
        assert!(seen == all, "a reader has missed {} events", all.len() - seen.len());
    }
    Arc::into_inner(server).unwrap().stop().await;
}
