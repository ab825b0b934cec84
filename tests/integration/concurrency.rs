//! Many clients and several servers at once.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::server::Answer;
use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

/// A client's connections to wait for: 50 clients at once need a while for their turn on a slow machine.
const CONNECTIONS: &str = "--database-connections=20";

/// Servers on one database: two on PostgreSQL, one on SQLite. The database is kept as long as this value.
struct Fleet {
    servers: Vec<Arc<TestServer>>,
    database: Option<TestDatabase>,
}

impl Fleet {
    async fn start(backend: Backend) -> Self {
        match backend {
            Backend::Postgres => {
                let database = TestDatabase::create().await;
                let one = TestServer::start_on(&database.url(), &[CONNECTIONS]).await;
                let other = TestServer::start_on(&database.url(), &[CONNECTIONS]).await;
                Self { servers: vec![Arc::new(one), Arc::new(other)], database: Some(database) }
            }
            Backend::Sqlite => {
                Self { servers: vec![Arc::new(TestServer::start(backend).await)], database: None }
            }
        }
    }

    /// The server that a client asks.
    fn of(&self, client: usize) -> &TestServer {
        &self.servers[client % self.servers.len()]
    }

    /// Many clients send the same request, each with its own body.
    async fn all(
        &self,
        clients: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Fn(usize) -> Value,
    ) -> Vec<Answer> {
        let send = |client| self.of(client).send(method.clone(), path, body(client).to_string(), headers);
        join_all((0..clients).map(send)).await
    }

    /// Every node, page by page.
    async fn nodes(&self) -> Vec<Value> {
        let page = self.servers[0].get("/v1/nodes?limit=1000").await.json();
        assert_eq!(page["next_cursor"], Value::Null);
        page["nodes"].as_array().unwrap().clone()
    }

    async fn stop(self) {
        for server in self.servers {
            Arc::into_inner(server).unwrap().stop().await;
        }
        drop(self.database);
    }
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Fleet::start(crate::harness::Backend::Postgres).await).await;
                }
            )+
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Fleet::start(crate::harness::Backend::Sqlite).await).await;
                }
            )+
        }
    };
}

on_both!(
    of_many_that_register_one_id_at_once_exactly_one_is_first,
    of_many_that_create_one_id_at_once_exactly_one_does,
    of_many_that_change_the_same_revision_exactly_one_does,
    of_many_that_deregister_one_id_exactly_one_does,
    overlapping_batches_in_any_order_leave_log_and_table_in_agreement,
    a_client_that_hangs_up_undoes_nothing,
);

async fn of_many_that_register_one_id_at_once_exactly_one_is_first(fleet: Fleet) {
    let body = |client| json!({"node_type": "effect", "metadata": {"client": client}});
    let answers = fleet.all(50, Method::PUT, &node("n"), &[], body).await;
    assert_eq!((count(&answers, 201), count(&answers, 200)), (1, 49), "{:?}", statuses(&answers));
    let nodes = fleet.nodes().await;
    assert_eq!(nodes.len(), 1);

    // Each changed something, so each has a revision of its own, and the last of them is what is there.
    let mut revisions: Vec<i64> =
        answers.iter().map(|answer| answer.json()["revision"].as_i64().unwrap()).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 50);
    let last = answers.iter().find(|answer| answer.json()["revision"] == revisions[49]).unwrap();
    assert_eq!(last.json(), nodes[0]);
    let first = answers.iter().find(|answer| answer.status == 201).unwrap();
    assert_eq!(first.json()["revision"], revisions[0]);
    fleet.stop().await;
}

async fn of_many_that_create_one_id_at_once_exactly_one_does(fleet: Fleet) {
    for round in 0..3 {
        let path = node(&format!("n{round}"));
        let body = |client| json!({"node_type": "effect", "metadata": {"client": client}});
        let answers = fleet.all(50, Method::PUT, &path, &[("if-none-match", "*")], body).await;
        assert_eq!((count(&answers, 201), count(&answers, 412)), (1, 49), "{:?}", statuses(&answers));
        let created = answers.iter().find(|answer| answer.status == 201).unwrap();
        assert_eq!(fleet.of(round).get(&path).await.json(), created.json());
    }
    fleet.stop().await;
}

