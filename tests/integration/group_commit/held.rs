//! What one row or the whole table does to the others of a batch: a rule of the owner's, a transaction that doesn't end.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{Either, join, join_all, select};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{beat, metric, put, statuses};
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

/// The database is well. It is the table that is held: what was tried found that out, and what was not had waited for too
/// long when its turn came.
fn was_not_written(problem: &Value) {
    match problem["type"].as_str() {
        Some("/problems/contended") => {}
        Some("/problems/unavailable") => {
            assert!(problem["detail"].as_str().unwrap().contains("nothing was written"), "{problem}");
        }
        _ => panic!("{problem}"),
    }
}

/// Registers the same thousand nodes in one request after the other, until there has been enough. Says which were
/// acknowledged.
async fn register_until(
    server: &TestServer,
    number: usize,
    enough: &CancellationToken,
    refused: &AtomicUsize,
) -> BTreeSet<String> {
    let ids: Vec<String> = (0..1_000).map(|n| format!("n{number:02}-{n:03}")).collect();
    let node = |id| json!({"node_id": id, "node_type": "effect"});
    let nodes: Vec<Value> = ids.iter().map(node).collect();
    let body = json!({ "nodes": nodes }).to_string();
    let mut acknowledged = BTreeSet::new();
    loop {
        let answer = server.post("/v1/batch/nodes", &body).await;
        if answer.status == 503 {
            // Nothing of it was taken: that is one problem, and not a thousand.
            answer.problem(503, "unavailable");
            assert!(answer.header("retry-after").is_some() && answer.text.len() < 1_000, "{}", answer.text);
            if enough.is_cancelled() {
                return acknowledged;
            }
            refused.fetch_add(1, Ordering::Relaxed);
            // The others have the machine to themselves meanwhile.
            enough.cancelled().await;
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
        for (id, result) in ids.iter().zip(answer.json()["results"].as_array().unwrap()) {
            match result["status"].as_u64() {
                Some(200 | 201) => drop(acknowledged.insert(id.clone())),
                _ => was_not_written(&result["problem"]),
            }
        }
        if enough.is_cancelled() {
            return acknowledged;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_said_at_once_and_all_is_well_afterwards() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut owner, "BEGIN; LOCK TABLE node_registrations IN ACCESS EXCLUSIVE MODE").await;
    let (enough, refused) = (CancellationToken::new(), AtomicUsize::new(0));
    // More than the twenty thousand that may wait.
    let many = join_all((0..30).map(|number| register_until(&server, number, &enough, &refused)));
    let until_full = async {
        for _ in 0..20 {
            let begun = Instant::now();
            let answer = put(&server, "one", 0).await;
            assert_eq!(answer.status, 503, "the table is locked: {}", answer.text);
            // One that found a place has waited for its turn for longer than that, or was tried, and says so.
            if answer.json()["type"] == "/problems/unavailable" && begun.elapsed() < Duration::from_secs(9) {
                return answer;
            }
        }
        panic!("nothing is refused at once");
    };
    let full_and_over = async {
        let full = until_full.await;
        sql::eventually("requests of many are refused as a whole", async || {
            refused.load(Ordering::Relaxed) > 0
        })
        .await;
        sql::run(&mut owner, "ROLLBACK").await;
        enough.cancel();
        full
    };
    let (acknowledged, answer) = join(many, full_and_over).await;
    assert!(answer.header("retry-after").is_some() && answer.text.contains("nothing was written"));

    // Whose write was acknowledged finds it done, and nothing comes later.
    let acknowledged: BTreeSet<String> = acknowledged.into_iter().flatten().collect();
    let there: Vec<String> = sql::value(
        &mut owner,
        "SELECT COALESCE(array_agg(node_id::text ORDER BY node_id COLLATE \"C\"), '{}') FROM node_registrations",
    )
    .await;
    assert_eq!(there, acknowledged.into_iter().collect::<Vec<_>>());
    assert_eq!(metric(&server, r#"write_queue_length{lane="writes"}"#).await, 0);
    assert_eq!(put(&server, "one", 0).await.status, 201);
    for number in 0..5 {
        assert_eq!(register_until(&server, number, &enough, &refused).await.len(), 1_000);
    }
    server.stop().await;
}
