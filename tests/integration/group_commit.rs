//! Many writes go together in one transaction, and each has its own result all the same.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestServer, node};

mod held;
mod history;
mod stop;

/// As many clients as a large fleet has in one moment.
const CLIENTS: usize = 512;
/// Writes of one id go one after the other. So many are through on a busy machine before the last has waited for too long.
const OF_ONE_ID: usize = 128;

on_both_stores!(
    writes_that_wait_together_are_written_together,
    of_many_writes_of_one_id_each_has_its_own_result,
    of_many_that_count_up_with_if_match_each_counts_once,
    signs_of_life_that_wait_together_are_noted_together,
    registrations_and_deregistrations_of_the_same_ids_in_batches_all_get_through,
);

fn body(client: usize) -> Value {
    json!({"node_type": "effect", "metadata": {"client": client}})
}

/// Registers a node, each client with something else.
async fn put(server: &TestServer, id: &str, client: usize) -> Answer {
    server.put(&node(id), body(client)).await
}

async fn beat(server: &TestServer, id: &str) -> Answer {
    server.post(&format!("{}/heartbeat", node(id)), "").await
}

fn revision(answer: &Answer) -> i64 {
    answer.json()["revision"].as_i64().unwrap()
}

/// The value of a series of this server.
async fn metric(server: &TestServer, series: &str) -> u64 {
    let text = server.get("/metrics").await.text;
    let value = text.lines().find_map(|line| line.strip_prefix("onex_registry_")?.strip_prefix(series));
    value.unwrap_or_else(|| panic!("no {series}")).trim().parse().unwrap()
}

async fn writes_that_wait_together_are_written_together(server: &TestServer) {
    let ids: Vec<String> = (0..CLIENTS).map(|client| format!("n{client:03}")).collect();
    let answers = join_all(ids.iter().enumerate().map(|(client, id)| put(server, id, client))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{:?}", statuses(&answers));
    let revisions: BTreeSet<i64> = answers.iter().map(revision).collect();
    assert_eq!(revisions.len(), CLIENTS, "each has its own");
    assert_eq!(server.ids("limit=1000").await, ids);
    for (client, answer) in answers.iter().enumerate() {
        assert_eq!(answer.json()["metadata"]["client"], client);
    }
    let batches = metric(server, r#"write_batch_items_count{lane="writes"}"#).await;
    assert!(batches < CLIENTS as u64 / 2, "{batches} batches");
    assert_eq!(metric(server, r#"write_batch_items_sum{lane="writes"}"#).await, CLIENTS as u64);
    assert_eq!(metric(server, r#"write_queue_length{lane="writes"}"#).await, 0);
}

fn statuses(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.status).or_default() += 1;
    }
    counts
}

async fn of_many_writes_of_one_id_each_has_its_own_result(server: &TestServer) {
    let answers = join_all((0..OF_ONE_ID).map(|client| server.put("/v1/nodes/n", body(client)))).await;
    assert_eq!(statuses(&answers), BTreeMap::from([(200, OF_ONE_ID - 1), (201, 1)]));
    let by_revision: BTreeMap<i64, &Answer> =
        answers.iter().map(|answer| (revision(answer), answer)).collect();
    assert_eq!(by_revision.len(), OF_ONE_ID, "each changed something, and has a revision of its own");
    assert_eq!(by_revision.first_key_value().unwrap().1.status, 201);
    let last = by_revision.last_key_value().unwrap().1;
    assert_eq!(server.get("/v1/nodes/n").await.json(), last.json());
    for (client, answer) in answers.iter().enumerate() {
        assert_eq!(answer.json()["metadata"]["client"], client, "its own");
    }
}

/// Reads the counter and writes the next number, if nobody else has meanwhile. Says how often it was first.
async fn count_up(server: &TestServer, times: usize) -> i64 {
    let mut counted = 0;
    for _ in 0..times {
        let present = server.get("/v1/nodes/n").await;
        let next = present.json()["metadata"]["count"].as_i64().unwrap() + 1;
        let body = json!({"node_type": "effect", "metadata": {"count": next}}).to_string();
        let tag = present.header("etag").unwrap();
        let answer = server.send(Method::PUT, "/v1/nodes/n", body, &[("if-match", tag)]).await;
        assert!(answer.status == 200 || answer.status == 412, "{}", answer.text);
        counted += i64::from(answer.status == 200);
    }
    counted
}

async fn of_many_that_count_up_with_if_match_each_counts_once(server: &TestServer) {
    server.register("n", json!({"node_type": "effect", "metadata": {"count": 0}})).await;
    let counted: i64 = join_all((0..16).map(|_| count_up(server, 10))).await.into_iter().sum();
    assert!(counted >= 10, "somebody is always first");
    assert_eq!(server.get("/v1/nodes/n").await.json()["metadata"]["count"], counted);
}

async fn signs_of_life_that_wait_together_are_noted_together(server: &TestServer) {
    for id in ["n", "m"] {
        server.register(id, json!({"node_type": "effect"})).await;
    }
    let beats = (0..300).map(|client| beat(server, ["n", "m", "nobody"][client % 3]));
    let answers = join_all(beats).await;
    assert_eq!(statuses(&answers), BTreeMap::from([(200, 200), (404, 100)]));
    let last = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .max_by_key(|answer| answer.json()["last_heartbeat"].as_str().unwrap().to_owned());
    let last = last.unwrap().json();
    let shown = server.get(&node(last["node_id"].as_str().unwrap())).await.json();
    assert_eq!(shown["last_heartbeat"], last["last_heartbeat"]);
    assert_eq!(metric(server, r#"heartbeats_total{source="client"}"#).await, 200, "each is counted");
    assert_eq!(metric(server, "heartbeats_unknown_total").await, 100);
    let written = metric(server, r#"write_batch_items_sum{lane="heartbeats"}"#).await;
    assert!(written < 300, "{written}: those of one id that wait together are one");
}

/// Their orders are different, and so the rows would be locked in different orders.
async fn registrations_and_deregistrations_of_the_same_ids_in_batches_all_get_through(server: &TestServer) {
    let client = async |client: usize| {
        let mut ids: Vec<String> = (0..40).map(|id| format!("n{id:02}")).collect();
        ids.rotate_left(client * 5 % 40);
        for round in 0..10 {
            ids.reverse();
            let answer = if client.is_multiple_of(2) {
                let node =
                    |id| json!({"node_id": id, "node_type": "effect", "metadata": {"by": [client, round]}});
                let nodes: Vec<Value> = ids.iter().map(node).collect();
                let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
                for result in answer.json()["results"].as_array().unwrap() {
                    assert!(result["problem"].is_null(), "{result}");
                }
                answer
            } else {
                server.post("/v1/batch/deregister", json!({ "node_ids": ids })).await
            };
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    };
    join_all((0..16).map(client)).await;
}