async fn of_many_that_change_the_same_revision_exactly_one_does(fleet: Fleet) {
    let path = node("n");
    let mut present = fleet.of(0).put(&path, json!({"node_type": "effect"})).await;
    for round in 0..10 {
        let tag = present.header("etag").unwrap().to_owned();
        let body = |client| json!({"node_type": "effect", "metadata": {"client": client, "round": round}});
        let answers = fleet.all(10, Method::PUT, &path, &[("if-match", &tag)], body).await;
        assert_eq!((count(&answers, 200), count(&answers, 412)), (1, 9), "{:?}", statuses(&answers));
        present = fleet.of(round).get(&path).await;
        let winner = answers.iter().find(|answer| answer.status == 200).unwrap();
        assert_eq!(present.json(), winner.json());
    }
    fleet.stop().await;
}

async fn of_many_that_deregister_one_id_exactly_one_does(fleet: Fleet) {
    for round in 0..5 {
        let path = node("n");
        let tag = fleet.of(round).put(&path, json!({"node_type": "effect"})).await;
        let tag = tag.header("etag").unwrap().to_owned();
        let (headers, lost): (&[(&str, &str)], u16) =
            if round % 2 == 0 { (&[], 404) } else { (&[("if-match", &tag)], 412) };
        let answers = fleet.all(20, Method::DELETE, &path, headers, |_| json!({})).await;
        assert_eq!((count(&answers, 204), count(&answers, lost)), (1, 19), "{:?}", statuses(&answers));
    }
    fleet.stop().await;
}

/// The ids 0 to 29 in an order that is different for each client and round.
fn shuffled(client: usize, round: usize) -> Vec<String> {
    let mut ids: Vec<usize> = (0..30).collect();
    let mut state = client as u64 * 1_000 + round as u64 + 1;
    for end in (1..ids.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ids.swap(end, usize::try_from(state >> 33).unwrap() % (end + 1));
    }
    ids.truncate(20);
    ids.into_iter().map(|id| format!("n{id:02}")).collect()
}

/// What a client in the throng was answered: the revisions of its registrations.
async fn one_of_many(server: &TestServer, client: usize) -> Vec<(String, i64)> {
    let mut registered = Vec::new();
    for round in 0..8 {
        let ids = shuffled(client, round);
        if (client + round).is_multiple_of(3) {
            let answer = server.post("/v1/batch/deregister", json!({ "node_ids": ids })).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            continue;
        }
        let node = |id| json!({"node_id": id, "node_type": "effect", "metadata": {"by": [client, round]}});
        let nodes: Vec<Value> = ids.iter().map(node).collect();
        let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for result in answer.json()["results"].as_array().unwrap() {
            let status = result["status"].as_i64().unwrap();
            assert!(status == 200 || status == 201, "{result}");
            let id = result["node_id"].as_str().unwrap().to_owned();
            registered.push((id, result["revision"].as_i64().unwrap()));
        }
    }
    registered
}

async fn overlapping_batches_in_any_order_leave_log_and_table_in_agreement(fleet: Fleet) {
    let clients = join_all((0..8).map(|client| one_of_many(fleet.of(client), client))).await;
    let answered: Vec<(String, i64)> = clients.concat();
    let nodes = fleet.nodes().await;
    for node in &nodes {
        let id = node["node_id"].as_str().unwrap();
        let newest = answered.iter().filter(|(of, _)| of == id).map(|(_, revision)| *revision).max();
        assert_eq!(node["revision"].as_i64(), newest, "what is there is what was registered last: {node}");
    }
    if let Some(database) = &fleet.database {
        let mut owner = database.connect().await;
        assert_log_agrees(&sql::events(&mut owner, 0).await, &nodes, &answered);
    }
    fleet.stop().await;
}

