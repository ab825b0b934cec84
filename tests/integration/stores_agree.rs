//! Both stores give the same answers, and JSON means what PostgreSQL says that it means. On random data.

use std::cell::RefCell;
use std::fmt::Debug;

use onex_registry::node::containment::contains;
use onex_registry::node::fault::Path;
use onex_registry::node::{Faults, Json, JsonObject, JsonText};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::runtime::Runtime;

use crate::harness::{Backend, TestDatabase, TestServer};

/// JSON texts: few keys and values, so that they often have something in common, in many spellings.
fn json_text() -> impl Strategy<Value = String> {
    let scalar = select(vec![
        "null",
        "true",
        "false",
        "1",
        "1.0",
        "1.10",
        "10",
        "1e1",
        "0.1E2",
        "100e-1",
        "-0",
        "0.00",
        "-1.50",
        "1e-3",
        "123456789012345678901234567890123456789012",
        "12345678901234567890.000000000000000000001",
        r#""""#,
        r#""1""#,
        r#""x""#,
        r#""\u0078""#,
        r#""é""#,
        r#""\u00e9""#,
        r#""\ud83e\udd80""#,
        r#""a\/b\\c\"d\n\u001f\u007f""#,
        r#""true""#,
    ])
    .prop_map(str::to_owned);
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            members(inner).prop_map(|members| format!("{{ {members} }}")),
        ]
    })
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = select(vec!["a", "b", r"\u0061", "bb", "", "é", "a b", r"\ud83e\udd80"]);
    vec((key, value), 0..4).prop_map(|members| {
        let members = members.into_iter().map(|(key, value)| format!("\"{key}\" :{value}"));
        members.collect::<Vec<_>>().join(",")
    })
}

/// A JSON object, such as a column or a condition on one.
pub(crate) fn object_text() -> impl Strategy<Value = String> {
    members(json_text()).prop_map(|members| format!("{{{members}}}"))
}

