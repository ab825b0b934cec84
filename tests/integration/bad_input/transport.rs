//! Bodies that come in the wrong way: of the wrong type, too large, too slowly.

use reqwest::Method;
use serde_json::json;

use super::{VICTIM, register_victim};
use crate::harness::{Answer, Backend, TestServer};

on_both_stores!(
    a_body_must_be_sent_as_json_in_utf_8,
    a_body_must_not_be_encoded,
    a_body_of_two_mebibytes_is_read_and_a_larger_one_is_not,
    a_batch_may_have_sixteen_mebibytes,
);

const GOOD: &str = r#"{"node_type":"effect"}"#;

async fn a_body_must_be_sent_as_json_in_utf_8(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for path in ["/v1/nodes", "/v1/batch/nodes", "/v1/batch/deregister", "/v1/batch/heartbeats"] {
        let untyped = Answer::of(server.request(Method::POST, path).body(GOOD)).await;
        untyped.problem(415, "unsupported-media-type");
    }
    for media_type in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json; charset=latin1",
        "multipart/form-data; boundary=x",
        "\u{e9}",
    ] {
        let request = server.request(Method::PUT, VICTIM).header("content-type", media_type).body(GOOD);
        let answer = Answer::of(request).await;
        assert!(answer.problem(415, "unsupported-media-type").is_empty(), "{media_type}");
    }
    assert_eq!(server.everything().await, before);
    for media_type in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.onex+json"] {
        let request = server.request(Method::PUT, VICTIM).header("content-type", media_type).body(GOOD);
        assert_eq!(Answer::of(request).await.status, 200, "{media_type}");
    }
}

async fn a_body_must_not_be_encoded(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for encoding in ["gzip", "br", "identity", "deflate, gzip", "x"] {
        let answer = server.send(Method::PUT, VICTIM, GOOD, &[("content-encoding", encoding)]).await;
        answer.problem(415, "unsupported-media-type");
    }
    assert_eq!(server.everything().await, before);
}

/// A registration of exactly so many bytes, most of them blanks.
fn sized(bytes: usize) -> String {
    format!("{}{}", GOOD, " ".repeat(bytes - GOOD.len()))
}

async fn a_body_of_two_mebibytes_is_read_and_a_larger_one_is_not(server: &TestServer) {
    const LIMIT: usize = 2 * 1024 * 1024;
    register_victim(server).await;
    let before = server.everything().await;
    for bytes in [LIMIT + 1, 3 * 1024 * 1024] {
        let body = sized(bytes);
        for path in ["/v1/nodes", "/v1/batch/deregister"] {
            server.post(path, &body).await.problem(413, "body-too-large");
        }
        for path in [VICTIM, "/v1/nodes/victim/maintenance"] {
            server.put(path, &body).await.problem(413, "body-too-large");
        }

        let chunks: Vec<u8> = body
            .as_bytes()
            .chunks(60_000)
            .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
            .chain(*b"0\r\n\r\n")
            .collect();
        let fields = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
        server.raw(&format!("PUT {VICTIM}"), &fields, &chunks).await.problem(413, "body-too-large");
    }
    assert_eq!(server.everything().await, before);
    assert_eq!(server.put("/v1/nodes/exact", sized(LIMIT)).await.status, 201);
}

async fn a_batch_may_have_sixteen_mebibytes(server: &TestServer) {
    const LIMIT: usize = 16 * 1024 * 1024;
    let sized = |bytes: usize| {
        let batch = json!({"nodes": [{"node_id": "n", "node_type": "effect"}]}).to_string();
        format!("{batch}{}", " ".repeat(bytes - batch.len()))
    };
    server.post("/v1/batch/nodes", sized(LIMIT + 1)).await.problem(413, "body-too-large");
    assert!(server.ids("").await.is_empty());
    assert_eq!(server.post("/v1/batch/nodes", sized(LIMIT)).await.status, 200);
    assert_eq!(server.ids("").await, ["n"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_too_slowly_is_given_up() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let server = TestServer::start_with(backend, &["--body-timeout=200ms"]).await;
        for fields in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            // The server closes the connection, on which the rest of the body may yet arrive.
            let request = format!(
                "PUT {VICTIM} HTTP/1.1\r\nHost: registry\r\nContent-Type: application/json\r\n{fields}\r\n\r\n"
            );
            let answer = server.bytes(request.into_bytes()).await;
            answer.problem(408, "request-timeout");
            assert_eq!(answer.header("connection"), Some("close"));
        }
        assert!(server.ids("").await.is_empty());
        server.stop().await;
    }
}
