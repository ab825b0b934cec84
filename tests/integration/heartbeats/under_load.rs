//! Many heartbeats at once, beside registrations and deregistrations of the same nodes; and what they cost.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{BATCH, heartbeat_of};
use crate::harness::{Answer, TestDatabase, TestServer, sql};

on_both_stores!(heartbeats_and_writes_of_the_same_nodes_in_any_order_all_get_through);

/// Ids that every client names in an order of its own: up, down, from the middle.
fn ids(client: usize) -> Vec<String> {
    let mut ids: Vec<String> = (0..40).map(|n| format!("n{n:05}")).collect();
    match client % 3 {
        0 => {}
        1 => ids.reverse(),
        _ => ids.rotate_left(client * 7 % 40),
    }
    ids
}

/// What a client does all the time.
#[derive(Clone, Copy)]
enum Task {
    Register,
    Deregister,
    Beat,
    BeatOneByOne,
}

/// What a client does in its rounds; it fails if a request does.
async fn one_of_many(server: &TestServer, client: usize, task: Task) {
    let ids = ids(client);
    for round in 0..6 {
        match task {
            Task::Register => {
                let nodes: Vec<Value> = ids
                    .iter()
                    .map(|id| json!({"node_id": id, "node_type": "effect", "metadata": {"by": [client, round]}}))
                    .collect();
                let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                for result in answer.json()["results"].as_array().unwrap() {
                    assert!(result["problem"].is_null(), "{result}");
                }
            }
            Task::Deregister => {
                let answer = server.post("/v1/batch/deregister", json!({"node_ids": &ids[..10]})).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
            Task::Beat => {
                let answer = server.post(BATCH, json!({ "node_ids": ids })).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                let answer = answer.json();
                let unknown = answer["unknown"].as_array().unwrap().len();
                assert_eq!(answer["accepted"], 40 - unknown, "each is accepted or unknown");
            }
            Task::BeatOneByOne => {
                for id in ids.iter().skip(round).step_by(6) {
                    let answer = Answer::of(server.request(Method::POST, &heartbeat_of(id))).await;
                    assert!(answer.status == 200 || answer.status == 404, "{}", answer.text);
                }
            }
        }
    }
}

async fn all_at_once(server: &TestServer, tasks: &[Task]) {
    join_all(tasks.iter().enumerate().map(|(client, task)| one_of_many(server, client, *task))).await;
}

/// Nothing of a registration is lost to a heartbeat, nor the other way round.
async fn heartbeats_and_writes_of_the_same_nodes_in_any_order_all_get_through(server: &TestServer) {
    let tasks = [Task::Register, Task::Beat, Task::Deregister, Task::BeatOneByOne];
    all_at_once(server, &tasks.repeat(2)).await;
    let nodes: Vec<Value> = ids(0).iter().map(|id| json!({"node_id": id, "node_type": "compute"})).collect();
    assert_eq!(server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await.status, 200);
    let beats = join_all((0..8).map(|client| server.post(BATCH, json!({"node_ids": ids(client)})))).await;
    for answer in &beats {
        assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(40)), "{}", answer.text);
    }
    let times: Vec<Value> = beats.iter().map(|answer| answer.json()["last_heartbeat"].take()).collect();
    let last = times.iter().filter_map(Value::as_str).max();
    let page = server.get("/v1/nodes?node_type=compute&status=healthy&limit=1000").await.json();
    let nodes = page["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 40);
    assert!(nodes.iter().all(|node| node["last_heartbeat"].as_str() >= last), "the last one counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_and_registrations_of_the_same_nodes_never_deadlock() {
    let database = TestDatabase::create().await;
    let mut owner = database.connect().await;
    // A deadlock is found before whoever waits in it gives up. It takes a superuser to say so; without one, the test
    // sees only what becomes of the requests.
    let find = format!("ALTER DATABASE {} SET deadlock_timeout = '2ms'", database.name());
    let _ = sqlx::raw_sql(AssertSqlSafe(find)).execute(&mut owner).await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    register(&server, 40).await;
    let tasks = [Task::Beat, Task::Register, Task::BeatOneByOne, Task::Beat];
    all_at_once(&server, &tasks.repeat(4)).await;
    // A connection that is closed has told what happened to it.
    server.stop().await;
    sql::eventually("the connections are closed", async || {
        let others = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sql::value::<i64>(&mut owner, others).await == 0
    })
    .await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(sql::value::<i64>(&mut owner, deadlocks).await, 0);
}

/// Registers so many nodes, n00000 and on.
async fn register(server: &TestServer, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("n{n:05}")).collect();
    for part in ids.chunks(1_000) {
        let nodes: Vec<Value> = part
            .iter()
            .map(|id| {
                json!({"node_id": id, "node_type": "effect", "endpoints": {"grpc": format!("{id}:50051")},
                       "metadata": {"environment": "dev", "tags": ["effect", "event"]}})
            })
            .collect();
        assert_eq!(server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await.status, 200);
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_batches_of_the_same_nodes_wait_for_each_other() {
    let database = TestDatabase::create().await;
    let (one, other) =
        (TestServer::start_on(&database.url(), &[]).await, TestServer::start_on(&database.url(), &[]).await);
    let mut ids = register(&one, 3_000).await;
    let up = json!({ "node_ids": ids }).to_string();
    ids.reverse();
    let down = json!({ "node_ids": ids }).to_string();
    for _ in 0..3 {
        let answers =
            join_all([one.post(BATCH, &up), other.post(BATCH, &down), one.post(BATCH, &down)]).await;
        for answer in answers {
            assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(3_000)), "{}", answer.text);
        }
    }
    one.stop().await;
    other.stop().await;
}

/// No index is touched as long as the page has room, and a later heartbeat uses the room of the ones before: four in a
/// page find it in any case. A batch of the whole fleet needs twice the room of the rows at once, and gets that by
/// moving rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_hot_updates() {
    let database = TestDatabase::create().await;
    let server = TestServer::start_on(&database.url(), &[]).await;
    let ids = register(&server, 20_000).await;
    let some: Vec<&String> = ids.iter().step_by(4).collect();
    for some in some.chunks(250) {
        assert_eq!(server.post(BATCH, json!({ "node_ids": some })).await.json()["accepted"], 250);
    }
    // A connection that is closed has told what it did.
    server.stop().await;
    let mut owner = database.connect().await;
    sql::eventually("all is counted", async || updates(&mut owner, "n_tup_upd").await == 5_000).await;
    let hot = updates(&mut owner, "n_tup_hot_upd").await;
    assert!(hot >= 4_900, "{hot} of 5000 updates were HOT");
}

async fn updates(owner: &mut sqlx::PgConnection, column: &str) -> i64 {
    let query = format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = 'node_registrations'");
    sql::value(owner, query).await
}