/// Runs a property, and fails with the smallest case that breaks it.
pub(crate) fn holds<S: Strategy<Value: Debug>>(
    cases: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> TestCaseResult,
) {
    // No file of failures: what was found to be wrong becomes a test of its own.
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    if let Err(broken) = TestRunner::new(config).run(strategy, property) {
        panic!("{broken}");
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// PostgreSQL, to ask it what things mean.
struct Judge {
    runtime: Runtime,
    connection: RefCell<PgConnection>,
    _database: TestDatabase,
}

impl Judge {
    fn new() -> Self {
        let runtime = runtime();
        let database = runtime.block_on(TestDatabase::create());
        let connection = RefCell::new(runtime.block_on(database.connect()));
        Self { runtime, connection, _database: database }
    }

    fn contains(&self, left: &[String], right: &[String]) -> Vec<bool> {
        let asked = sqlx::query_scalar(
            "SELECT a::jsonb @> b::jsonb FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (a, b, n) ORDER BY n",
        );
        let mut connection = self.connection.borrow_mut();
        self.runtime.block_on(asked.bind(left).bind(right).fetch_all(&mut *connection)).unwrap()
    }

    fn show(&self, json: &str) -> String {
        let asked = sqlx::query_scalar("SELECT $1::text::jsonb::text");
        let mut connection = self.connection.borrow_mut();
        self.runtime.block_on(asked.bind(json).fetch_one(&mut *connection)).unwrap()
    }
}

#[test]
fn containment_is_what_postgresql_says_it_is() {
    let judge = Judge::new();
    holds(30, &vec((json_text(), json_text()), 300), |pairs| {
        let (left, right): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
        for ((left, right), judged) in left.iter().zip(&right).zip(judge.contains(&left, &right)) {
            let ours = contains(&Json::read_stored(left).unwrap(), &Json::read_stored(right).unwrap());
            prop_assert_eq!(ours, judged, "{} @> {}", left, right);
        }
        Ok(())
    });
}

#[test]
fn a_column_is_kept_in_the_form_in_which_postgresql_shows_it() {
    let judge = Judge::new();
    holds(400, &object_text(), |text| {
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        let mut faults = Faults::at_most(10);
        let ours = JsonObject::read(raw, &Path::Root, &mut faults);
        let ours = ours.ok_or_else(|| TestCaseError::fail(format!("{faults:?}")))?;
        let shown = JsonText::from_database(&judge.show(&text));
        prop_assert_eq!(ours.as_str(), shown.as_str());
        Ok(())
    });
}

pub(crate) const IDS: [&str; 14] =
    ["a", "B", "b", "a/b", "a b", "é", "z", "Z", "ab", "aB", "_", "🦀", "a\u{10FFFF}", "%41"];
pub(crate) const VERSIONS: [&str; 8] =
    ["1.0.0", "1.2.0", "1.2.0-rc.1", "1.10.0", "2.0.0", "0.1.0", "0.1.5+b1", "18446744073709551615.0.0"];
pub(crate) const TYPES: [&str; 4] = ["effect", "compute", "reducer", "orchestrator"];

#[derive(Debug, Clone)]
struct Registration {
    id: &'static str,
    alive: bool,
    maintenance: bool,
    body: String,
}

fn registration() -> impl Strategy<Value = Registration> {
    let id = select(&IDS[..]);
    let (node_type, version) = (select(&TYPES[..]), select(&VERSIONS[..]));
    (id, node_type, version, object_text(), object_text(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(id, node_type, version, capabilities, metadata, alive, maintenance)| Registration {
            id,
            alive,
            maintenance,
            // Not by way of a JSON value: the spelling is part of the case.
            body: format!(
                r#"{{"node_type":"{node_type}","node_version":"{version}","capabilities":{capabilities},"metadata":{metadata}}}"#
            ),
        },
    )
}

/// A query as pairs of names and values.
fn query() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let some_of = |name: &'static str, values: Vec<&'static str>| {
        vec(select(values).prop_map(move |value| (name, value.to_owned())), 0..3)
    };
    let one = |name: &'static str, values: Vec<&'static str>| {
        option::weighted(0.3, select(values).prop_map(move |value| (name, value.to_owned())))
    };
    let object = |name: &'static str| {
        option::weighted(0.3, object_text()).prop_map(move |text| text.map(|text| (name, text)))
    };
    let several = (
        some_of("node_type", vec!["effect", "compute", "reducer", "planet"]),
        some_of("node_id", vec!["a", "b", "é", "nobody"]),
        some_of("node_version", VERSIONS.to_vec()),
        some_of("status", vec!["healthy", "unknown", "stale", "maintenance"]),
    );
    let single = (
        one("node_id_prefix", vec!["a", "", "é", "a\u{10FFFF}", "\u{10FFFF}", "%", "_"]),
        one("version_req", vec!["^1.2", ">=1.0, <2.0", "*", "=1.2.0-rc.1", "~0.1.0", ">1"]),
        object("capabilities"),
        object("metadata"),
    );
    let limit = select(vec!["1", "2", "5", "1000"]).prop_map(|limit| ("limit", limit.to_owned()));
    // All at once would find nothing most of the time.
    let pick = vec(any::<bool>(), 8);
    (several, single, limit, pick).prop_map(|((a, b, c, d), (e, f, g, h), limit, pick)| {
        let groups = [a, b, c, d].into_iter().chain([e, f, g, h].map(|one| one.into_iter().collect()));
        let picked = groups.zip(pick).filter(|(_, pick)| *pick).flat_map(|(group, _)| group);
        picked.chain([limit]).collect()
    })
}

/// All that a query finds, page by page, without what must differ: times and revisions.
async fn find(server: &TestServer, query: &[(&'static str, String)]) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut url = url::Url::parse("http://h/v1/nodes").unwrap();
        url.query_pairs_mut()
            .extend_pairs(query)
            .extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
        let answer = server.get(&format!("/v1/nodes?{}", url.query().unwrap_or_default())).await;
        assert_eq!(answer.status, 200, "{query:?}: {}", answer.text);
        let mut page = answer.json();
        for node in page["nodes"].as_array_mut().unwrap() {
            for field in ["registered_at", "updated_at", "revision"] {
                node[field].take();
            }
            node["last_heartbeat"] = json!(node["last_heartbeat"].is_string());
        }
        let next = page["next_cursor"].as_str().map(str::to_owned);
        pages.push(json!({"nodes": page["nodes"], "next_cursor": next}));
        assert!(pages.len() < 100, "the pages have an end");
        match next {
            Some(next) => cursor = Some(next),
            None => return pages,
        }
    }
}

#[test]
fn both_stores_answer_alike() {
    let runtime = runtime();
    let (postgres, sqlite) = runtime.block_on(async {
        (TestServer::start(Backend::Postgres).await, TestServer::start(Backend::Sqlite).await)
    });
    holds(24, &(vec(registration(), 1..20), vec(query(), 25)), |(fleet, queries)| {
        runtime.block_on(async {
            let everybody = json!({"node_ids": IDS});
            for server in [&postgres, &sqlite] {
                assert_eq!(server.post("/v1/batch/deregister", &everybody).await.status, 200);
            }
            for Registration { id, alive, maintenance, body } in &fleet {
                let path = format!("{}?alive={alive}", crate::harness::node(id));
                let (ours, theirs) = (postgres.put(&path, body).await, sqlite.put(&path, body).await);
                prop_assert_eq!(ours.status, theirs.status, "{} {}", body, theirs.text);
                prop_assert!(ours.status < 300, "{}", ours.text);
                let (ours, theirs) = (ours.json(), theirs.json());
                prop_assert_eq!(ours["capabilities"].to_string(), theirs["capabilities"].to_string());
                if *maintenance {
                    let path = format!("{}/maintenance", crate::harness::node(id));
                    for server in [&postgres, &sqlite] {
                        prop_assert_eq!(server.put(&path, json!({"reason": id})).await.status, 200);
                    }
                }
            }
            for query in &queries {
                let (ours, theirs) = (find(&postgres, query).await, find(&sqlite, query).await);
                prop_assert_eq!(ours, theirs, "{:?}", query);
            }
            Ok(())
        })
    });
    runtime.block_on(async {
        postgres.stop().await;
        sqlite.stop().await;
    });
}

/// A property that never finds anything would hold of two stores that answer nothing.
#[test]
fn random_queries_do_find_something() {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start(Backend::Sqlite));
    let found = RefCell::new((0, 0));
    holds(10, &(vec(registration(), 10), vec(query(), 25)), |(fleet, queries)| {
        runtime.block_on(async {
            for Registration { id, alive, body, .. } in &fleet {
                server.put(&format!("{}?alive={alive}", crate::harness::node(id)), body).await;
            }
            for query in &queries {
                let nonempty = find(&server, query).await[0]["nodes"] != json!([]);
                let mut found = found.borrow_mut();
                if nonempty {
                    found.0 += 1;
                } else {
                    found.1 += 1;
                }
            }
        });
        Ok(())
    });
    let (some, none) = *found.borrow();
    assert!(some > 25 && none > 25, "{some} queries found something, {none} nothing");
    runtime.block_on(server.stop());
}
