//! What one row or the whole table does to the others of a batch: a rule of the owner's, a transaction that doesn't end.

use std::pin::pin;

use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};

use super::{beat, metric, put, statuses};
use crate::harness::sql::eventually;
use crate::harness::{Answer, Backend, TestServer, sql};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_that_the_owner_forbids_among_500_fails_alone() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    let rule = "ALTER TABLE node_registrations ADD CHECK (metadata ->> 'client' <> '333')";
    sql::run(&mut owner, rule).await;
    let ids: Vec<String> = (0..500).map(|client| format!("n{client}")).collect();
    let answers = join_all(ids.iter().enumerate().map(|(client, id)| put(&server, id, client))).await;
    for (client, answer) in answers.iter().enumerate() {
        let expected = if client == 333 { 422 } else { 201 };
        assert_eq!(answer.status, expected, "{client}: {}", answer.text);
    }
    assert_eq!(server.ids("limit=1000").await.len(), 499);
    server.stop().await;
}

/// Whoever comes with it, and whoever comes later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_held_holds_up_nobody_else() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    let ids: Vec<String> = (0..100).map(|n| format!("n{n:02}")).collect();
    let all = || join_all(ids.iter().enumerate().map(|(n, id)| put(&server, id, n)));
    assert_eq!(statuses(&all().await), [(201, 100)].into());
    sql::run(&mut idle, "BEGIN; SELECT * FROM node_registrations WHERE node_id = 'n50' FOR UPDATE").await;

    let others: Vec<&String> = ids.iter().filter(|id| *id != "n50").collect();
    for round in 0..3 {
        // The others get through again and again before it is given up.
        let put_others = async {
            for again in 0..3 {
                let puts = others.iter().map(|id| put(&server, id, 1_000 + round * 3 + again));
                assert_eq!(statuses(&join_all(puts).await), [(200, 99)].into());
            }
        };
        given_up_after(put(&server, "n50", 1_000), put_others).await;
        let beat_others = async {
            for _ in 0..3 {
                let beats = others.iter().map(|id| beat(&server, id));
                assert_eq!(statuses(&join_all(beats).await), [(200, 99)].into());
            }
        };
        given_up_after(beat(&server, "n50"), beat_others).await;
    }
    sql::run(&mut idle, "ROLLBACK").await;
    assert_eq!(statuses(&all().await), [(200, 100)].into());
    server.stop().await;
}

/// One request waits for a row, and is told so when the others are through.
async fn given_up_after(held: impl Future<Output = Answer>, others: impl Future<Output = ()>) {
    match select(pin!(held), pin!(others)).await {
        Either::Left((answer, _)) => panic!("the others waited for it: {}", answer.text),
        Either::Right(((), held)) => held.await.problem(503, "contended"),
    };
}

/// A thousand registrations in one request.
async fn batch_of(server: &TestServer, number: usize) -> Vec<u64> {
    let node = |n| json!({"node_id": format!("n{number:02}-{n:03}"), "node_type": "effect"});
    let nodes: Vec<Value> = (0..1_000).map(node).collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_said_at_once_and_all_is_well_afterwards() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut owner, "BEGIN; LOCK TABLE node_registrations IN ACCESS EXCLUSIVE MODE").await;
    // Twenty of them wait, two are under way, and there is a place for two in the time that those take.
    let waiting = Box::pin(join_all((0..30).map(|number| batch_of(&server, number))));
    let refused = Box::pin(eventually("some are refused", async || {
        metric(&server, r#"writes_rejected_total{lane="writes"}"#).await >= 1_000
    }));
    let Either::Right(((), waiting)) = select(waiting, refused).await else {
        panic!("none is answered as long as the table is locked");
    };
    let one = put(&server, "one", 0);
    let Either::Left((answer, waiting)) = select(pin!(one), waiting).await else {
        panic!("it is answered at once");
    };
    answer.problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());

    sql::run(&mut owner, "ROLLBACK").await;
    let results = waiting.await.concat();
    assert!(results.iter().all(|status| *status == 201 || *status == 503));
    assert_eq!(put(&server, "one", 0).await.status, 201);
    // Who was told that it was done finds it done, and nothing comes later.
    let acknowledged = results.iter().filter(|status| **status == 201).count();
    let rows: i64 = sql::value(&mut owner, "SELECT count(*) FROM node_registrations").await;
    assert_eq!(usize::try_from(rows).unwrap(), acknowledged + 1);
    assert_eq!(metric(&server, r#"write_queue_length{lane="writes"}"#).await, 0);
    let again = join_all((0..5).map(|number| batch_of(&server, number))).await.concat();
    assert!(again.iter().all(|status| *status < 300), "{again:?}");
    server.stop().await;
}
