//! How fresh a read is: as fresh as it was asked to be, or refused.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::harness::sql::eventually;
use crate::harness::{Answer, Backend, TestServer, ids_of, node};

on_both_stores!(
    a_revision_that_is_there_is_not_waited_for,
    a_revision_that_comes_is_waited_for,
    a_revision_that_does_not_come_is_waited_for_no_longer_than_is_said,
    a_revision_is_a_number,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;
const PATHS: [&str; 2] = ["/v1/nodes", "/v1/nodes/n"];

async fn a_revision_that_is_there_is_not_waited_for(server: &TestServer) {
    let revision = server.register("n", EFFECT).await["revision"].as_i64().unwrap();
    for path in PATHS {
        for consistency in ["", "&consistency=strong"] {
            for wanted in [0, 1, revision] {
                let answer = server.get(&format!("{path}?min_revision={wanted}{consistency}")).await;
                assert_eq!(answer.status, 200, "{path} {wanted}: {}", answer.text);
                let seen: i64 = answer.header("registry-revision").unwrap().parse().unwrap();
                assert!(seen >= revision);
            }
        }
    }
    let missing = server.get(&format!("{}?min_revision={revision}", node("nobody"))).await;
    missing.problem(404, "node-not-found");
}

async fn a_revision_that_comes_is_waited_for(server: &TestServer) {
    let revision = server.register("n", EFFECT).await["revision"].as_i64().unwrap();
    let next = revision + 1;
    let mut asked = Vec::new();
    for query in [format!("min_revision={next}"), format!("min_revision={next}&consistency=strong")] {
        for path in PATHS {
            asked.push(tokio::spawn(Answer::of(server.request(Method::GET, &format!("{path}?{query}")))));
        }
    }
    // They are under way by then, or come later: both must be right.
    assert_eq!(server.get("/livez").await.status, 200);
    let registered = server.register("m", EFFECT).await["revision"].as_i64().unwrap();
    assert_eq!(registered, next);
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.header("registry-revision").unwrap().parse::<i64>().unwrap() >= next);
        if answer.json().get("nodes").is_some() {
            assert_eq!(ids_of(&answer.json()), ["m", "n"]);
        }
    }
}

async fn a_revision_that_does_not_come_is_waited_for_no_longer_than_is_said(server: &TestServer) {
    server.register("n", EFFECT).await;
    let begun = Instant::now();
    let ask = |query: &str| {
        let path = format!("/v1/nodes?min_revision={query}");
        tokio::spawn(Answer::of(server.request(Method::GET, &path)))
    };
    let asked = [ask("1000"), ask("9223372036854775807"), ask("1000&consistency=strong")];
    for answer in asked {
        let answer = answer.await.unwrap();
        assert!(answer.problem(503, "unavailable").is_empty());
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(20)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

async fn a_revision_is_a_number(server: &TestServer) {
    for path in PATHS {
        for absurd in ["", "-1", "+1", "x", "1.0", "9223372036854775808"] {
            let refused = server.get(&format!("{path}?min_revision={absurd}")).await;
            assert_eq!(refused.problem(400, "invalid-request"), ["?min_revision"], "{path} {absurd}");
        }
        let refused = server.get(&format!("{path}?min_revision=1&min_revision=1&consistency=weak")).await;
        assert_eq!(refused.problem(400, "invalid-request"), ["?min_revision", "?consistency"]);
    }
}

/// What one replica has written, another has read when it is asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_at_one_replica_is_seen_at_another_by_its_revision() {
    let server = TestServer::start(Backend::Postgres).await;
    let replica = TestServer::start_on(&server.database.as_ref().unwrap().url(), &[]).await;
    for round in 0..50 {
        let body = format!(r#"{{"node_type":"effect","metadata":{{"round":{round}}}}}"#);
        let written = server.register("n", body).await;
        let read = replica.get(&format!("/v1/nodes/n?min_revision={}", written["revision"])).await;
        assert_eq!(read.json()["metadata"]["round"], round);
    }
    replica.stop().await;
    server.stop().await;
}

/// The sign of life that a replica took is known to another before two seconds have passed, whatever else happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_at_one_replica_is_known_at_another_within_two_seconds() {
    const KNOWN_WITHIN: Duration = Duration::from_secs(2);
    let server = TestServer::start(Backend::Postgres).await;
    let replica = TestServer::start_on(&server.database.as_ref().unwrap().url(), &[]).await;
    let registered = server.register("n", EFFECT).await;
    assert_eq!(
        replica.get(&format!("/v1/nodes/n?min_revision={}", registered["revision"])).await.status,
        200
    );
    for _ in 0..4 {
        let beaten = server.post("/v1/nodes/n/heartbeat", "").await.json();
        let begun = Instant::now();
        // Asked for once, from memory: nobody makes it look.
        eventually("it is known", async || {
            let known =
                replica.get_once("/v1/nodes/n").await.json()["last_heartbeat"] == beaten["last_heartbeat"];
            assert!(known || begun.elapsed() < KNOWN_WITHIN, "{beaten}");
            known
        })
        .await;
    }
    replica.stop().await;
    server.stop().await;
}

/// Nodes that are seen alive at one replica are stale at none, for several times their TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_alive_at_one_replica_is_stale_at_none() {
    const TTL: Duration = Duration::from_secs(2);
    let server = TestServer::start_with(Backend::Postgres, &["--ttl=2s"]).await;
    let replica = TestServer::start_on(&server.database.as_ref().unwrap().url(), &["--ttl=2s"]).await;
    let registered = server.put("/v1/nodes/n?alive=true", EFFECT).await.json();
    let known = replica.get(&format!("/v1/nodes/n?min_revision={}", registered["revision"])).await;
    assert_eq!(known.status, 200);
    let (begun, mut last) = (Instant::now(), Instant::now());
    while begun.elapsed() < 3 * TTL {
        let was = std::mem::replace(&mut last, Instant::now());
        assert_eq!(server.post("/v1/nodes/n/heartbeat", "").await.status, 200);
        // On a machine that stands still, it would have been stale in truth.
        let is_in_time = was.elapsed() < TTL / 2;
        let (stale, one) =
            (replica.get_once("/v1/nodes?status=stale").await, replica.get_once("/v1/nodes/n").await);
        if is_in_time {
            assert_eq!(ids_of(&stale.json()), [""; 0]);
            assert_eq!(one.json()["status"], "healthy", "{}", one.text);
        }
    }
    let events = server.get("/v1/events?kind=stale").await.json();
    assert_eq!(events["events"], serde_json::json!([]));
    replica.stop().await;
    server.stop().await;
}
