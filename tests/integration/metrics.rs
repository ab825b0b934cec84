//! Metrics: what happens is counted, in a text that Prometheus can read and that nobody else writes in.

#![allow(clippy::float_cmp, reason = "counts are whole, and the format has floating-point numbers only")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use self::exposition::Exposition;
use crate::harness::sql::eventually;
use crate::harness::{Backend, TestServer, cluster, node};

mod exposition;

on_both_stores!(
    the_text_is_valid_prometheus,
    requests_are_counted_by_method_route_and_status,
    every_answer_of_the_document_is_counted_from_0,
    a_client_can_invent_nothing_that_is_counted_by,
    registrations_are_counted_by_what_became_of_them,
    a_request_whose_client_hangs_up_is_no_longer_in_flight,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;
const REQUESTS: &str = "onex_registry_http_requests_total";
const IN_FLIGHT: &str = "onex_registry_http_requests_in_flight";

async fn read(server: &TestServer) -> Exposition {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Exposition::read(&answer.text).unwrap_or_else(|wrong| panic!("{wrong}\n{}", answer.text))
}

async fn the_text_is_valid_prometheus(server: &TestServer) {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let first = Exposition::read(&answer.text).unwrap();
    assert_eq!(first.value(IN_FLIGHT, &[]), 1.0, "the one that asks");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(first.find("onex_registry_build_info", &version), Some(1.0));
    assert!(first.value("process_start_time_seconds", &[]) > 1_700_000_000.0);
    assert_eq!(first.find("onex_registry_expired_total", &[]), Some(0.0));

    server.register("n", EFFECT).await;
    for path in ["/nothing", "/v1/nodes?limit=0", "/swagger-ui/", "/v1/nodes/nobody"] {
        server.get(path).await;
    }
    read(server).await;
    let head = server.send(Method::HEAD, "/metrics", "", &[]).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

async fn requests_are_counted_by_method_route_and_status(server: &TestServer) {
    // A row of the table: what is asked, and how it is counted.
    let cases = [
        ("PUT", node("a/b"), EFFECT, ["PUT", "/v1/nodes/{node_id}", "201"]),
        ("PUT", node("a/b"), EFFECT, ["PUT", "/v1/nodes/{node_id}", "200"]),
        ("PUT", node("n"), "{", ["PUT", "/v1/nodes/{node_id}", "400"]),
        ("PUT", node("n"), "{}", ["PUT", "/v1/nodes/{node_id}", "422"]),
        ("GET", node("nobody"), "", ["GET", "/v1/nodes/{node_id}", "404"]),
        ("GET", "/v1/nodes/".to_owned(), "", ["GET", "/v1/nodes/{node_id}", "404"]),
        ("HEAD", node("a/b"), "", ["HEAD", "/v1/nodes/{node_id}", "200"]),
        ("GET", "/v1/nodes".to_owned(), "", ["GET", "/v1/nodes", "200"]),
        ("GET", "/v1/nodes?limit=x".to_owned(), "", ["GET", "/v1/nodes", "400"]),
        ("PATCH", "/v1/nodes".to_owned(), "", ["PATCH", "/v1/nodes", "405"]),
        ("BREW", "/v1/nodes".to_owned(), "", ["other", "/v1/nodes", "405"]),
        ("get", "/v1/nodes".to_owned(), "", ["other", "/v1/nodes", "405"]),
        ("POST", "/v1/batch/nodes".to_owned(), r#"{"nodes":[1]}"#, ["POST", "/v1/batch/nodes", "200"]),
        ("GET", "/livez".to_owned(), "", ["GET", "/livez", "200"]),
        ("GET", "/swagger-ui/".to_owned(), "", ["GET", "pages", "200"]),
        ("GET", "/swagger-ui/nothing.js".to_owned(), "", ["GET", "pages", "404"]),
        ("GET", "/v1/nodes/a/b".to_owned(), "", ["GET", "unknown", "404"]),
        ("BREW", "/%22%7D%20666%0A".to_owned(), "", ["other", "unknown", "404"]),
    ];
    for (method, path, body, [counted_method, route, status]) in cases {
        let requests = [("method", counted_method), ("route", route), ("status", status)];
        let durations = &requests[..2];
        let count = "onex_registry_http_request_duration_seconds_count";
        let before = read(server).await;
        let asked = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = server.send(asked, &path, body, &[]).await;
        assert_eq!(answer.status.to_string(), status, "{method} {path}");
        let after = read(server).await;
        assert_eq!(
            after.value(REQUESTS, &requests),
            before.value(REQUESTS, &requests) + 1.0,
            "{method} {path}"
        );
        assert_eq!(after.value(count, durations), before.value(count, durations) + 1.0, "{method} {path}");
    }
    let own = [("method", "GET"), ("route", "/metrics"), ("status", "200")];
    assert_eq!(read(server).await.value(REQUESTS, &own), 36.0, "each reading counts the next time");
}

async fn every_answer_of_the_document_is_counted_from_0(server: &TestServer) {
    let document = server.get("/openapi.json").await.json();
    let metrics = read(server).await;
    let mut found = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            for status in operation["responses"].as_object().unwrap().keys() {
                let labels = [("method", method.as_str()), ("route", path), ("status", status)];
                let count = metrics.find(REQUESTS, &labels);
                // Whether the server is ready was asked until it was.
                if path == "/readyz" {
                    assert!(count.is_some(), "{labels:?}");
                } else {
                    let was_asked = path == "/openapi.json" && status == "200";
                    let expected = if was_asked { 1.0 } else { 0.0 };
                    assert_eq!(count, Some(expected), "{labels:?}");
                }
                found += 1;
            }
        }
    }
    assert!(found > 50, "{found}");
}

async fn a_client_can_invent_nothing_that_is_counted_by(server: &TestServer) {
    // One of each kind first, so that what can be counted by is there.
    let ask = async |number: usize| {
        let word = format!("Quagga{number}");
        let fields = [
            ("x-correlation-id", word.as_str()),
            ("user-agent", &word),
            ("origin", &word),
            ("host", &word),
            ("x-quagga", &word),
            ("if-match", &word),
        ];
        let method = Method::from_bytes(word.as_bytes()).unwrap();
        let registration = json!({
            "node_id": word, "node_type": "effect", "node_version": format!("1.0.0-{word}"),
            "capabilities": {&word: [&word]}, "metadata": {&word: &word}, "endpoints": {&word: &word},
            "health_endpoint": format!("http://{word}/"),
        });
        for (method, path, body) in [
            (Method::GET, format!("/{word}"), Value::Null),
            (Method::GET, format!("/v1/nodes/{word}/{word}"), Value::Null),
            (Method::GET, format!("/swagger-ui/{word}"), Value::Null),
            (Method::GET, format!("/v1/nodes?{word}={word}"), Value::Null),
            (Method::GET, format!("/metrics?{word}={word}"), Value::Null),
            (method.clone(), format!("/{word}"), Value::Null),
            (method, node(&word), Value::Null),
            (Method::GET, node(&word), Value::Null),
            (Method::POST, "/v1/nodes".to_owned(), json!({"node_id": word, "node_type": word})),
            (Method::POST, "/v1/nodes".to_owned(), registration),
            (Method::DELETE, node(&word), Value::Null),
        ] {
            server.send(method, &path, body.to_string(), &fields).await;
        }
        server.register(&word, EFFECT).await;
    };
    ask(0).await;
    // What looks after the fleet measures something as soon as it has begun.
    eventually("all is measured", async || {
        let text = server.get("/metrics").await.text;
        ["leader", "database_up", "probe_targets", "event_lag_seconds", "self_preservation"]
            .iter()
            .all(|name| text.contains(&format!("\nonex_registry_{name} ")))
    })
    .await;
    let first = read(server).await;
    for number in 1..8 {
        ask(number).await;
    }
    let answer = server.get("/metrics").await;
    assert!(!answer.text.to_lowercase().contains("quagga"), "{}", answer.text);
    let last = Exposition::read(&answer.text).unwrap();
    assert_eq!(last.len(), first.len(), "no series more");
    let routes = last.values_of("route");
    let known: BTreeSet<&str> = ["unknown", "pages"].into();
    assert!(routes.is_superset(&known), "{routes:?}");
    let document = server.get("/openapi.json").await.json();
    for route in routes.difference(&known) {
        assert!(document["paths"][route].is_object(), "{route}");
    }
}

async fn registrations_are_counted_by_what_became_of_them(server: &TestServer) {
    let registered = async |outcome: &str| {
        read(server).await.find("onex_registry_registrations_total", &[("outcome", outcome)]).unwrap()
    };
    let deregistered = async |outcome: &str| {
        read(server).await.find("onex_registry_deregistrations_total", &[("outcome", outcome)]).unwrap()
    };
    server.register("n", EFFECT).await;
    server.register("n", EFFECT).await;
    server
        .send(Method::PUT, "/v1/nodes/n", EFFECT, &[("if-none-match", "*")])
        .await
        .problem(412, "precondition-failed");
    server.put("/v1/nodes/n", "{}").await.problem(422, "validation");
    let batch = json!({"nodes": [
        {"node_id": "m", "node_type": "effect"}, {"node_id": "m", "node_type": "effect"}, 1
    ]});
    assert_eq!(server.post("/v1/batch/nodes", batch).await.status, 200);
    let counts = [registered("created").await, registered("renewed").await, registered("refused").await];
    assert_eq!((counts, registered("failed").await), ([2.0, 2.0, 1.0], 0.0));

    server.delete("/v1/nodes/nobody").await.problem(404, "node-not-found");
    let never = [("if-match", "\"0.0\"")];
    server.send(Method::DELETE, "/v1/nodes/n", "", &never).await.problem(412, "precondition-failed");
    let batch = json!({"node_ids": ["n", "m", "nobody"]});
    assert_eq!(server.post("/v1/batch/deregister", batch).await.status, 200);
    let counts =
        [deregistered("removed").await, deregistered("not_found").await, deregistered("refused").await];
    assert_eq!((counts, deregistered("failed").await), ([2.0, 2.0, 1.0], 0.0));
}

async fn a_request_whose_client_hangs_up_is_no_longer_in_flight(server: &TestServer) {
    let half = b"PUT /v1/nodes/n HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        client.write_all(half).unwrap();
        clients.push(client);
    }
    eventually("three and the one that asks", async || read(server).await.value(IN_FLIGHT, &[]) == 4.0).await;
    drop(clients);
    eventually("the one that asks", async || read(server).await.value(IN_FLIGHT, &[]) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_can_be_read_while_the_database_is_away() {
    let server = TestServer::start(Backend::Postgres).await;
    let name = server.database.as_ref().unwrap().name();
    let mut admin = PgConnection::connect(&format!("{}/postgres", cluster::url())).await.unwrap();
    let away = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::query(away).execute(&mut admin).await.unwrap();
    let failed = server.put("/v1/nodes/n", EFFECT).await;
    assert!(failed.status >= 500, "{}", failed.text);
    let metrics = read(&server).await;
    assert_eq!(metrics.value("onex_registry_registrations_total", &[("outcome", "failed")]), 1.0);
    admin.close().await.unwrap();
    server.stop().await;
}
