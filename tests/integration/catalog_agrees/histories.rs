//! Whatever happened, and by whose hand: a replica says from memory what the database says. On random histories, with real
//! replicas that follow each other.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::harness::sql::{self, eventually};
use crate::harness::{Backend, TestServer, encoded, node};
use crate::stores_agree::{IDS, TYPES, VERSIONS, holds, object_text, runtime};

/// Whose hand it is. On SQLite there is one server, and nobody else.
#[derive(Debug, Clone, Copy)]
enum Hand {
    /// The replica that is asked.
    Ours,
    Theirs,
    Sql,
}

#[derive(Debug, Clone)]
enum Step {
    Register {
        id: &'static str,
        hand: Hand,
        body: Value,
        alive: bool,
    },
    Deregister {
        id: &'static str,
        hand: Hand,
    },
    /// Of some at once.
    Beat {
        ids: Vec<&'static str>,
        hand: Hand,
    },
    Maintain {
        id: &'static str,
        hand: Hand,
        out: bool,
    },
    /// Until all that were healthy are stale.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || select(&IDS[..]);
    let hand = || select(vec![Hand::Ours, Hand::Theirs, Hand::Sql]);
    let body = (select(&TYPES[..]), select(&VERSIONS[..]), object_text(), object_text(), option::of(1..3));
    let body = body.prop_map(|(node_type, version, capabilities, metadata, ttl)| {
        let mut body = json!({"node_type": node_type, "node_version": version, "ttl_seconds": ttl});
        body["capabilities"] = serde_json::from_str(&capabilities).unwrap();
        body["metadata"] = serde_json::from_str(&metadata).unwrap();
        body
    });
    prop_oneof![
        12 => (id(), hand(), body, any::<bool>())
            .prop_map(|(id, hand, body, alive)| Step::Register { id, hand, body, alive }),
        4 => (id(), hand()).prop_map(|(id, hand)| Step::Deregister { id, hand }),
        6 => (vec(id(), 1..5), hand()).prop_map(|(ids, hand)| Step::Beat { ids, hand }),
        3 => (id(), hand(), any::<bool>()).prop_map(|(id, hand, out)| Step::Maintain { id, hand, out }),
        1 => Just(Step::Wait),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let some_of = |name: &'static str, values: &'static [&'static str]| {
        option::weighted(0.25, vec(select(values), 1..4)).prop_map(move |values| {
            values.unwrap_or_default().into_iter().map(|value| (name, value.to_owned())).collect()
        })
    };
    let one_of = |name: &'static str, weight, values: Vec<&'static str>| {
        option::weighted(weight, select(values))
            .prop_map(move |value| value.map(|value| (name, value.to_owned())).into_iter().collect())
    };
    let wanted = |name: &'static str| {
        option::weighted(0.25, object_text())
            .prop_map(move |text| text.map(|text| (name, text)).into_iter().collect())
    };
    let parts: (_, _, _, _, _, _, _, _, _) = (
        some_of("node_type", &TYPES),
        some_of("node_id", &IDS),
        some_of("node_version", &VERSIONS),
        some_of("status", &["healthy", "stale", "unknown", "maintenance"]),
        one_of("node_id_prefix", 0.15, vec!["a", "é", "a\u{10FFFF}", "%"]),
        one_of("version_req", 0.25, vec!["^1.2", ">=1.0, <2.0", "*", "=1.2.0-rc.1", "~0.1.0", ">1"]),
        select(vec!["1", "2", "5", "1000"]).prop_map(|limit| vec![("limit", limit.to_owned())]),
        wanted("capabilities"),
        wanted("metadata"),
    );
    parts.prop_map(|(a, b, c, d, e, f, g, h, i)| {
        let parts: [Vec<(&str, String)>; 9] = [a, b, c, d, e, f, g, h, i];
        let mut query = String::new();
        for (name, value) in parts.into_iter().flatten() {
            write!(query, "{name}={}&", encoded(&value)).unwrap();
        }
        query
    })
}

/// The replicas, and another hand at the table.
struct World {
    ours: TestServer,
    theirs: Option<(TestServer, PgConnection)>,
}

impl World {
    async fn start(backend: Backend) -> Self {
        let settings = ["--ttl=1s"];
        let ours = TestServer::start_with(backend, &settings).await;
        let theirs = match &ours.database {
            Some(database) => {
                Some((TestServer::start_on(&database.url(), &settings).await, database.connect().await))
            }
            None => None,
        };
        Self { ours, theirs }
    }

