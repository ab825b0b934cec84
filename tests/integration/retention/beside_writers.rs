//! Old events are deleted while nodes come, change and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{HOLDER, Setting, WEEK, log};
use crate::harness::{TestServer, node, sql};

#[tokio::test]
async fn one_that_idles_in_its_transaction_is_not_waited_for() {
    let mut setting = Setting::start().await;
    for id in ["changed", "removed", "dropped"] {
        setting.register(id, 0).await;
    }
    setting.server.delete(&node("dropped")).await;
    setting.let_a_week_pass().await;
    let mut idle = setting.server.database.as_ref().unwrap().connect().await;
    sql::run(&mut idle, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM node_events").await;
    sql::upsert(&mut idle, "changed", "compute", "{}").await.unwrap();
    sql::upsert(&mut idle, "dropped", "compute", "{}").await.unwrap();
    sql::delete(&mut idle, "removed").await.unwrap();

    assert_eq!(setting.prune(WEEK).await, 2, "those of the node that is not there");
    assert_eq!(setting.log().await, log(&[("changed", "registered"), ("removed", "registered")]));
    for id in ["changed", "removed"] {
        assert_ne!(setting.server.get(&node(id)).await.json()["revision"], 0, "{id}");
    }
    sql::run(&mut idle, "COMMIT").await;
    assert_eq!(setting.sweep().await, 2);
    let left = [("changed", "updated"), ("dropped", "registered"), ("removed", "deregistered")];
    assert_eq!(setting.log().await, log(&left));
    setting.stop().await;
}

/// Changes a node of its own, and one that all share, and expects to find the revisions that it is told.
async fn write_over_http(server: &TestServer, writer: usize) {
    let path = node(&format!("own{writer}"));
    for round in 0..25 {
        let body = json!({"node_type": "effect", "metadata": {"round": round}}).to_string();
        let told = server.put(&path, &body).await;
        let found = server.get(&path).await.json();
        assert_eq!(found["revision"], told.json()["revision"]);
        // The condition is on the revision, which is in the log alone.
        let tag = told.header("etag").unwrap();
        let again = server.send(Method::PUT, &path, body, &[("if-match", tag)]).await;
        assert_eq!(again.status, 200, "{}", again.text);
        server.register("shared", json!({"node_type": "effect", "metadata": {"by": [writer, round]}})).await;
        if round % 5 == 4 {
            assert_eq!(server.delete(&path).await.status, 204);
        }
    }
    server.register(&format!("own{writer}"), json!({"node_type": "effect"})).await;
}

async fn write_by_sql(mut connection: PgConnection, writer: usize) {
    let id = format!("plain{writer}");
    for round in 0..25 {
        sql::run(&mut connection, "BEGIN").await;
        sql::upsert(&mut connection, &id, "effect", &format!("{{\"round\": {round}}}")).await.unwrap();
        if round % 5 == 4 {
            sql::delete(&mut connection, &id).await.unwrap();
        }
        sql::run(&mut connection, if round % 7 == 6 { "ROLLBACK" } else { "COMMIT" }).await;
    }
    sql::upsert(&mut connection, &id, "compute", "{}").await.unwrap();
}

/// Reads on, and begins again where it finds that it is too late. What it is given is without gaps.
async fn follow(server: &TestServer, done: &AtomicBool) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let last_time = done.load(Ordering::SeqCst);
        let query = after.map_or(String::new(), |after: i64| format!("?after={after}"));
        let answer = server.get(&format!("/v1/events{query}")).await;
        if answer.status == 410 {
            after = None;
            seen.clear();
            continue;
        }
        let page = answer.json();
        assert_eq!(answer.status, 200, "{}", answer.text);
        seen.extend(page["events"].as_array().unwrap().clone());
        after = page["next_after"].as_i64();
        if last_time {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_stay_true_while_the_log_is_deleted_under_them() {
    let mut setting = Setting::start().await;
    let database = setting.server.database.as_ref().unwrap();
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(database.connect().await);
    }
    let done = AtomicBool::new(false);
    let write = async {
        let by_http = join_all((0..6).map(|writer| write_over_http(&setting.server, writer)));
        let by_sql = connections.into_iter().enumerate().map(|(writer, own)| write_by_sql(own, writer));
        tokio::join!(by_http, join_all(by_sql));
        done.store(true, Ordering::SeqCst);
    };
    // Everything is old at once.
    let delete = async {
        let mut deleted = 0;
        while !done.load(Ordering::SeqCst) {
            deleted += setting.prune(Duration::ZERO).await + setting.sweep().await;
        }
        deleted
    };
    let ((), deleted, seen) = tokio::join!(write, delete, follow(&setting.server, &done));
    assert!(deleted > 100, "{deleted} were deleted meanwhile");
    assert!(seen.is_sorted_by(|a, b| a["revision"].as_i64() < b["revision"].as_i64()));

    setting.prune(Duration::ZERO).await;
    setting.sweep().await;
    let nodes = setting.server.get("/v1/nodes?limit=1000").await.json();
    let revisions: HashMap<String, i64> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["node_id"].as_str().unwrap().to_owned(), node["revision"].as_i64().unwrap()))
        .collect();
    assert_eq!(revisions.len(), 11);
    let left: HashMap<String, i64> = sql::events(&mut setting.owner, 0)
        .await
        .into_iter()
        .map(|event| (event.node_id, event.revision))
        .collect();
    assert_eq!(left, revisions, "one event for each node, and nothing else");
    assert!(setting.store_is_idle().await, "nothing more to do");
    setting.stop().await;
}

impl Setting {
    async fn store_is_idle(&self) -> bool {
        use onex_registry::store::Store as _;
        let pruned = self.store.prune_events(&HOLDER.into(), Duration::ZERO).await.unwrap().unwrap();
        pruned.deleted == 0 && !pruned.more && self.sweep().await == 0
    }
}
