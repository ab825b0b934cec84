//! Nobody listens where the database was.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::{STALE, put, start, until_back, until_open};
use crate::harness::sql;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_and_say_how_old_they_are() {
    let (mut cluster, server) = start().await;
    assert_eq!(put(&server, "a").await.status, 201);
    assert_eq!(server.get("/v1/nodes/a").await.header(STALE), None);
    cluster.die();
    let reads = ["/v1/nodes", "/v1/nodes/a", "/v1/nodes/missing", "/v1/summary"];
    sql::eventually("it is said", async || {
        let page = server.get("/v1/nodes").await;
        assert_eq!(page.json()["nodes"][0]["node_id"], "a");
        page.header(STALE).is_some()
    })
    .await;
    for path in reads {
        let answer = server.get(path).await;
        assert_eq!(answer.status, if path.ends_with("missing") { 404 } else { 200 }, "{path}");
        assert!(answer.stale_seconds() >= Some(3), "{path}");
    }
    assert!(server.get("/v1/nodes/a").await.stale_seconds() < Some(60));
    let tag = server.get("/v1/nodes/a").await.header("etag").unwrap().to_owned();
    let headers = [("if-none-match", tag.as_str())];
    let unchanged = server.send(reqwest::Method::GET, "/v1/nodes/a", "", &headers).await;
    assert_eq!((unchanged.status, unchanged.header(STALE).is_some()), (304, true));
    let watch = server.watch("").await;
    assert!(watch.headers.contains_key(STALE));
    drop(watch);
    cluster.come_back();
    until_back(&server, "a").await;
    for path in reads {
        assert_eq!(server.get(path).await.header(STALE), None, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_the_database_is_refused_and_all_is_well_when_it_is_back() {
    let (mut cluster, server) = start().await;
    assert_eq!(put(&server, "a").await.status, 201);
    cluster.die();
    until_open(&server).await;
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200, "reads are served");
    let ready = ready.json();
    assert_eq!((&ready["status"], &ready["catalog"]), (&json!("degraded"), &json!("loaded")));
    assert!(!ready["problems"].as_array().unwrap().is_empty(), "{ready}");
    assert_eq!(server.get("/livez").await.status, 200);

    let begun = Instant::now();
    for path in ["/v1/nodes?consistency=strong", "/v1/nodes/a?consistency=strong", "/v1/events"] {
        server.get(path).await.problem_of_an_outage();
    }
    put(&server, "b").await.problem_of_an_outage();
    server.post("/v1/nodes/a/heartbeat", "").await.problem_of_an_outage();
    server.delete("/v1/nodes/a").await.problem_of_an_outage();
    server.put("/v1/nodes/a/maintenance", json!({"reason": "a disk"})).await.problem_of_an_outage();
    let ids = json!({"node_ids": ["a"]});
    server.post("/v1/batch/heartbeats", &ids).await.problem_of_an_outage();
    let batch = json!({"nodes": [{"node_id": "c", "node_type": "effect"}]});
    server.post("/v1/batch/nodes", batch).await.problem_of_an_outage();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // Some of them have tried whether it is back.
    let metrics = server.get("/metrics").await.text;
    let value = |name: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        line.trim().parse::<f64>().unwrap()
    };
    assert!(value("onex_registry_database_breaker_opened_total ") >= 1.0);
    assert!(value("onex_registry_database_calls_failed_total ") >= 3.0);
    assert!(value("onex_registry_database_calls_refused_total ") >= 1.0);
    assert!(value("onex_registry_database_breaker{phase=\"closed\"} ") < 0.5);
    assert!(value("onex_registry_catalog_stale_seconds ") > 0.0);

    cluster.come_back();
    // Nobody asks: what follows the changes finds it out.
    sql::eventually("it is closed", async || server.get("/readyz").await.json()["breaker"] == "closed").await;
    until_back(&server, "b").await;
    assert_eq!(server.get("/v1/nodes?consistency=strong").await.status, 200);
    assert_eq!(server.ids("").await, ["a", "b"], "what was refused was not done");
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("\nonex_registry_database_breaker{phase=\"closed\"} 1\n"), "{metrics}");
    server.stop().await;
}

/// What another hand has written in the meantime, and what the statuses are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn living_nodes_stay_healthy_and_what_others_did_meanwhile_is_read() {
    let cluster = crate::harness::mortal::MortalCluster::start();
    let arguments: Vec<&str> =
        super::SOON.iter().copied().chain(["--ttl=2s", "--probe-interval=0"]).collect();
    let server = crate::harness::TestServer::start_on(&cluster.url(), &arguments).await;
    let mut cluster = cluster;
    server.register("a", json!({"node_type": "effect"})).await;
    assert_eq!(server.post("/v1/nodes/a/heartbeat", "").await.status, 200);
    cluster.die();
    until_open(&server).await;
    sql::eventually("it has been away for longer than the TTL", async || {
        let answer = server.get("/v1/nodes/a").await;
        assert_eq!(answer.json()["status"], "healthy", "time stands still");
        answer.stale_seconds() > Some(4)
    })
    .await;
    cluster.come_back();
    let mut plain = cluster.connect().await;
    sql::upsert(&mut plain, "by_sql", "effect", "{}").await.unwrap();
    sql::eventually("it is read", async || {
        let answer = server.get("/v1/nodes/a").await;
        // Those that live have a TTL from now on to say so.
        assert_eq!(answer.json()["status"], "healthy");
        answer.stale_seconds().is_none()
    })
    .await;
    sql::eventually("what others wrote is there", async || server.ids("").await == ["a", "by_sql"]).await;
    sql::eventually("time goes on", async || server.get("/v1/nodes/a").await.json()["status"] == "stale")
        .await;
    until_back(&server, "a").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_write_meanwhile_are_answered_and_none_is_written_twice() {
    let (mut cluster, server) = start().await;
    let write = |round: usize, n: usize| {
        let server = &server;
        async move {
            server
                .put(&format!("/v1/nodes/n{n}"), json!({"node_type": "effect", "metadata": {"round": round}}))
                .await
        }
    };
    for answer in join_all((0..200).map(|n| write(0, n))).await {
        assert_eq!(answer.status, 201);
    }
    cluster.die();
    let begun = Instant::now();
    for answer in join_all((0..200).map(|n| write(1, n))).await {
        answer.problem_of_an_outage();
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    cluster.come_back();
    until_back(&server, "n0").await;
    for answer in join_all((0..200).map(|n| write(2, n))).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let mut owner = cluster.connect().await;
    let most: i64 = sql::value(
        &mut owner,
        "SELECT max(updates) FROM (SELECT count(*) AS updates FROM node_events WHERE kind = 'updated' AND node_id <> 'n0'
          GROUP BY node_id) AS counted",
    )
    .await;
    assert_eq!(most, 1, "what was refused is not written later");
    server.stop().await;
}
