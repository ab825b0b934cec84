//! Bodies that are no JSON, or JSON of the wrong shape.

use serde_json::json;

use super::{each_is_refused, register_victim};
use crate::harness::TestServer;

on_both_stores!(
    a_body_that_is_not_json_in_utf_8_is_malformed,
    a_registration_that_is_no_object_is_refused,
    all_that_is_wrong_is_named_at_once,
    an_explicit_null_is_refused_but_for_the_two_that_may_be_null,
    the_faults_of_a_body_are_named_or_counted,
    faults_of_query_header_and_body_are_named_together,
    hostile_names_are_echoed_only_sanitized,
);

const WITH_BODY: [(reqwest::Method, &str); 6] = [
    (reqwest::Method::PUT, "/v1/nodes/victim"),
    (reqwest::Method::POST, "/v1/nodes"),
    (reqwest::Method::POST, "/v1/batch/nodes"),
    (reqwest::Method::POST, "/v1/batch/deregister"),
    (reqwest::Method::POST, "/v1/batch/heartbeats"),
    (reqwest::Method::PUT, "/v1/nodes/victim/maintenance"),
];

async fn a_body_that_is_not_json_in_utf_8_is_malformed(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    let bodies: [&[u8]; 16] = [
        b"",
        b" \n",
        b"{",
        b"{\"node_type\":\"effect\"",
        b"{\"node_type\":\"effect\"}}",
        b"{\"node_type\":\"effect\"} {}",
        b"{'node_type':'effect'}",
        b"{node_type:\"effect\"}",
        b"{\"node_type\":\"effect\",}",
        b"{\"node_type\":\"effect\",\"metadata\":{\"n\":NaN}}",
        b"{\"node_type\":\"effect\",\"metadata\":{\"n\":01}}",
        b"{\"node_type\":\"effect\",\"metadata\":{\"s\":\"\n\"}}",
        b"{\"node_type\":\"effect\",\"metadata\":{\"s\":\"\xFF\"}}",
        // A surrogate in UTF-8, a NUL in two bytes, and the other encodings of Unicode.
        b"{\"node_type\":\"effect\",\"metadata\":{\"s\":\"\xED\xA0\x80\"}}",
        b"{\"node_type\":\"effect\",\"metadata\":{\"s\":\"\xC0\x80\"}}",
        b"\xFE\xFF\0{\0}",
    ];
    for (method, path) in WITH_BODY {
        for body in bodies {
            let answer = server.send(method.clone(), path, body.to_vec(), &[]).await;
            let places = answer.problem(400, "malformed-body");
            assert!(places.is_empty(), "{path}: {places:?}");
            assert!(!answer.text.contains("effect"), "nothing of the body is repeated: {}", answer.text);
        }
    }
    assert_eq!(server.everything().await, before);
}

async fn a_registration_that_is_no_object_is_refused(server: &TestServer) {
    let no_objects = ["[]", "[{\"node_type\":\"effect\"}]", "\"effect\"", "1", "true", "null", "1e400"];
    each_is_refused(server, &no_objects.map(|body| (body, &[""][..]))).await;
}

