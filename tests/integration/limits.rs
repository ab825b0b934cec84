//! What clients may take: connections, time for heads, requests per second; and what pages may load.

use std::time::Duration;

use axum::routing::get;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::keys::KeyFile;
use crate::harness::sql::eventually;
use crate::harness::tls::{Authority, Caller, Served};
use crate::harness::{Answer, Backend, TestServer};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn fine() -> axum::Router {
    axum::Router::new().route("/", get(|| async { "fine" }))
}

/// Sends a request and reads what comes, until the connection ends or it is the answer of [`fine`].
async fn exchange(client: &mut TcpStream) -> String {
    let _ = client.write_all(REQUEST).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"fine") && client.read_buf(&mut answer).await.unwrap_or_default() > 0 {}
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_until_one_ends() {
    let served = Served::start(fine(), &["--max-connections=2"]).await;
    let (mut first, mut second) = (served.connect().await, served.connect().await);
    assert!(exchange(&mut first).await.starts_with("HTTP/1.1 200"));
    assert!(exchange(&mut second).await.starts_with("HTTP/1.1 200"));
    assert_eq!(served.metric("http_connections"), Some(2.0));
    // More than are waited for.
    for _ in 0..100 {
        let answer = exchange(&mut served.connect().await).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("retry-after: 1\r\n") && head.contains("connection: close"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["type"], &problem["status"]), (&"/problems/unavailable".into(), &503.into()));
    }
    assert_eq!(served.metric("http_connections_refused_total{reason=\"full\"}"), Some(100.0));
    assert!(exchange(&mut first).await.starts_with("HTTP/1.1 200"), "who is inside is served");
    drop(second);
    eventually("there is room again", async || {
        exchange(&mut served.connect().await).await.starts_with("HTTP/1.1 200")
    })
    .await;
    assert!(served.stop().await);
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may() {
    let served = Served::start(fine(), &["--max-connections-per-address=1"]).await;
    let mut first = served.connect().await;
    assert!(exchange(&mut first).await.starts_with("HTTP/1.1 200"));
    let answer = exchange(&mut served.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert_eq!(served.metric("http_connections_refused_total{reason=\"address\"}"), Some(1.0));
    // Another address of this machine.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    if other.bind("127.0.0.2:0".parse().unwrap()).is_ok() {
        let mut other = other.connect(served.address).await.unwrap();
        assert!(exchange(&mut other).await.starts_with("HTTP/1.1 200"));
    }
    assert!(served.stop().await);
}

#[tokio::test]
async fn within_tls_one_too_many_is_hung_up_on() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [cert, key] = authority.server().write(folder.path());
    let served = Served::start(fine(), &[&cert, &key, "--max-connections=1"]).await;
    let caller = Caller::trusting(&authority);
    let inside = caller.connect(served.address).await.unwrap();
    assert!(caller.connect(served.address).await.is_err());
    drop(inside);
    eventually("there is room again", async || caller.get(served.address, "/").await.is_ok()).await;
    assert!(served.stop().await);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_given_up() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [cert, key] = authority.server().write(folder.path());
    let plain = Served::start(fine(), &[]).await;
    let secure = Served::start(fine(), &[&cert, &key]).await;
    let caller = Caller { alpn: &["http/1.1"], ..Caller::trusting(&authority) };
    let dripping = async |mut client: Box<dyn Stream>| {
        // The first request is fine, and so is a pause before the next.
        client.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"fine") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        let begun = tokio::time::Instant::now();
        let mut drops = tokio::time::interval(Duration::from_millis(500));
        for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            drops.tick().await;
            if client.write_all(&[*byte]).await.is_err() || client.flush().await.is_err() {
                break;
            }
        }
        begun.elapsed().as_secs()
    };
    let took = dripping(Box::new(plain.connect().await)).await;
    assert!((10..=12).contains(&took), "{took}");
    let took = dripping(Box::new(caller.connect(secure.address).await.unwrap())).await;
    assert!((10..=12).contains(&took), "{took}");

    // Who begins with what may become HTTP/2 has no more time, and who sends nothing has that of an idle connection.
    for (begin, from, to) in [(&b"PRI"[..], 10, 86), (b"G", 10, 12), (b"", 75, 86)] {
        let mut client = plain.connect().await;
        client.write_all(begin).await.unwrap();
        let begun = tokio::time::Instant::now();
        let _ = client.read_to_end(&mut Vec::new()).await;
        let took = begun.elapsed().as_secs();
        assert!((from..=to).contains(&took), "{begin:?}: {took}");
    }
    assert!(plain.stop().await && secure.stop().await);
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for S {}

