//! API keys: who is let in, and what is said to those who aren't.

mod changes;
mod ownership;
mod program;

use onex_registry::http::openapi::document_json;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::keys::{KeyFile, entry, secret};
use crate::harness::{Answer, Backend, node};

const EFFECT: &str = r#"{"node_type":"effect"}"#;
const PLAIN: &str = r#"Bearer realm="onex-registry""#;
const INVALID_TOKEN: &str = r#"Bearer realm="onex-registry", error="invalid_token""#;
const INVALID_REQUEST: &str = r#"Bearer realm="onex-registry", error="invalid_request""#;

/// The calls of the document: method, path without parameters, and the role that it says is needed.
fn calls() -> Vec<(Method, String, Option<String>)> {
    let document: Value = serde_json::from_str(document_json()).unwrap();
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().expect("each call says what it needs");
            let role = security.first().map(|needed| needed["key"][0].as_str().unwrap().to_owned());
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            calls.push((method, path.replace("{node_id}", "billing-1"), role));
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_needs_a_key_but_those_that_say_otherwise() {
    let server = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    let mut open = Vec::new();
    for (method, path, role) in calls() {
        let answer = server.ask_as(None, method.clone(), &path, "{").await;
        if role.is_none() {
            assert_eq!(answer.status, 200, "{method} {path}");
            open.push(path);
            continue;
        }
        assert!(answer.problem(401, "unauthorized").is_empty(), "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some(PLAIN), "{method} {path}");
    }
    assert_eq!(open, ["/livez", "/openapi.json", "/readyz"]);
    // What is not in the document, and what there isn't.
    for path in [
        "/swagger-ui",
        "/swagger-ui/",
        "/swagger-ui/swagger-ui.css",
        "/swagger-ui/nothing",
        "/v1/nodes/",
        "/v1/nodes//heartbeat",
        "/v1/nodes//maintenance",
        "/nothing",
        "/v2/nodes",
        "/%FF",
    ] {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"] {
            let answer = server.send(Method::from_bytes(method.as_bytes()).unwrap(), path, "{", &[]).await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
    for method in ["PATCH", "OPTIONS", "BREW"] {
        let answer = server.send(Method::from_bytes(method.as_bytes()).unwrap(), "/v1/nodes", "{", &[]).await;
        assert_eq!(answer.status, 401, "{method}");
    }
    // With a key they are as they are without keys.
    server.get_as("reader", "/nothing").await.problem(404, "unknown-path");
    let wrong = server.ask_as(Some("reader"), Method::PATCH, "/v1/nodes", "").await;
    wrong.problem(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), Some("GET,POST,HEAD"));
    assert_eq!(server.get_as("reader", "/swagger-ui/").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_do_what_its_role_says_and_is_told_which_one_is_missing() {
    let server = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    for (method, path, role) in calls() {
        let answer = server.ask_as(Some("reader"), method.clone(), &path, "{").await;
        if role.as_deref() == Some("write") {
            answer.problem(403, "forbidden");
            let missing = r#"Bearer realm="onex-registry", error="insufficient_scope", scope="write""#;
            assert_eq!(answer.header("www-authenticate"), Some(missing), "{method} {path}");
            assert!(answer.text.contains("the role write"), "{}", answer.text);
        } else {
            assert!(answer.status == 200 || answer.status == 404, "{method} {path}: {}", answer.text);
        }
        for name in ["writer", "admin"] {
            let answer = server.ask_as(Some(name), method.clone(), &path, "{").await;
            assert!(![401, 403].contains(&answer.status), "{name} {method} {path}: {}", answer.text);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_and_is_no_valid_key_is_refused_by_the_rules() {
    let old = entry("old", "admin", "expires = \"2001-01-01T00:00:00Z\"");
    let file = KeyFile::of(&[entry("reader", "read", ""), old]);
    let server = file.serve(Backend::Sqlite, &[]).await;
    let ask = async |fields: &[&str]| server.raw("GET /v1/nodes", fields, b"").await;
    let good = format!("Authorization: Bearer {}", secret("reader"));
    assert_eq!(ask(&[&good]).await.status, 200);
    assert_eq!(ask(&[&good.replace("Bearer ", "bEARER   ")]).await.status, 200);

    let plain = |mut answer: Answer| {
        answer.problem(401, "unauthorized");
        answer.headers.remove("x-correlation-id");
        answer.headers.remove("date");
        let mut body = answer.json();
        body["correlation_id"] = json!("-");
        (format!("{:?}", answer.headers), body)
    };
    let unknown = ask(&["Authorization: Bearer onex_never"]).await;
    assert_eq!(unknown.header("www-authenticate"), Some(INVALID_TOKEN));
    let expired = ask(&[&format!("Authorization: Bearer {}", secret("old"))]).await;
    assert_eq!(plain(unknown), plain(expired), "nobody learns that a key was one once");

    for other in ["Basic YWRtaW46YWRtaW4=", "Digest a", ""] {
        let answer = ask(&[&format!("Authorization: {other}")]).await;
        assert_eq!(answer.header("www-authenticate"), Some(PLAIN), "{other}");
        answer.problem(401, "unauthorized");
    }
    let twice: [&[&str]; 3] = [&["Authorization: Bearer"], &["Authorization: Bearer a b"], &[&good, &good]];
    for malformed in twice {
        let answer = ask(malformed).await;
        assert_eq!(answer.header("www-authenticate"), Some(INVALID_REQUEST), "{malformed:?}");
        assert_eq!(answer.problem(400, "invalid-request"), ["Authorization:"]);
        assert!(!answer.text.contains("onex_"), "{}", answer.text);
    }
    let long = format!("Authorization: Bearer {}", "x".repeat(16 * 1024));
    ask(&[&long]).await.problem(401, "unauthorized");
    // What is open asks for nothing, and looks at nothing.
    assert_eq!(server.raw("GET /livez", &["Authorization: Bearer a b"], b"").await.status, 200);

    let metrics = server.get_as("reader", "/metrics").await.text;
    for (reason, count) in
        [("missing", 3), ("malformed", 3), ("unknown", 2), ("expired", 1), ("role", 0), ("not_covered", 0)]
    {
        let line = format!("onex_registry_auth_failures_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_known_before_anything_else_is_looked_at() {
    let server = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    // The body never comes: an answer to it would be a 408.
    let fields = ["Content-Type: application/json", "Content-Length: 1000"];
    server.raw("PUT /v1/nodes/n", &fields, b"").await.problem(401, "unauthorized");
    let waits = [&fields[..], &["Expect: 100-continue"]].concat();
    server.raw("POST /v1/batch/nodes", &waits, b"").await.problem(401, "unauthorized");
    let shown = format!("Authorization: Bearer {}", secret("billing"));
    // Nor is it read of one who may not change the node.
    server.raw("PUT /v1/nodes/n", &[&fields[..], &[&shown]].concat(), b"").await.problem(403, "forbidden");
    for line in [
        "GET /v1/nodes?colour=red",
        "GET /v1/nodes/%FF",
        "PUT /v1/nodes/%FF?colour=red",
        "GET /v1/watch?after=x",
        "DELETE /v1/nodes/nobody",
    ] {
        server.raw(line, &["If-Match: x", "Content-Length: 0"], b"").await.problem(401, "unauthorized");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_public_needs_no_key_and_nothing_else_is_open() {
    let metrics = "/metrics";
    let docs = "/swagger-ui/";
    let read = [
        "/v1/nodes",
        "/v1/nodes?since=0&wait=1ms",
        "/v1/events",
        "/v1/summary",
        "/v1/discovery/prometheus",
        "/v1/watch",
    ];
    for (public, open, closed) in [
        ("metrics", &[metrics][..], &[docs, read[0]][..]),
        ("docs", &[docs], &[metrics, read[0]]),
        ("read", &read, &[metrics, docs]),
    ] {
        let public = format!("--public={public}");
        let server = KeyFile::usual().serve(Backend::Sqlite, &[&public]).await;
        for path in open {
            assert_eq!(server.get_once(path).await.status, 200, "{public} {path}");
            let wrong = [("authorization", "Bearer onex_wrong")];
            assert_eq!(server.send(Method::GET, path, "", &wrong).await.status, 401, "{public} {path}");
        }
        for path in closed {
            assert_eq!(server.get_once(path).await.status, 401, "{public} {path}");
        }
        server.put(&node("n"), EFFECT).await.problem(401, "unauthorized");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_may_ask_in_advance_without_a_key() {
    let server = KeyFile::usual().serve(Backend::Sqlite, &["--cors-origins=https://a.example"]).await;
    let origin = ("origin", "https://a.example");
    let asked = [
        origin,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization"),
    ];
    let preflight = server.send(Method::OPTIONS, "/v1/nodes/n", "", &asked).await;
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    let refused = server.send(Method::GET, "/v1/nodes", "", &[origin]).await;
    refused.problem(401, "unauthorized");
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://a.example"), "it can be read");
    assert!(refused.header("access-control-expose-headers").unwrap().contains("www-authenticate"));
    server.stop().await;
}
