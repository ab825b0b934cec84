//! Readers that follow the log while many write: each sees every event exactly once, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use super::{all_after, page, revision};
use crate::harness::sql::{self, Event};
use crate::harness::{Backend, TestDatabase, TestServer, node};

const ROUNDS: u64 = 12;
/// Each reader has a limit of its own.
const LIMITS: [usize; 4] = [3, 17, 100, 1_000];

/// A pseudo-random number: the tests need no better.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Writers take their time, so that they commit in another order than they begin.
    async fn dawdle(&mut self, tx: &mut PgConnection) {
        sql::dawdle(tx, self.below(20)).await;
    }
}

/// Registers, changes and removes nodes over HTTP, and returns the revisions that it was told.
async fn write_over_http(server: Arc<TestServer>, writer: u64) -> Vec<i64> {
    let mut random = Random(writer);
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        let id = format!("shared-{}", random.below(20));
        let body =
            |id: &str| json!({"node_id": id, "node_type": "effect", "metadata": {"by": [writer, round]}});
        match random.below(4) {
            0 => {
                let answer = server.delete(&node(&id)).await;
                assert!(answer.status == 204 || answer.status == 404, "{}", answer.text);
            }
            1 => {
                let nodes: Vec<Value> = (0..5).map(|n| body(&format!("fleet{writer}-{n}"))).collect();
                let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
                let results = answer.json()["results"].as_array().unwrap().clone();
                told.extend(results.iter().map(revision));
            }
            _ => told.push(revision(&server.register(&id, body(&id)).await)),
        }
        // A pause, in requests.
        for _ in 0..random.below(4) {
            assert_eq!(server.get("/livez").await.status, 200);
        }
    }
    told
}

/// The same by plain SQL: transactions of one or more statements, that idle, and some of which come to nothing.
async fn write_by_sql(mut connection: PgConnection, writer: u64) -> Vec<i64> {
    let mut random = Random(writer);
    for round in 0..ROUNDS {
        let mut tx = connection.begin().await.unwrap();
        let metadata = format!("{{\"round\": {round}}}");
        match random.below(4) {
            // In one transaction each id of others is written at most once: they can't lock each other out.
            0 => {
                let id = format!("plain-{}", random.below(10));
                sql::upsert(&mut tx, &id, "effect", &metadata).await.unwrap();
            }
            1 => sql::delete(&mut tx, &format!("plain-{}", random.below(10))).await.unwrap(),
            _ => {
                for step in 0..=random.below(3) {
                    sql::upsert(&mut tx, &format!("own{writer}-{step}"), "effect", &metadata).await.unwrap();
                    random.dawdle(&mut tx).await;
                }
                sql::delete(&mut tx, &format!("own{writer}-0")).await.unwrap();
            }
        }
        random.dawdle(&mut tx).await;
        if random.below(4) == 0 {
            tx.rollback().await.unwrap();
        } else {
            tx.commit().await.unwrap();
        }
    }
    Vec::new()
}

/// Reads on until the writers are done and nothing is left.
async fn follow(server: Arc<TestServer>, limit: usize, done: Arc<AtomicBool>) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let last_time = done.load(Ordering::SeqCst);
        let page = page(&server, &format!("after={after}&limit={limit}")).await;
        assert!(page.next_after <= page.newest && page.next_after >= after);
        let at_the_end = page.next_after == page.newest;
        after = page.next_after;
        seen.extend(page.events);
        if at_the_end && last_time {
            return seen;
        }
    }
}

/// Lets writers write and readers follow. Returns what the readers saw, and the revisions that writers were told.
async fn run(
    servers: &[Arc<TestServer>],
    writers: JoinSet<Vec<i64>>,
    at_last: impl AsyncFnOnce(),
) -> (Vec<Vec<Value>>, Vec<i64>) {
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = LIMITS
        .into_iter()
        .enumerate()
        .map(|(n, limit)| {
            tokio::spawn(follow(Arc::clone(&servers[n % servers.len()]), limit, Arc::clone(&done)))
        })
        .collect();
    let told = writers.join_all().await.concat();
    at_last().await;
    done.store(true, Ordering::SeqCst);
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    (seen, told)
}

/// A node is registered, changed and removed in an order that makes sense. Returns who is there in the end.
fn live_through(events: &[Value]) -> HashSet<String> {
    let mut living = HashSet::new();
    for event in events {
        let id = event["node_id"].as_str().unwrap().to_owned();
        match event["kind"].as_str().unwrap() {
            "registered" => assert!(living.insert(id), "{event}"),
            "updated" => assert!(living.contains(&id), "{event}"),
            "deregistered" => assert!(living.remove(&id), "{event}"),
            other => panic!("{other}"),
        }
    }
    living
}

fn assert_all_told(events: &[Value], told: &[i64]) {
    let revisions: HashSet<i64> = events.iter().map(revision).collect();
    assert!(
        told.iter().all(|revision| revisions.contains(revision)),
        "every acknowledged change is an event"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_every_event_exactly_once_in_order() {
    let database = TestDatabase::create().await;
    let one = Arc::new(TestServer::start_on(&database.url(), &["--database-connections=20"]).await);
    let other = Arc::new(TestServer::start_on(&database.url(), &["--database-connections=20"]).await);
    let servers = [one, other];
    let mut writers = JoinSet::new();
    for writer in 0..20 {
        writers.spawn(write_by_sql(database.connect().await, writer));
        let server = &servers[usize::try_from(writer).unwrap() % 2];
        writers.spawn(write_over_http(Arc::clone(server), 100 + writer));
    }
    let mut owner = database.connect().await;
    let truncate = async || sql::run(&mut owner, "TRUNCATE node_registrations").await;
    let (seen, told) = run(&servers, writers, truncate).await;

    let table = sql::events(&mut owner, 0).await;
    assert!(table.len() > 500, "only {} events", table.len());
    for seen in &seen {
        let events: Vec<Event> = seen.iter().map(event).collect();
        assert!(events == table, "a reader saw {} of {} events", events.len(), table.len());
    }
    assert_all_told(&seen[0], &told);
    assert!(live_through(&seen[0]).is_empty(), "TRUNCATE removes all that was left");
    for server in servers {
        Arc::into_inner(server).unwrap().stop().await;
    }
}

fn event(event: &Value) -> Event {
    let text = |field: &str| event[field].as_str().unwrap().to_owned();
    let changed = event["changed"].as_array().unwrap().iter();
    Event {
        revision: revision(event),
        node_id: text("node_id"),
        kind: text("kind"),
        changed: changed.map(|column| column.as_str().unwrap().to_owned()).collect(),
        actor: text("actor"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_every_event_exactly_once_in_order_on_sqlite() {
    let server = Arc::new(TestServer::start(Backend::Sqlite).await);
    let mut writers = JoinSet::new();
    for writer in 0..40 {
        writers.spawn(write_over_http(Arc::clone(&server), writer));
    }
    let (seen, told) = run(&[Arc::clone(&server)], writers, async || {}).await;

    let log = all_after(&server, "limit=1000", 0).await;
    assert!(log.len() > 500, "only {} events", log.len());
    assert!(log.is_sorted_by_key(revision));
    for seen in &seen {
        assert!(*seen == log, "a reader saw {} of {} events", seen.len(), log.len());
    }
    assert_all_told(&log, &told);
    let listed: HashSet<String> = server.ids("limit=1000").await.into_iter().collect();
    assert_eq!(live_through(&log), listed);
    Arc::into_inner(server).unwrap().stop().await;
}