    async fn clear(&self) {
        let answer = self.ours.post("/v1/batch/deregister", json!({"node_ids": IDS})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    async fn step(&mut self, step: &Step) {
        match (step, &mut self.theirs) {
            (Step::Wait, _) => {
                let healthy = "/v1/nodes?status=healthy&consistency=strong";
                eventually("nobody is healthy", async || {
                    self.ours.get_once(healthy).await.json()["nodes"] == json!([])
                })
                .await;
            }
            (Step::Register { id, hand: Hand::Sql, body, .. }, Some((_, plain))) => {
                let text = |name: &str| body[name].as_str().unwrap().to_owned();
                let write = sqlx::query(sql::UPSERT)
                    .bind(id)
                    .bind(text("node_type"))
                    .bind(text("node_version"))
                    .bind(body["capabilities"].to_string())
                    .bind("{}")
                    .bind(body["metadata"].to_string())
                    .bind(None::<&str>);
                write.execute(plain).await.unwrap();
            }
            (Step::Deregister { id, hand: Hand::Sql }, Some((_, plain))) => {
                sql::delete(plain, id).await.unwrap();
            }
            (Step::Maintain { id, hand: Hand::Sql, out }, Some((_, plain))) => {
                let maintain = "UPDATE node_registrations SET maintenance = $2 WHERE node_id = $1";
                let reason = out.then_some("a disk");
                sqlx::query(maintain).bind(id).bind(reason).execute(plain).await.unwrap();
            }
            (
                Step::Register { hand, .. }
                | Step::Deregister { hand, .. }
                | Step::Beat { hand, .. }
                | Step::Maintain { hand, .. },
                theirs,
            ) => {
                let server = match (hand, theirs) {
                    (Hand::Theirs, Some((theirs, _))) => &*theirs,
                    _ => &self.ours,
                };
                send(server, step).await;
            }
        }
    }

    /// Whether all pages of a query are the same, from memory and from the database.
    async fn agree(&self, query: &str) -> Result<usize, TestCaseError> {
        let (mut found, mut cursor) = (0, String::new());
        loop {
            let path = format!("/v1/nodes?{query}{cursor}");
            let path = path.trim_end_matches('&');
            let stored = self.ours.get_once(&format!("{path}&consistency=strong")).await;
            let revision = stored.header("registry-revision").unwrap();
            let known = self.ours.get_once(&format!("{path}&min_revision={revision}")).await;
            prop_assert_eq!((stored.status, known.status), (200, 200), "{}", path);
            // What others noted of life without an event may come two seconds later. All else is there.
            if !query.contains("status=") {
                prop_assert_eq!(registrations(&known.json()), registrations(&stored.json()), "{}", path);
            }
            // And that comes, too.
            let page = self.ours.get(path).await.json();
            found += page["nodes"].as_array().unwrap().len();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("cursor={next}"),
                None => return Ok(found),
            }
        }
    }

    async fn stop(self) {
        if let Some((theirs, _)) = self.theirs {
            theirs.stop().await;
        }
        self.ours.stop().await;
    }
}

/// A step by the API.
async fn send(server: &TestServer, step: &Step) {
    let (answer, is_fine) = match step {
        Step::Register { id, body, alive, .. } => {
            (server.put(&format!("{}?alive={alive}", node(id)), body).await, &[200, 201][..])
        }
        Step::Deregister { id, .. } => (server.delete(&node(id)).await, &[204, 404][..]),
        Step::Beat { ids, .. } => {
            (server.post("/v1/batch/heartbeats", json!({"node_ids": ids})).await, &[200][..])
        }
        Step::Maintain { id, out: true, .. } => {
            let path = format!("{}/maintenance", node(id));
            (server.put(&path, r#"{"reason":"a disk"}"#).await, &[200, 404][..])
        }
        Step::Maintain { id, out: false, .. } => {
            (server.delete(&format!("{}/maintenance", node(id))).await, &[200, 404][..])
        }
        Step::Wait => return,
    };
    assert!(is_fine.contains(&answer.status), "{step:?}: {} {}", answer.status, answer.text);
}

/// A page without what is no event when it changes.
fn registrations(page: &Value) -> Value {
    let mut nodes = page["nodes"].clone();
    for node in nodes.as_array_mut().unwrap() {
        for of_life in ["last_heartbeat", "updated_at", "status"] {
            node.as_object_mut().unwrap().remove(of_life);
        }
    }
    json!([nodes, page["next_cursor"]])
}

fn on(backend: Backend) {
    let runtime = runtime();
    let world = std::cell::RefCell::new(runtime.block_on(World::start(backend)));
    let found = std::cell::Cell::new(0);
    let property = |(histories, queries): (Vec<Vec<Step>>, Vec<String>)| -> TestCaseResult {
        let mut world = world.borrow_mut();
        runtime.block_on(async {
            world.clear().await;
            // They are asked in the middle of it all, too.
            for (history, queries) in histories.iter().zip(queries.chunks(5)) {
                for step in history {
                    world.step(step).await;
                }
                for query in queries {
                    found.set(found.get() + world.agree(query).await?);
                }
            }
            Ok(())
        })
    };
    holds(10, &(vec(vec(step(), 1..15), 3), vec(query(), 15)), property);
    assert!(found.get() > 50, "{} nodes were found", found.get());
    runtime.block_on(world.into_inner().stop());
}

#[test]
fn after_any_history_a_replica_says_what_postgresql_says() {
    on(Backend::Postgres);
}

#[test]
fn after_any_history_a_server_says_what_its_file_says() {
    on(Backend::Sqlite);
}
