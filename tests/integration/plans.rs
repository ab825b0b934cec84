//! How PostgreSQL goes about the statements, on many rows.

use std::fmt::Write as _;

use onex_registry::node::Ttl;
use onex_registry::store::postgres::{DISCOVER, PostgresStore};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::harness::{TestDatabase, TestServer, node, sql};

/// Real nodes, many times over: types and versions as they are spread there, one capability that 1 % have, one type
/// that hardly any has.
const ROWS: i64 = 20_000;

async fn filled() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    TestServer::start_on(&database.url(), &[]).await.stop().await;
    let mut owner = database.connect().await;
    let samples = include_str!("../data/onex_nodes.jsonl");
    let samples = samples.trim().lines().collect::<Vec<_>>().join(",");
    sqlx::query(
        "INSERT INTO node_registrations (node_id, node_type, node_version, capabilities, endpoints, metadata)
         SELECT (s.node ->> 'node_id') || '_' || i, CASE WHEN i = 7777 THEN 'orchestrator' ELSE s.node_type END,
                COALESCE(s.node ->> 'node_version', '1.0.0'),
                (s.node -> 'capabilities') || CASE WHEN i % 100 = 0 THEN '{\"rare\": [\"gpu\"]}' ELSE '{}' END::jsonb,
                s.node -> 'endpoints', s.node -> 'metadata'
           FROM (SELECT node, CASE node ->> 'node_type' WHEN 'orchestrator' THEN 'effect' ELSE node ->> 'node_type' END
                            AS node_type, row_number() OVER () AS n
                   FROM jsonb_array_elements($1::jsonb) AS node) s
           JOIN generate_series(1, $2::bigint) AS i ON i % (SELECT jsonb_array_length($1::jsonb)) = s.n - 1",
    )
    .bind(format!("[{samples}]"))
    .bind(ROWS)
    .execute(&mut owner)
    .await
    .unwrap();
    sql::run(&mut owner, "VACUUM ANALYZE node_registrations, node_events").await;
    assert_eq!(sql::value::<i64>(&mut owner, "SELECT count(*) FROM node_registrations").await, ROWS);
    (database, owner)
}

/// What a discovery asks for; the rest is asked for by nobody.
#[derive(Default)]
struct Query {
    node_type: Option<&'static str>,
    node_types: Option<Vec<&'static str>>,
    versions: Option<Vec<&'static str>>,
    prefix: Option<(&'static str, &'static str)>,
    after: Option<&'static str>,
    capabilities: Option<&'static str>,
}

/// The plan of a discovery, bound as the server binds it.
async fn plan(owner: &mut PgConnection, query: Query) -> Plan {
    let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, FORMAT JSON) {DISCOVER}"));
    let plan = explained(owner, explain, query).await;
    let mut steps = Vec::new();
    collect(&plan[0]["Plan"], &mut steps);
    Plan { steps }
}

async fn explained(owner: &mut PgConnection, explain: AssertSqlSafe<String>, query: Query) -> Value {
    let row = sqlx::query(explain)
        .persistent(false)
        .bind(query.node_type)
        .bind(query.node_types)
        .bind(None::<Vec<&str>>)
        .bind(query.versions)
        .bind(query.prefix.map(|(from, _)| from))
        .bind(query.prefix.map(|(_, to)| to))
        .bind(query.after)
        .bind(query.capabilities)
        .bind(None::<&str>)
        .bind(None::<Vec<&str>>)
        .bind("2026-01-01 00:00:00+00")
        .bind(90_000_000_i64)
        .bind(101_i64)
        .bind(None::<&str>)
        .bind(None::<&str>)
        .fetch_one(owner)
        .await
        .unwrap();
    json(&row)
}

/// The steps that concern the table of nodes, without what looks up the revision of each row.
struct Plan {
    steps: Vec<Value>,
}

fn collect(step: &Value, steps: &mut Vec<Value>) {
    steps.push(step.clone());
    for below in step["Plans"].as_array().into_iter().flatten() {
        if below["Parent Relationship"] != "SubPlan" {
            collect(below, steps);
        }
    }
}

impl Plan {
    fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let part = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
            let (kind, index) = (part("Node Type"), part("Index Name"));
            let condition = part("Index Cond") + &part("Recheck Cond") + " filter " + &part("Filter");
            writeln!(text, "{kind} {index} {condition} rows {}", step["Actual Rows"]).unwrap();
        }
        text
    }

    fn has(&self, kind: &str) -> bool {
        self.steps.iter().any(|step| step["Node Type"] == kind)
    }

    /// Reads through an index, with a condition on it that begins so.
    fn uses(&self, index: &str, condition: &str) -> bool {
        self.steps.iter().any(|step| {
            step["Index Name"] == index
                && step["Index Cond"].as_str().is_some_and(|given| given.contains(condition))
        })
    }

    /// Reads the table of nodes in the order of the answer: no row is read that is not on the page, and none sorted.
    fn is_in_order(&self) -> bool {
        let read = |step: &Value| step["Actual Rows"].as_f64().unwrap_or(f64::MAX);
        !self.has("Seq Scan") && !self.has("Sort") && self.steps.iter().all(|step| read(step) <= 101.0)
    }
}

