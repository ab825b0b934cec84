//! A server that stops in the middle of it.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{TestDatabase, TestServer};

/// How many clients register until nobody answers any more.
const CLIENTS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_stop_is_there_on_postgres() {
    let database = TestDatabase::create().await;
    what_was_acknowledged_before_a_stop_is_there(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_stop_is_there_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("registry.db").display());
    what_was_acknowledged_before_a_stop_is_there(&url).await;
}

async fn what_was_acknowledged_before_a_stop_is_there(url: &str) {
    let server = TestServer::start_on(url, &[]).await;
    let address = server.url.clone();
    let http = Arc::new(reqwest::Client::builder().no_proxy().build().unwrap());
    let (first, began) = tokio::sync::watch::channel(0_usize);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (http, address, first) = (Arc::clone(&http), address.clone(), first.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for round in 0.. {
                    let id = format!("n{client:02}-{round:05}");
                    let body = json!({"node_id": id, "node_type": "effect"}).to_string();
                    let request = http.post(format!("{address}/v1/nodes")).body(body);
                    match request.header("content-type", "application/json").send().await {
                        Ok(answer) if answer.status() == 201 => acknowledged.push(id),
                        // It stops. What it doesn't take any more, it says so of.
                        Ok(answer) => assert_eq!(answer.status(), 503),
                        Err(_) => break,
                    }
                    first.send_modify(|count| *count += 1);
                }
                acknowledged
            })
        })
        .collect();
    // All of them are at it.
    let mut began = began;
    began.wait_for(|count| *count >= CLIENTS * 4).await.unwrap();
    server.stop().await;
    let acknowledged: Vec<String> =
        join_all(clients).await.into_iter().flat_map(|client| client.unwrap()).collect();
    assert!(acknowledged.len() >= CLIENTS);

    let server = TestServer::start_on(url, &[]).await;
    let mut there = Vec::new();
    for client in 0..CLIENTS {
        there.extend(server.ids(&format!("node_id_prefix=n{client:02}-&limit=1000")).await);
    }
    for id in &acknowledged {
        assert!(there.contains(id), "{id} was acknowledged");
    }
    server.stop().await;
}
