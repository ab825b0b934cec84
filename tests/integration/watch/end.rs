//! How a watch ends: by the server that stops, or for a client that reads too slowly.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{EFFECT, metric};
use crate::harness::sql::eventually;
use crate::harness::{Backend, TestServer};

/// Far less than the time that a server gives to requests in flight.
const SOON: Duration = Duration::from_secs(20);

/// A client that watches, and takes nothing for the moment.
fn lazy_client(server: &TestServer) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let address: std::net::SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.write_all(b"GET /v1/watch HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client
}

/// Changes of more bytes than are kept, or than the sockets take.
async fn change_a_lot(server: &TestServer) -> i64 {
    let mut newest = 0;
    for round in 0..5 {
        let filler = "x".repeat(60_000);
        let nodes: Vec<Value> = (0..60)
            .map(|n| {
                json!({
                    "node_id": format!("n{n}"), "node_type": "effect", "endpoints": {"a": filler},
                    "metadata": {"round": round, "filler": filler}, "capabilities": {"filler": filler}
                })
            })
            .collect();
        let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        newest = answer.json()["results"][59]["revision"].as_i64().unwrap();
    }
    newest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_more_slowly_than_changes_come_is_cut_off_and_told() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut client = lazy_client(&server);
    eventually("it watches", async || metric(&server, "watchers").await == 1).await;
    let newest = change_a_lot(&server).await;
    // What has just been written is kept for a moment, however much it is. In the end far fewer are left than were
    // written, and what the sockets have taken is long before them.
    eventually("it is let go", async || metric(&server, "catalog_changes").await < 150).await;
    let read = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut all = Vec::new();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut part = vec![0; 1 << 20];
        // The connection stays open, and the body has an end.
        while !all.ends_with(b"0\r\n\r\n") {
            let bytes = client.read(&mut part).unwrap();
            assert!(bytes > 0, "the body has an end");
            assert!(begun.elapsed() < Duration::from_mins(1), "it is cut off");
            all.extend_from_slice(&part[..bytes]);
        }
        String::from_utf8(all).unwrap()
    });
    let all = read.await.unwrap();
    let ids: Vec<i64> = all.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(ids.len() > 1 && *ids.last().unwrap() < newest, "{ids:?}");
    let first = ids[0];
    assert_eq!(
        ids,
        (first..first + i64::try_from(ids.len()).unwrap()).collect::<Vec<_>>(),
        "no gap until then"
    );
    let (_, end) = all.rsplit_once("event: closing\n").unwrap();
    assert!(end.contains("retry: 1000\n") && end.contains(r#"data: {"reason":"slow_reader"}"#), "{end}");
    assert_eq!(metric(&server, r#"watches_ended_total{reason="slow_reader"}"#).await, 1);
    assert_eq!(metric(&server, "watchers").await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_does_not_hold_up_the_stop() {
    let server = TestServer::start_with(Backend::Sqlite, &["--shutdown-timeout=5m"]).await;
    let client = lazy_client(&server);
    eventually("it watches", async || metric(&server, "watchers").await == 1).await;
    change_a_lot(&server).await;
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_so_to_all_and_is_not_held_up() {
    let server = TestServer::start_with(Backend::Sqlite, &["--shutdown-timeout=5m"]).await;
    server.register("n", EFFECT).await;
    let mut watches = Vec::new();
    for query in ["", "node_type=reducer", "snapshot=true", "after=0"] {
        for _ in 0..10 {
            watches.push((query, server.watch(query).await));
        }
    }
    let begun = Instant::now();
    let reading: Vec<_> = watches
        .into_iter()
        .map(|(query, mut watch)| {
            tokio::spawn(async move {
                let told = watch.rest().await;
                let last = told.last().unwrap();
                assert_eq!(
                    (last.name.as_str(), &last.data),
                    ("closing", &json!({"reason": "shutdown"})),
                    "{query}"
                );
                watch.retry.unwrap()
            })
        })
        .collect();
    server.stop().await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let mut retries = Vec::new();
    for watch in reading {
        retries.push(watch.await.unwrap());
    }
    assert!(retries.iter().all(|retry| (1_000..5_000).contains(retry)), "{retries:?}");
    retries.dedup();
    assert!(retries.len() > 20, "they don't come back all at once: {retries:?}");
}

/// It takes the 15 seconds after which a proxy might give up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_broken_by_a_comment_that_says_how_far_the_server_has_looked() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut watch = server.watch("node_type=reducer").await;
    let mut idle = server.watch("").await;
    let newest = server.register("n", EFFECT).await["revision"].clone();
    assert_eq!(watch.block().await.unwrap(), "retry: 1000\nid: 0\n\n");
    assert_eq!(watch.block().await.unwrap(), format!(":\nid: {newest}\n\n"));
    assert_eq!(idle.next().await.gist(), ("change", "registered", "n"));
    assert_eq!(idle.block().await.unwrap(), ":\n\n", "its id is known already");
    drop((watch, idle));
    server.stop().await;
}

/// What the nodes were before is more than is kept for long. Whoever had read all is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_cuts_off_nobody_who_keeps_up() {
    let server = TestServer::start(Backend::Sqlite).await;
    let filler = json!({"filler": "x".repeat(60_000)});
    let ids: Vec<String> = (0..120).map(|n| format!("n{n:03}")).collect();
    for ids in ids.chunks(40) {
        let node = |id| {
            json!({"node_id": id, "node_type": "effect", "endpoints": filler, "metadata": filler,
                   "capabilities": filler})
        };
        let nodes: Vec<Value> = ids.iter().map(node).collect();
        let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let mut all = server.watch("").await;
    let mut others = server.watch("node_id=unrelated").await;
    // More than 20 MB of nodes.
    let gone = server.post("/v1/batch/deregister", json!({ "node_ids": ids })).await;
    assert_eq!(gone.json()["deregistered"], 120, "{}", gone.text);
    server.register("unrelated", EFFECT).await;
    assert_eq!(others.next().await.gist(), ("change", "registered", "unrelated"));
    for _ in 0..120 {
        let message = all.next().await;
        assert_eq!(message.name, "removed", "{message:?}");
    }
    assert_eq!(all.next().await.gist(), ("change", "registered", "unrelated"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_more_than_there_may_be() {
    let server = TestServer::start_with(Backend::Sqlite, &["--max-watchers=2"]).await;
    let (first, second) = (server.watch("").await, server.watch("").await);
    for path in ["/v1/watch", "/v1/nodes?since=0&wait=1s"] {
        let refused = server.get_once(path).await;
        assert!(refused.problem(503, "unavailable").is_empty());
        assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
    }
    assert_eq!(server.get_once("/v1/nodes").await.status, 200, "who doesn't wait is not counted");
    drop(first);
    eventually("there is room again", async || {
        server.get_once("/v1/nodes?since=0&wait=10ms").await.status == 200
    })
    .await;
    drop(second);
    server.stop().await;
}