#[tokio::test]
async fn discovery_goes_through_the_indexes() {
    let (_database, mut owner) = filled().await;

    let all = plan(&mut owner, Query::default()).await;
    assert!(all.is_in_order(), "{}", all.text());
    let next = plan(&mut owner, Query { after: Some("node_m"), ..Query::default() }).await;
    assert!(next.is_in_order() && next.uses("idx_node_registrations_node_id_c", ">"), "{}", next.text());

    // Common, rare, and not there at all.
    for node_type in ["effect", "compute", "orchestrator", "none has it"] {
        let plan = plan(&mut owner, Query { node_type: Some(node_type), ..Query::default() }).await;
        let index = "idx_node_registrations_node_type_node_id_c";
        assert!(plan.uses(index, "node_type"), "{node_type}: {}", plan.text());
        assert!(plan.is_in_order(), "{node_type}: {}", plan.text());
    }
    let types = Some(vec!["effect", "orchestrator"]);
    let several = plan(&mut owner, Query { node_types: types, ..Query::default() }).await;
    assert!(!several.has("Seq Scan"), "{}", several.text());
    let rare = plan(&mut owner, Query { versions: Some(vec!["9.9.9"]), ..Query::default() }).await;
    assert!(!rare.has("Seq Scan"), "{}", rare.text());

    let prefix = Some(("node_auth", "node_auti"));
    let prefixed = plan(&mut owner, Query { prefix, ..Query::default() }).await;
    assert!(prefixed.uses("idx_node_registrations_node_id_c", ">="), "{}", prefixed.text());
    assert!(!prefixed.has("Seq Scan") && !prefixed.has("Sort"), "{}", prefixed.text());

    for node_type in [None, Some("effect")] {
        let capabilities = Some(r#"{"rare": ["gpu"]}"#);
        let gin = plan(&mut owner, Query { node_type, capabilities, ..Query::default() }).await;
        assert!(gin.uses("idx_node_registrations_capabilities", "@>"), "{}", gin.text());
        assert!(!gin.has("Seq Scan"), "{}", gin.text());
    }
}

/// The indexes that a plan reads, in all of its steps.
fn indexes(step: &Value, names: &mut Vec<String>) {
    names.extend(step["Index Name"].as_str().map(str::to_owned));
    for below in step["Plans"].as_array().into_iter().flatten() {
        indexes(below, names);
    }
}

/// A node that was quiet for long: backwards in the order of revisions, all that happened since would be read.
#[tokio::test]
async fn a_revision_is_looked_up_by_its_node_and_not_backwards_through_the_log() {
    let database = TestDatabase::create().await;
    PostgresStore::connect(&database.url(), 2, Ttl::from_seconds(90)).await.unwrap().migrate().await.unwrap();
    let mut owner = database.connect().await;
    sql::run(
        &mut owner,
        "SET session_replication_role = replica;
         INSERT INTO node_registrations (node_id, node_type) VALUES ('quiet', 'effect'), ('busy0', 'effect'), ('busy1', 'effect');
         INSERT INTO node_events (revision, node_id, kind, actor, occurred_at)
         SELECT n, CASE WHEN n < 10 THEN 'quiet' ELSE 'busy' || n % 2 END, 'updated', 'test', now()
           FROM generate_series(1, 50000) n;
         SET session_replication_role = origin",
    )
    .await;
    for analyzed in [false, true] {
        if analyzed {
            // Not VACUUM, after which an index with both columns would be enough to be read, and cheaper than any other.
            sql::run(&mut owner, "ANALYZE node_registrations, node_events").await;
        }
        let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {DISCOVER}"));
        let plan = explained(&mut owner, explain, Query::default()).await;
        let mut names = Vec::new();
        indexes(&plan[0]["Plan"], &mut names);
        assert!(names.contains(&"idx_node_events_registration".to_owned()), "{plan:#}");
        assert!(!names.contains(&"node_events_pkey".to_owned()), "{plan:#}");
    }
}

#[tokio::test]
async fn the_server_itself_goes_through_the_indexes() {
    let (database, mut owner) = filled().await;
    // Others prepare their statements, so theirs may be planned without the values.
    let prepare = "SET plan_cache_mode = force_generic_plan;
                   PREPARE by_id AS SELECT * FROM node_registrations WHERE node_id = $1";
    sql::run(&mut owner, prepare).await;
    let row = sqlx::query("EXPLAIN (FORMAT JSON) EXECUTE by_id('x')").fetch_one(&mut owner).await.unwrap();
    let plan = json(&row);
    assert_eq!(plan[0]["Plan"]["Index Name"], "node_registrations_pkey", "{plan}");

    let begun = std::time::Instant::now();
    // Table and catalog are compared less often than this takes.
    let server = TestServer::start_on(&database.url(), &["--compare-interval=1h"]).await;
    let id: String = sql::value(&mut owner, "SELECT max(node_id) FROM node_registrations").await;
    for round in 0..20 {
        assert_eq!(server.get(&node(&id)).await.status, 200);
        server.register(&id, serde_json::json!({"node_type": "effect", "metadata": {"round": round}})).await;
        server.delete(&node("nobody")).await.problem(404, "node-not-found");
        assert_eq!(server.ids("capabilities={\"rare\":[\"gpu\"]}&limit=3").await.len(), 3);
    }
    server.stop().await;
    // The statistics of a session arrive when it ends, or a little later.
    let by_key = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'node_registrations_pkey'";
    sql::eventually("the statistics arrive", async || sql::value::<i64>(&mut owner, by_key).await >= 60)
        .await;
    // The sweep reads all of it, once a second; a start does, and the making of each index. The requests do not: there
    // were eighty.
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'node_registrations'";
    let scans: i64 = sql::value(&mut owner, scans).await;
    let sweeps = i64::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    assert!(scans < 16 + sweeps, "{scans} times the whole table was read");
}

/// The JSON that EXPLAIN answers with.
fn json(row: &PgRow) -> Value {
    // In binary form too, `json` is its text.
    serde_json::from_str(&row.get_unchecked::<String, _>(0)).unwrap()
}
