//! SQL where a value is expected: it is text, and the table is as it was.

use reqwest::Method;
use serde_json::{Value, json};

use super::{VICTIM, register_victim};
use crate::harness::{TestServer, encoded, node};

on_both_stores!(
    sql_in_an_id_is_an_id,
    sql_in_json_is_a_string_or_a_key,
    sql_in_a_restricted_value_is_refused,
    sql_in_a_parameter_is_a_value_or_refused,
    sql_in_a_header_field_is_nothing,
);

const SQL: [&str; 18] = [
    "'; DROP TABLE node_registrations; --",
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "\\'; DELETE FROM node_registrations; --",
    "x'); DELETE FROM node_registrations; --",
    "victim' --",
    "') UNION SELECT version() --",
    "1; DELETE FROM node_registrations",
    "$$; DROP TABLE node_registrations; $$",
    "$1",
    "?1",
    ":node_id",
    "%",
    "_",
    "vic%",
    "E'\\x27'",
    "/* */ OR 1=1",
    "NULL",
];

async fn sql_in_an_id_is_an_id(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for id in SQL {
        server.get(&node(id)).await.problem(404, "node-not-found");
        server.delete(&node(id)).await.problem(404, "node-not-found");
        assert_eq!(server.register(id, r#"{"node_type":"effect"}"#).await["node_id"], id);
    }
    let mut ids = [&SQL[..], &["victim"]].concat();
    ids.sort_unstable();
    assert_eq!(server.ids("limit=1000").await, ids);
    for id in SQL {
        assert_eq!(server.ids(&format!("node_id={}", encoded(id))).await, [id]);
        assert_eq!(server.get(&node(id)).await.json()["node_id"], id);
    }
    let answer = server.post("/v1/batch/deregister", json!({"node_ids": SQL})).await;
    assert_eq!(answer.json()["deregistered"], SQL.len());
    let nodes = |page: &str| serde_json::from_str::<Value>(page).unwrap()["nodes"].take();
    assert_eq!(nodes(&server.everything().await), nodes(&before));
}

async fn sql_in_json_is_a_string_or_a_key(server: &TestServer) {
    for (index, text) in SQL.iter().enumerate() {
        let body = json!({
            "node_type": "effect",
            "capabilities": {*text: [text, {*text: *text}]},
            "endpoints": {*text: text},
            "metadata": {"index": index, *text: text},
            "health_endpoint": format!("http://h/{}'--\"", encoded(text)),
        });
        let record = server.register(&format!("n{index:02}"), &body).await;
        for (field, value) in body.as_object().unwrap() {
            assert_eq!(&record[field], value, "{field}");
        }
    }
    for (index, text) in SQL.iter().enumerate() {
        let id = format!("n{index:02}");
        for (name, wanted) in [
            ("capabilities", json!({*text: []})),
            ("capabilities", json!({*text: [{*text: text}]})),
            ("metadata", json!({*text: text})),
        ] {
            let query = format!("{name}={}", encoded(&wanted.to_string()));
            assert_eq!(server.ids(&query).await, [id.as_str()], "{wanted}");
        }
    }
    assert_eq!(server.ids("limit=1000").await.len(), SQL.len());
}

async fn sql_in_a_restricted_value_is_refused(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for text in SQL {
        for field in ["node_type", "node_version", "health_endpoint", "ttl_seconds", "capabilities"] {
            let mut body = json!({"node_type": "effect"});
            body[field] = json!(text);
            let answer = server.put(VICTIM, &body).await;
            assert_eq!(answer.problem(422, "validation"), [format!("/{field}")], "{text}");
        }
        let unknown = server.put(VICTIM, json!({"node_type": "effect", text: 1})).await;
        assert_eq!(unknown.problem(422, "validation").len(), 1, "{text}");
    }
    assert_eq!(server.everything().await, before);
}

async fn sql_in_a_parameter_is_a_value_or_refused(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for text in SQL {
        let value = encoded(text);
        for name in ["node_type", "node_id", "node_version", "node_id_prefix"] {
            assert!(server.ids(&format!("{name}={value}")).await.is_empty(), "{name}={text}");
            assert!(
                server.ids(&format!("{name}={value}&consistency=strong")).await.is_empty(),
                "{name}={text}"
            );
        }
        for name in ["status", "capabilities", "metadata", "version_req", "limit", "cursor", "consistency"] {
            let answer = server.get(&format!("/v1/nodes?{name}={value}")).await;
            assert_eq!(answer.problem(400, "invalid-request"), [format!("?{name}")], "{name}={text}");
        }
        let unknown = server.get(&format!("/v1/nodes?{value}=1")).await;
        assert_eq!(unknown.problem(400, "invalid-request"), [format!("?{text}")]);
        let alive = server.put(&format!("{VICTIM}?alive={value}"), r#"{"node_type":"effect"}"#).await;
        assert_eq!(alive.problem(400, "invalid-request"), ["?alive"], "{text}");
    }
    assert_eq!(server.everything().await, before);
}

async fn sql_in_a_header_field_is_nothing(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    let effect = r#"{"node_type":"compute"}"#;
    for text in SQL {
        for name in ["if-match", "if-none-match"] {
            let bare = server.send(Method::PUT, VICTIM, effect, &[(name, text)]).await;
            assert_eq!(bare.status, 400, "{name}: {text}");
            bare.problem(400, "invalid-request");
        }
        let quoted = format!("\"{}\"", text.replace('"', "."));
        let tagged = server.send(Method::PUT, VICTIM, effect, &[("if-match", &quoted)]).await;
        tagged.problem(412, "precondition-failed");
        let named = server.send(Method::GET, VICTIM, "", &[("x-correlation-id", text)]).await;
        assert_eq!(named.status, 200);
        let sane = !text.contains(' ');
        assert_eq!(named.header("x-correlation-id") == Some(text), sane, "{text}");
    }
    assert_eq!(server.everything().await, before);
}
