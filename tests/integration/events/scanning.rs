//! A page costs little, however long the log and however rare what is asked for.

use onex_registry::store::postgres::{SCAN, SCAN_NODES, SCAN_SETTINGS};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{page, revision};
use crate::harness::{Backend, TestServer, sql};

#[tokio::test]
async fn a_rare_kind_is_found_in_several_pages() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut writer = server.database.as_ref().unwrap().connect().await;
    sql::run(
        &mut writer,
        "INSERT INTO node_registrations (node_id, node_type)
         SELECT 'n' || i, 'effect' FROM generate_series(1, 12000) AS i;
         DELETE FROM node_registrations WHERE node_id = 'n7'",
    )
    .await;
    let log = sql::events(&mut writer, 0).await;
    let first = page(&server, "kind=deregistered").await;
    assert_eq!((first.events.len(), first.next_after), (0, log[9_999].revision));
    let second = page(&server, &format!("kind=deregistered&after={}", first.next_after)).await;
    assert_eq!((second.events.len(), second.next_after), (1, second.newest));
    assert_eq!(revision(&second.events[0]), log[12_000].revision);
    // By its id it is found at once.
    let by_id = page(&server, "kind=deregistered&node_id=n7").await;
    assert_eq!(by_id.events, second.events);
    server.stop().await;
}

/// The steps of a plan that read the log: index, and rows read.
fn reads(step: &Value, found: &mut Vec<(String, f64)>) {
    if step["Relation Name"] == "node_events" {
        let index = step["Index Name"].as_str().unwrap_or("none").to_owned();
        let rows = |name: &str| step[name].as_f64().unwrap_or_default();
        let read = (rows("Actual Rows") + rows("Rows Removed by Filter")) * rows("Actual Loops");
        found.push((index, read));
    }
    for below in step["Plans"].as_array().into_iter().flatten() {
        reads(below, found);
    }
}

async fn plan(
    owner: &mut PgConnection,
    statement: &str,
    after: i64,
    ids: Option<&[&str]>,
) -> Vec<(String, f64)> {
    let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, FORMAT JSON) {statement}"));
    let query = sqlx::query(explain).persistent(false).bind(after).bind(100_i64);
    let query = match ids {
        Some(ids) => query.bind(ids),
        None => query,
    };
    let row = query.fetch_one(owner).await.unwrap();
    let plan: Value = serde_json::from_str(&row.get_unchecked::<String, _>(0)).unwrap();
    let mut found = Vec::new();
    reads(&plan[0]["Plan"], &mut found);
    found
}

#[tokio::test]
async fn the_log_is_read_by_its_indexes_and_no_further_than_needed() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    // One node has half of the events, and few nodes have the rest: an average node has many.
    sql::run(
        &mut owner,
        "INSERT INTO node_events (revision, node_id, kind, actor, occurred_at)
         SELECT i, CASE WHEN i % 2 = 0 THEN 'hot' ELSE 'n' || i % 10 END, 'updated', 'anonymous', NOW()
           FROM generate_series(1, 50000) AS i;
         INSERT INTO node_events (revision, node_id, kind, actor, occurred_at)
         VALUES (50001, 'rare', 'registered', 'anonymous', NOW())",
    )
    .await;
    sql::run(&mut owner, "VACUUM ANALYZE node_events").await;
    // As the server begins.
    sql::run(&mut owner, SCAN_SETTINGS.replace("SET LOCAL", "SET")).await;
    for after in [0, 25_000, 49_990] {
        let read = plan(&mut owner, SCAN, after, None).await;
        assert!(read.len() == 1 && read[0].0 == "node_events_pkey" && read[0].1 <= 100.0, "{read:?}");
        for ids in [&["hot"][..], &["rare"], &["nobody"], &["n1", "rare", "nobody"]] {
            let read = plan(&mut owner, SCAN_NODES, after, Some(ids)).await;
            let bound = 100.0 * f64::from(u32::try_from(ids.len()).unwrap());
            assert!(read.len() == 1 && read[0].0 != "none", "{ids:?} {read:?}");
            assert!(read[0].1 <= bound, "{ids:?} {read:?}");
        }
    }
    server.stop().await;
}