#[tokio::test]
async fn a_head_is_bounded_in_size_and_in_fields() {
    let served = Served::start(fine(), &[]).await;
    let status = async |head: String| {
        let mut client = served.connect().await;
        let _ = client.write_all(head.as_bytes()).await;
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer).await;
        answer.split(' ').nth(1).map(str::to_owned)
    };
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n");
    assert_eq!(status(head(&format!("X: {}\r\n", "x".repeat(32_000)))).await.as_deref(), Some("200"));
    assert_eq!(status(head(&"X: x\r\n".repeat(98))).await.as_deref(), Some("200"));
    assert_eq!(status(head(&"X: x\r\n".repeat(99))).await.as_deref(), Some("431"));
    let too_large = status(head(&format!("X: {}\r\n", "x".repeat(200_000)))).await;
    assert!(too_large.is_none_or(|status| status == "431"));
    assert!(served.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_many_requests_is_told_when_to_come_back() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let arguments = ["--rate-limit=1", "--rate-burst=5", "--cors-origins=https://pages.example"];
        let server = TestServer::start_with(backend, &arguments).await;
        let ask = async |path: &str| {
            Answer::of(server.request(Method::GET, path).header("origin", "https://pages.example")).await
        };
        let mut turned_away = 0;
        for _ in 0..50 {
            let answer = ask("/v1/nodes").await;
            if answer.status != 200 {
                answer.problem(429, "too-many-requests");
                assert_eq!(answer.header("retry-after"), Some("1"));
                let readable = answer.header("access-control-allow-origin");
                assert_eq!(readable, Some("https://pages.example"), "a page may read that it is refused");
                turned_away += 1;
            }
        }
        assert!(turned_away > 0, "50 requests took 45 seconds?");
        for path in ["/livez", "/readyz"] {
            for _ in 0..20 {
                assert_eq!(ask(path).await.status, 200, "{path}");
            }
        }
        // Pages, unknown paths and refused methods count, too.
        let mut text = String::new();
        eventually("there is leave again", async || {
            let answer = ask("/metrics").await;
            text = answer.text;
            answer.status == 200
        })
        .await;
        let counted = text
            .lines()
            .find_map(|line| line.strip_prefix("onex_registry_http_requests_rate_limited_total "));
        assert!(counted.unwrap().parse::<f64>().unwrap() >= f64::from(turned_away), "{counted:?}");
        server.stop().await;
    }
}

/// Each key has its own count, and what comes without a valid one is counted for its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_counted_each_for_itself() {
    let keys = KeyFile::usual();
    let server = keys.serve(Backend::Sqlite, &["--rate-limit=1", "--rate-burst=5"]).await;
    let mut turned_away = false;
    for _ in 0..50 {
        let answer = server.get_as("writer", "/v1/nodes").await;
        turned_away |= answer.status == 429;
    }
    assert!(turned_away, "50 requests took 45 seconds?");
    assert_eq!(server.get_as("reader", "/v1/nodes").await.status, 200, "another key");
    let mut turned_away = false;
    for n in 0..50 {
        let answer = server.get_as(&format!("guess{n}"), "/v1/nodes").await;
        assert!(matches!(answer.status, 401 | 429), "{}", answer.text);
        turned_away |= answer.status == 429;
    }
    assert!(turned_away, "who tries keys is slowed down");
    assert_eq!(server.get_as("admin", "/v1/nodes").await.status, 200, "from the same address");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_load_nothing_from_elsewhere_and_nobody_frames_them() {
    let server = TestServer::start(Backend::Sqlite).await;
    for path in [
        "/",
        "/dashboard/app.js",
        "/swagger-ui/",
        "/swagger-ui/index.html",
        "/swagger-ui/swagger-initializer.js",
    ] {
        let page = server.get(path).await;
        assert_eq!(page.status, 200);
        let policy = page.header("content-security-policy").expect(path);
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        for lax in ["unsafe", "http:", "https:", "*"] {
            assert!(!policy.contains(lax), "{policy}");
        }
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        // What is in the page itself would be refused by that policy.
        if path.ends_with('/') {
            for inline in ["<style", " style=", " onload=", "javascript:", "//"] {
                assert!(!page.text.contains(inline), "{inline}: {}", page.text);
            }
            for script in page.text.split("<script").skip(1) {
                let (tag, rest) = script.split_once('>').unwrap();
                assert!(tag.contains("src=\"./") && rest.trim_start().starts_with("</script>"), "{script}");
            }
        }
    }
    for path in [
        "/swagger-ui/",
        "/v1/nodes",
        "/nothing",
        "/swagger-ui/nothing",
        "/livez",
        "/metrics",
        "/openapi.json",
    ] {
        assert_eq!(server.get_once(path).await.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    for path in ["/livez", "/readyz", "/nothing", "/v1/nodes/nobody", "/v1/nodes?colour=red"] {
        assert_eq!(server.get_once(path).await.header("cache-control"), Some("no-store"), "{path}");
    }
    server.stop().await;
}
