//! HTTP/2: how it is begun, what it bounds, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::get;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::harness::sql::eventually;
use crate::harness::tls::{Authority, Caller, Served, get as ask, large, over_http2, read};
use crate::harness::{Backend, TestServer};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;

fn fine() -> axum::Router {
    axum::Router::new().route("/", get(|| async { "fine" }))
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET / HTTP/2` without a body: fields of the static table (RFC 7541, appendix A).
fn headers(stream: u32) -> Vec<u8> {
    frame(1, 0x5, stream, &[0x82, 0x84, 0x86, 0x41, 1, b'h'])
}

/// Reads frames until the connection ends, and returns kind and payload of each.
async fn frames(client: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    // It may end with a reset.
    let _ = client.read_to_end(&mut bytes).await;
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, ..] = *rest {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(payload) = rest.get(9..9 + length) else { break };
        frames.push((kind, payload.to_vec()));
        rest = &rest[9 + length..];
    }
    frames
}

fn post(path: &str, body: &Value) -> Request<Full<axum::body::Bytes>> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Full::from(body.to_string())).unwrap()
}

/// Reads of a stream until something is in what came.
async fn read_until(response: &mut Response<Incoming>, expected: &str) -> String {
    let mut text = String::new();
    while !text.contains(expected) {
        let frame = tokio::time::timeout(Duration::from_mins(1), response.frame()).await;
        let frame = frame.expect("it comes").unwrap_or_else(|| panic!("no {expected}: {text}")).unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    text
}

#[tokio::test]
async fn it_is_begun_with_prior_knowledge_and_http_1_is_still_spoken() {
    let served = Served::start(fine(), &[]).await;
    let mut sender = over_http2(served.connect().await).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(sender.send_request(ask("/")).await.unwrap()).await, (200, "fine".to_owned()));
    }
    // In the smallest parts, too. The last byte of what begins HTTP/1 may be the first that differs.
    for (begin, expected) in [(&b"GET"[..], "200"), (b"PRI", "404"), (b"P", "404")] {
        let mut client = served.connect().await;
        client.set_nodelay(true).unwrap();
        let rest: &[u8] = if expected == "200" { b" / HTTP/1.1\r\n" } else { b"X /x HTTP/1.1\r\n" };
        for byte in [begin, rest, b"Host: h\r\nConnection: close\r\n\r\n"].concat() {
            client.write_all(&[byte]).await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
    }
    let mut client = served.connect().await;
    client.set_nodelay(true).unwrap();
    for byte in [PREFACE, &NO_SETTINGS, &headers(1), &frame(GOAWAY, 0, 0, &[0; 8])].concat() {
        client.write_all(&[byte]).await.unwrap();
    }
    let frames = frames(&mut client).await;
    assert!(frames.iter().any(|(kind, payload)| (*kind, &payload[..]) == (0, b"fine")), "{frames:?}");
    drop(sender);
    assert!(served.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_spoken_and_watched() {
    let server = TestServer::start(Backend::Sqlite).await;
    let address = server.url.trim_start_matches("http://");
    let mut sender = over_http2(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let mut watch = sender.send_request(ask("/v1/watch?snapshot=true")).await.unwrap();
    assert_eq!(watch.headers()["content-type"], "text/event-stream");
    read_until(&mut watch, "event: synced").await;
    // A hundred requests at once, on the same connection.
    let registering = (0..100).map(|number| {
        let body = json!({"node_id": format!("n{number}"), "node_type": "effect"});
        sender.send_request(post("/v1/nodes", &body))
    });
    for answer in futures_util::future::join_all(registering).await {
        assert_eq!(answer.unwrap().status(), 201);
    }
    let mut told = String::new();
    for number in 0..100 {
        let id = format!("\"node_id\":\"n{number}\"");
        if !told.contains(&id) {
            told += &read_until(&mut watch, &id).await;
        }
    }
    let metrics = async || server.get("/metrics").await.text;
    assert!(metrics().await.contains("onex_registry_watchers 1\n"));
    // Whoever takes a request back is seen to be gone, though the connection stays.
    drop(watch);
    eventually("the watch ends", async || metrics().await.contains("onex_registry_watchers 0\n")).await;
    let mut watch = sender.send_request(ask("/v1/watch")).await.unwrap();
    let page = read(sender.send_request(ask("/v1/nodes?limit=1000")).await.unwrap()).await;
    assert_eq!(serde_json::from_str::<Value>(&page.1).unwrap()["nodes"].as_array().unwrap().len(), 100);
    let stopping = tokio::spawn(server.stop());
    assert!(read_until(&mut watch, "event: closing").await.contains("shutdown"));
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_request() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [cert, key] = authority.server().write(folder.path());
    for tls in [&[][..], &[cert.as_str(), key.as_str()]] {
        let (begun, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, awaited) = (Arc::clone(&begun), Arc::clone(&leave));
        let slow = move || async move {
            counted.fetch_add(1, Ordering::SeqCst);
            awaited.acquire().await.unwrap().forget();
            large(200_000)
        };
        let served = Served::start(axum::Router::new().route("/", get(slow)), tls).await;
        let mut senders = Vec::new();
        for _ in 0..3 {
            senders.push(if tls.is_empty() {
                over_http2(served.connect().await).await.unwrap()
            } else {
                let stream = Caller::trusting(&authority).connect(served.address).await.unwrap();
                over_http2(stream).await.unwrap()
            });
        }
        let asking: Vec<_> = senders
            .iter_mut()
            .flat_map(|sender| {
                (0..20).map(|_| tokio::spawn(sender.send_request(ask("/")))).collect::<Vec<_>>()
            })
            .collect();
        eventually("all are under way", async || begun.load(Ordering::SeqCst) == 60).await;
        served.begin_stop();
        eventually("no more are taken", async || {
            TcpStream::connect(served.address).await.is_err()
                && senders[0].send_request(ask("/")).await.is_err()
        })
        .await;
        leave.add_permits(60);
        for answer in asking {
            let (status, body) = read(answer.await.unwrap().expect("it is answered")).await;
            assert_eq!((status, body.len()), (200, 200_000));
        }
        assert!(served.stop().await, "none was cut off");
        assert_eq!(begun.load(Ordering::SeqCst), 60);
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_at_the_stop_is_known_to_be_cut_off() {
    let router = axum::Router::new().route("/", get(std::future::pending::<()>));
    let served = Served::start(router, &["--shutdown-timeout=200ms"]).await;
    let mut sender = over_http2(served.connect().await).await.unwrap();
    let asking = tokio::spawn(sender.send_request(ask("/")));
    let fine = sender.send_request(ask("/nothing")).await.unwrap();
    assert_eq!(fine.status(), 404, "the server has had time to take the first one in");
    assert!(!served.stop().await);
    assert!(asking.await.unwrap().is_err());
}

#[tokio::test]
async fn who_asks_and_takes_back_without_end_is_cut_off() {
    let served = Served::start(fine(), &[]).await;
    let mut client = served.connect().await;
    let mut flood = [PREFACE, &NO_SETTINGS].concat();
    for number in 0..2_000 {
        let stream = 2 * number + 1;
        flood.extend(headers(stream));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let _ = client.write_all(&flood).await;
    let frames = frames(&mut client).await;
    let goaway = frames.iter().find(|(kind, _)| *kind == GOAWAY).expect("it is told");
    assert_eq!(goaway.1[7], ENHANCE_YOUR_CALM, "{frames:?}");
    assert!(served.stop().await);
}

#[tokio::test]
async fn requests_at_once_and_heads_are_bounded() {
    let router = fine().route("/wait", get(std::future::pending::<()>));
    let served = Served::start(router, &["--shutdown-timeout=200ms"]).await;
    let mut client = served.connect().await;
    let mut settings = [PREFACE, &NO_SETTINGS, &frame(GOAWAY, 0, 0, &[0; 8])].concat();
    settings.extend(frame(4, 1, 0, &[]));
    client.write_all(&settings).await.unwrap();
    let frames = frames(&mut client).await;
    let told: Vec<(u16, u32)> = frames[0]
        .1
        .chunks(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
        .collect();
    assert!(told.contains(&(3, 256)) && told.contains(&(6, 64 * 1024)), "{told:?}");

    let mut sender = over_http2(served.connect().await).await.unwrap();
    let mut long = ask("/");
    long.headers_mut().insert("x-long", "x".repeat(70_000).parse().unwrap());
    let answer = sender.send_request(long).await;
    assert!(answer.map_or(true, |answer| answer.status() == 431));
    assert_eq!(sender.send_request(ask("/")).await.unwrap().status(), 200);
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answer_is_cut_off() {
    let router = axum::Router::new().route("/", get(|| async { large(1_000_000) }));
    let served = Served::start(router, &[]).await;
    let mut client = served.connect().await;
    // A window of 0: the client never gives leave to send anything. It reads, and would answer.
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    client.write_all(&[PREFACE, &no_window, &headers(1), &headers(3)].concat()).await.unwrap();
    let begun = tokio::time::Instant::now();
    frames(&mut client).await;
    let took = begun.elapsed().as_secs();
    assert!((30..=40).contains(&took), "{took}");
    assert!(served.stop().await);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let served = Served::start(fine(), &[]).await;
    let mut client = served.connect().await;
    client.write_all(&[PREFACE, &NO_SETTINGS, &headers(1)].concat()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let frames = frames(&mut client).await;
    // It answers no ping.
    let took = begun.elapsed().as_secs();
    assert!((40..=45).contains(&took), "{took}");
    assert!(frames.iter().any(|(kind, _)| *kind == GOAWAY), "{frames:?}");

    let mut sender = over_http2(served.connect().await).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(sender.send_request(ask("/")).await.unwrap().status(), 200);
    eventually("it is closed", async || sender.ready().await.is_err() || sender.is_closed()).await;
    let took = begun.elapsed().as_secs();
    assert!((60..=90).contains(&took), "{took}");
    assert!(served.stop().await);
}
