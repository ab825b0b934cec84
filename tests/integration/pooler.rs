//! A pooler in transaction mode between the servers and the database: nothing of a session lasts, and LISTEN hears
//! nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::pooler::Pooler;
use crate::harness::{TestDatabase, TestServer, node, sql};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_behind_a_pooler_serve_and_agree() {
    let database = TestDatabase::create().await;
    let pooler = Pooler::start(&database, 4).await;
    let one = Arc::new(TestServer::start_on(&pooler.url(), &[]).await);
    let other = Arc::new(TestServer::start_on(&pooler.url(), &[]).await);

    let client = async |number: usize| {
        let server = if number.is_multiple_of(2) { &one } else { &other };
        for turn in 0..40 {
            let id = format!("node-{number}-{}", turn % 4);
            let body = json!({"node_type": "effect", "metadata": {"turn": turn}});
            server.register(&id, body).await;
            let beat = server.post(&format!("{}/heartbeat", node(&id)), "").await;
            assert_eq!(beat.status, 200, "{}", beat.text);
            let mine = server.get_once(&node(&id)).await;
            assert_eq!((mine.status, &mine.json()["metadata"]["turn"]), (200, &json!(turn)), "{}", mine.text);
        }
    };
    join_all((0..12).map(client)).await;
    // What each has from the other, by looking for it, is what the table has.
    for server in [&one, &other] {
        assert_eq!(server.get("/v1/nodes?limit=1000").await.json()["nodes"].as_array().unwrap().len(), 48);
    }
    // And what another program writes past the pooler.
    sql::upsert(&mut database.connect().await, "foreign", "reducer", "{}").await.unwrap();
    sql::eventually("it is seen", async || one.get_once(&node("foreign")).await.status == 200).await;
    for server in [one, other] {
        Arc::into_inner(server).unwrap().stop().await;
    }
}
