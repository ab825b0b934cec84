//! Pages over a fleet that changes meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::server::ids_of;
use crate::harness::{TestServer, sql};

on_both_stores!(
    no_page_skips_or_repeats_a_node_that_stays,
    a_cursor_goes_on_from_a_node_that_is_gone,
    pages_end_early_rather_than_grow_too_large,
);

/// Nodes that stay, whose ids sort differently bytewise and in a dictionary.
fn staying() -> Vec<String> {
    let name = |i: usize| match i % 5 {
        0 => format!("Node-{i:04}"),
        1 => format!("node_{i:04}"),
        2 => format!("node/{i:04}"),
        3 => format!("Ünode-{i:04}"),
        _ => format!("😀{i:04}"),
    };
    let mut ids: Vec<String> = (0..2_500).map(name).collect();
    ids.sort();
    ids
}

async fn register(server: &TestServer, ids: &[String], round: u64) {
    let node = |id: &String| json!({"node_id": id, "node_type": "effect", "metadata": {"round": round}});
    let nodes: Vec<Value> = ids.iter().map(node).collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    for result in answer["results"].as_array().unwrap() {
        assert!(result["problem"].is_null(), "{result}");
    }
}

/// All ids, page by page; between two pages, `meanwhile` happens.
async fn read_all(server: &TestServer, query: &str, mut meanwhile: impl AsyncFnMut()) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = server.get(&format!("/v1/nodes?{query}{cursor}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        ids.extend(ids_of(&page));
        assert!(ids.len() < 10_000, "pages without end");
        let Some(next) = page["next_cursor"].as_str() else { return ids };
        cursor = format!("&cursor={next}");
        meanwhile().await;
    }
}

/// Nodes come and go between those that stay, and those that stay register again.
async fn churn(server: &TestServer, done: &AtomicBool, rounds: &AtomicU64) {
    let stay = staying();
    for round in 0_u64.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        let step = usize::try_from(round).unwrap() * 37 % 2_400;
        let between: Vec<String> = stay[step..step + 100].iter().map(|id| format!("{id}-brief")).collect();
        register(server, &between, round).await;
        register(server, &stay[step..step + 50], round).await;
        let answer = server.post("/v1/batch/deregister", json!({ "node_ids": between })).await;
        assert_eq!(answer.json()["deregistered"], 100, "{}", answer.text);
        rounds.fetch_add(1, Ordering::SeqCst);
    }
}

async fn no_page_skips_or_repeats_a_node_that_stays(server: &TestServer) {
    let stay = staying();
    for part in stay.chunks(1_000) {
        register(server, part, 0).await;
    }
    assert_eq!(read_all(server, "limit=100", async || ()).await, stay, "in the order of bytes");

    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let reading = async {
        for query in ["limit=100", "limit=99&node_type=effect", "limit=100&version_req=1&status=unknown"] {
            let seen = read_all(server, query, async || {
                let begun = rounds.load(Ordering::SeqCst);
                let changed = async || rounds.load(Ordering::SeqCst) > begun;
                sql::eventually("nodes come and go between two pages", changed).await;
            })
            .await;
            assert!(seen.is_sorted_by(|a, b| a < b), "{query}: in order, and none twice");
            let seen: Vec<&String> = seen.iter().filter(|id| !id.ends_with("-brief")).collect();
            assert!(seen.iter().copied().eq(&stay), "{query}: {} of {}", seen.len(), stay.len());
        }
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(reading, churn(server, &done, &rounds));
    assert_eq!(read_all(server, "limit=1000", async || ()).await, stay);
}

async fn a_cursor_goes_on_from_a_node_that_is_gone(server: &TestServer) {
    let ids: Vec<String> = (0..30).map(|i| format!("n{i:02}")).collect();
    register(server, &ids, 0).await;
    let mut gone = 0;
    let seen = read_all(server, "limit=5", async || {
        // The last node of the page, which the cursor names, is gone when the next page is read; n05 is too.
        gone += 5;
        let ids = [format!("n{:02}", gone - 1), format!("n{gone:02}")];
        let answer = server.post("/v1/batch/deregister", json!({ "node_ids": ids })).await;
        assert_eq!(answer.status, 200);
    })
    .await;
    let expected: Vec<String> = ids.into_iter().filter(|id| id != "n05").collect();
    assert_eq!(seen, expected);
}

async fn pages_end_early_rather_than_grow_too_large(server: &TestServer) {
    let ids: Vec<String> = (0..60).map(|i| format!("large-{i:02}")).collect();
    let text = "x".repeat(60 * 1024);
    for id in &ids {
        let body = json!({
            "node_type": "effect", "capabilities": {"x": text}, "endpoints": {"x": text}, "metadata": {"x": text}
        });
        server.register(id, body).await;
    }
    let first = server.get("/v1/nodes?limit=1000").await;
    assert!(first.text.len() <= 4 * 1024 * 1024, "{}", first.text.len());
    let page = first.json();
    assert!(ids_of(&page).len() > 10 && page["next_cursor"].is_string());
    assert_eq!(read_all(server, "limit=1000", async || ()).await, ids);
}
