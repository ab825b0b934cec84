//! Several servers in one URL: the one that takes writes is in use, and after a promotion another one is.

use std::time::Duration;

use serde_json::json;

use super::{put, until_back};
use crate::harness::mortal::MortalCluster;
use crate::harness::{TestServer, sql};

fn several(first: &MortalCluster, second: &MortalCluster) -> String {
    format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", first.port(), second.port())
}

/// The standby has all that the primary has acknowledged.
async fn primary_and_standby() -> (MortalCluster, MortalCluster) {
    let primary = MortalCluster::start();
    let standby = primary.standby();
    let mut owner = primary.connect().await;
    for setting in ["synchronous_standby_names = '*'", "synchronous_commit = on"] {
        sql::run(&mut owner, format!("ALTER SYSTEM SET {setting}")).await;
    }
    sql::run(&mut owner, "SELECT pg_reload_conf()").await;
    let attached = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    sql::eventually("the standby is attached", async || sql::value::<i64>(&mut owner, attached).await == 1)
        .await;
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_that_takes_writes_is_found_whichever_is_named_first() {
    let (primary, standby) = primary_and_standby().await;
    for url in [several(&primary, &standby), several(&standby, &primary)] {
        let server = TestServer::start_on(&url, &["--database-silence=10s"]).await;
        assert!(matches!(put(&server, "a").await.status, 200 | 201));
        assert_eq!(server.get("/v1/nodes/a?consistency=strong").await.status, 200);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_promotion_the_new_primary_is_in_use_and_has_all_that_was_acknowledged() {
    let (mut primary, standby) = primary_and_standby().await;
    let server = TestServer::start_on(&several(&primary, &standby), &["--database-silence=10s"]).await;
    let mut watch = server.watch("").await;
    let mut acknowledged = Vec::new();
    for n in 0..50 {
        let id = format!("n{n:02}");
        assert_eq!(put(&server, &id).await.status, 201);
        acknowledged.push(id);
    }
    primary.die();
    assert_eq!(server.get("/v1/nodes/n00").await.status, 200, "reads go on");
    let mut owner = standby.connect().await;
    let promoted: bool = sql::value(&mut owner, "SELECT pg_promote(true, 60)").await;
    assert!(promoted);
    until_back(&server, "after").await;
    acknowledged.insert(0, "after".to_owned());
    let strong = server.ids("limit=1000&consistency=strong").await;
    assert_eq!(strong, acknowledged);
    assert_eq!(server.ids("limit=1000").await, acknowledged);
    let mut told = Vec::new();
    while told.len() < acknowledged.len() {
        let message = tokio::time::timeout(Duration::from_mins(1), watch.next()).await.unwrap();
        assert_eq!(message.name, "change", "{message:?}");
        if message.data["kind"] == json!("registered") {
            told.push(message.data["node_id"].as_str().unwrap().to_owned());
        }
    }
    told.sort();
    assert_eq!(told, acknowledged, "each is told of once");
    server.stop().await;
}