async fn all_that_is_wrong_is_named_at_once(server: &TestServer) {
    let body = r#"{"node_type": "planet", "node_version": "1.0", "capabilities": [1], "endpoints": {"grpc": 50051, "http": null},
        "metadata": {"a": ["\u0000", {"b/c": 1e400}]}, "health_endpoint": "ftp://h/", "ttl_seconds": 0, "colour": "red", "a~b": 1}"#;
    let places = [
        "/node_type",
        "/node_version",
        "/capabilities",
        "/endpoints/grpc",
        "/endpoints/http",
        "/metadata/a/0",
        "/metadata/a/1/b~1c",
        "/health_endpoint",
        "/ttl_seconds",
        "/colour",
        "/a~0b",
    ];
    let cases: [(&str, &[&str]); 4] = [
        (body, &places),
        ("{}", &["/node_type"]),
        (r#"{"node_type": "effect", "revision": 1}"#, &["/revision"]),
        (r#"{"Node_Type": "effect"}"#, &["/Node_Type", "/node_type"]),
    ];
    each_is_refused(server, &cases).await;

    let mut places = server.post("/v1/nodes", "{}").await.problem(422, "validation");
    places.sort();
    assert_eq!(places, ["/node_id", "/node_type"]);
}

async fn an_explicit_null_is_refused_but_for_the_two_that_may_be_null(server: &TestServer) {
    let null = |field: &str| json!({"node_type": "effect", field: null}).to_string();
    let fields = ["node_type", "node_version", "capabilities", "endpoints", "metadata"];
    let places = fields.map(|field| format!("/{field}"));
    for (field, place) in fields.iter().zip(&places) {
        each_is_refused(server, &[(&null(field), &[place])]).await;
    }
    let refused = server.put(super::VICTIM, null("node_id")).await;
    assert_eq!(refused.problem(422, "validation"), ["/node_id"]);
    for field in ["health_endpoint", "ttl_seconds"] {
        let record = server.register("nulls", null(field)).await;
        assert!(record[field].is_null());
    }
}

async fn the_faults_of_a_body_are_named_or_counted(server: &TestServer) {
    let numbers = |count: usize| {
        format!(r#"{{"node_type":"effect","metadata":{{"n":[{}]}}}}"#, vec!["1e131071"; count].join(","))
    };
    register_victim(server).await;
    let before = server.everything().await;
    let thousand = server.put(super::VICTIM, numbers(1_000)).await;
    let places = thousand.problem(422, "validation");
    let expected: Vec<String> = (0..1_000).map(|index| format!("/metadata/n/{index}")).collect();
    assert_eq!(places, expected);

    let more = server.put(super::VICTIM, numbers(40_000)).await;
    assert_eq!(more.problem(422, "validation").len(), 1_001);
    let body = more.json();
    assert_eq!(body["errors"][1_000]["detail"], "39000 more faults are not listed");
    assert_eq!(body["detail"], "40000 rules are broken");
    assert!(more.text.len() < 300_000, "an answer is bounded: {}", more.text.len());
    assert_eq!(server.everything().await, before);
}

async fn faults_of_query_header_and_body_are_named_together(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    let answer = server
        .send(
            reqwest::Method::PUT,
            "/v1/nodes/%20victim?alive=maybe&colour=red",
            r#"{"node_type": "planet"}"#,
            &[("if-match", "victim")],
        )
        .await;
    let mut places = answer.problem(400, "invalid-request");
    places.sort();
    assert_eq!(places, ["/node_type", "?alive", "?colour", "?node_id", "If-Match:"]);
    assert_eq!(server.everything().await, before);
}

async fn hostile_names_are_echoed_only_sanitized(server: &TestServer) {
    let long = "y".repeat(10_000);
    let body = json!({
        "node_type": "effect",
        "\u{202E}evil\u{200F}": 1,
        "\u{1B}[31mred\r\n": 1,
        "\u{FEFF}<script>": 1,
        &long: 1,
        "metadata": {"\u{2066}\u{7}": {"\u{2028}": "\u{0}"}},
    });
    let answer = server.put(super::VICTIM, &body).await;
    let mut places = answer.problem(422, "validation");
    places.sort();
    let mut expected = [
        "/\u{FFFD}evil\u{FFFD}".to_owned(),
        "/\u{FFFD}[31mred\u{FFFD}\u{FFFD}".to_owned(),
        "/\u{FFFD}<script>".to_owned(),
        format!("/{}…", "y".repeat(64)),
        "/metadata/\u{FFFD}\u{FFFD}/\u{FFFD}".to_owned(),
    ];
    expected.sort();
    assert_eq!(places, expected);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "and never as a page");

    let query = server.get(&format!("/v1/nodes?%E2%80%AE%1B%00=1&{long}=1")).await;
    assert_eq!(
        query.problem(400, "invalid-request"),
        ["?\u{FFFD}\u{FFFD}\u{FFFD}".to_owned(), format!("?{}…", "y".repeat(64))]
    );
    for text in [&answer.text, &query.text] {
        assert!(text.len() < 5_000, "{}", text.len());
        assert!(
            !text.chars().any(|c| c.is_control() || "\u{202E}\u{200F}\u{FEFF}\u{2066}\u{2028}".contains(c))
        );
    }
}