/// A node is registered, updated and deregistered in an order that makes sense, and ends as the table has it.
fn assert_log_agrees(events: &[sql::Event], nodes: &[Value], answered: &[(String, i64)]) {
    let mut living: HashMap<&str, i64> = HashMap::new();
    for event in events {
        let lives = living.contains_key(event.node_id.as_str());
        match event.kind.as_str() {
            "registered" => assert!(!lives, "{event:?}"),
            "updated" | "deregistered" => assert!(lives, "{event:?}"),
            other => panic!("{other}"),
        }
        if event.kind == "deregistered" {
            living.remove(event.node_id.as_str());
        } else {
            living.insert(&event.node_id, event.revision);
            let answer = (event.node_id.clone(), event.revision);
            assert!(answered.contains(&answer), "nobody was told of {event:?}");
        }
    }
    let table: HashMap<&str, i64> = nodes
        .iter()
        .map(|node| (node["node_id"].as_str().unwrap(), node["revision"].as_i64().unwrap()))
        .collect();
    assert_eq!(living, table);
}

async fn a_client_that_hangs_up_undoes_nothing(fleet: Fleet) {
    for round in 0..10 {
        let server = fleet.of(round);
        let nodes: Vec<Value> =
            (0..50).map(|i| json!({"node_id": format!("r{round}-{i:02}"), "node_type": "effect"})).collect();
        let body = json!({ "nodes": nodes }).to_string();
        let address = server.url.strip_prefix("http://").unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /v1/batch/nodes HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(request.as_bytes()).await.unwrap();
        // At different moments: before, while and after the server writes.
        for _ in 0..round {
            assert_eq!(server.get("/livez").await.status, 200);
        }
        drop(client);
        let another = server.put(&node(&format!("another-{round}")), json!({"node_type": "effect"})).await;
        assert_eq!(another.status, 201);
        // All of it or nothing: a server may notice that nobody listens before it begins.
        let prefix = format!("node_id_prefix=r{round}-");
        sql::eventually("the write has an end", async || matches!(server.ids(&prefix).await.len(), 0 | 50))
            .await;
    }
    // What has begun when the client hangs up is finished.
    if let Some(database) = &fleet.database {
        finished_without_a_client(&fleet, database).await;
    }
    fleet.stop().await;
}

/// How many registrations have come to an end, whatever it was.
async fn registrations(server: &TestServer) -> u64 {
    let metrics = server.get("/metrics").await.text;
    let of_outcome = |line: &str| -> Option<u64> {
        line.strip_prefix("onex_registry_registrations_total{")?.split_once("} ")?.1.parse().ok()
    };
    metrics.lines().filter_map(of_outcome).sum()
}

/// The write is under way for sure: it waits for a row that another transaction holds.
async fn finished_without_a_client(fleet: &Fleet, database: &TestDatabase) {
    let (mut owner, mut idle) = (database.connect().await, database.connect().await);
    for _ in 0..4 {
        sql::run(&mut idle, "BEGIN").await;
        sql::upsert(&mut idle, "held", "effect", "{}").await.unwrap();
        let path = node("held");
        let before = registrations(fleet.of(0)).await;
        let request = fleet.of(0).put(&path, json!({"node_type": "compute"}));
        let waiting = sql::eventually("the server waits for a lock", async || {
            let query = "SELECT count(*) > 0 FROM pg_stat_activity
                          WHERE datname = current_database() AND wait_event_type = 'Lock'";
            sql::value(&mut owner, query).await
        });
        tokio::select! {
            answer = request => {
                answer.problem(503, "contended");
                sql::run(&mut idle, "ROLLBACK").await;
                continue;
            }
            () = waiting => {} // The request is dropped here.
        }
        sql::run(&mut idle, "COMMIT").await;
        sql::eventually("the write has an end", async || registrations(fleet.of(0)).await > before).await;
        // The server may have given up before the other let go.
        if fleet.of(1).get(&path).await.json()["node_type"] == "compute" {
            return;
        }
    }
    panic!("a write that was under way was never finished");
}
