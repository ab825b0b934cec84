//! Ids: those that are refused, and the strange ones that are not.

use reqwest::Method;
use serde_json::{Value, json};

use super::{VICTIM, register_victim};
use crate::harness::{TestServer, encoded, ids_of, node, places_of};

on_both_stores!(
    an_id_that_breaks_a_rule_is_refused_in_path_body_and_batch,
    an_id_that_is_no_text_is_refused,
    dots_in_a_path_are_an_id_and_never_a_way_up,
    a_path_that_is_not_utf_8_is_a_bad_request,
    strange_ids_come_back_intact_from_every_call,
    ids_that_look_alike_are_different_nodes,
    what_no_column_holds_is_looked_up_in_vain,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;

async fn an_id_that_breaks_a_rule_is_refused_in_path_body_and_batch(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    let long = ["x".repeat(256), "é".repeat(256), "🦀".repeat(256)];
    let short =
        ["a\nb", "a\tb", "\u{1}", "a\u{7f}b", "a\u{85}b", " a", "a ", "\u{a0}a", "a\u{3000}", " ", "a\0b"];
    for id in long.iter().map(String::as_str).chain(short) {
        let by_path = server.put(&node(id), EFFECT).await;
        let places = by_path.problem(422, "validation");
        assert!(!places.is_empty() && places.iter().all(|place| place == "?node_id"), "{id:?}: {places:?}");

        let body = json!({"node_id": id, "node_type": "effect"});
        let places = server.post("/v1/nodes", &body).await.problem(422, "validation");
        assert!(!places.is_empty() && places.iter().all(|place| place == "/node_id"), "{id:?}: {places:?}");

        let item: Value =
            server.post("/v1/batch/nodes", json!({"nodes": [body]})).await.json()["results"][0].take();
        assert_eq!((&item["status"], &item["node_id"]), (&json!(422), &Value::Null), "{id:?}");
        assert!(places_of(&item["problem"]).iter().all(|place| place == "/node_id"), "{item}");
        for answer in [by_path.text, item.to_string()] {
            assert!(
                !answer.contains("xxxx") && !answer.contains("éééé"),
                "a bad id is not repeated: {answer}"
            );
        }
    }
    for id in [".", "..", ""] {
        let body = json!({"node_id": id, "node_type": "effect"});
        assert_eq!(server.post("/v1/nodes", body).await.problem(422, "validation"), ["/node_id"], "{id:?}");
    }
    assert_eq!(server.put("/v1/nodes/", EFFECT).await.problem(422, "validation"), ["?node_id"]);
    assert_eq!(server.everything().await, before);

    for id in ["x".repeat(255), "é".repeat(255), "🦀".repeat(255)] {
        assert_eq!(server.register(&id, EFFECT).await["node_id"], id);
        assert_eq!(server.get(&node(&id)).await.json()["node_id"], id);
    }
}

async fn an_id_that_is_no_text_is_refused(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for id in [r#""\ud800""#, r#""a\udc00b""#, r#""\u0000""#, "1", "true", "[]", "{}", "null", "1e400"] {
        let body = format!(r#"{{"node_type":"effect","node_id":{id}}}"#);
        let posted = server.post("/v1/nodes", &body).await.problem(422, "validation");
        assert!(!posted.is_empty() && posted.iter().all(|place| place == "/node_id"), "{id}: {posted:?}");
        let put = server.put(VICTIM, &body).await.problem(422, "validation");
        assert!(!put.is_empty() && put.iter().all(|place| place == "/node_id"), "{id}: {put:?}");
        let item: Value =
            server.post("/v1/batch/nodes", format!(r#"{{"nodes":[{body}]}}"#)).await.json()["results"][0]
                .take();
        assert_eq!((&item["status"], &item["node_id"]), (&json!(422), &Value::Null), "{id}: {item}");
    }
    assert_eq!(server.everything().await, before);
}

async fn dots_in_a_path_are_an_id_and_never_a_way_up(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    let length = format!("Content-Length: {}", EFFECT.len());
    for segment in [".", "..", "%2E", "%2E%2E", "%2e.", ".%2e"] {
        let put = server
            .raw(
                &format!("PUT /v1/nodes/{segment}"),
                &["Content-Type: application/json", &length],
                EFFECT.as_bytes(),
            )
            .await;
        assert_eq!(put.problem(422, "validation"), ["?node_id"], "{segment}");
        for method in ["GET", "DELETE"] {
            let answer = server.raw(&format!("{method} /v1/nodes/{segment}"), &[], b"").await;
            answer.problem(404, "node-not-found");
        }
    }
    for path in ["/v1/nodes/../nodes", "/v1//nodes", "/v1/nodes/victim/", "/v1/nodes/./victim", "//v1/nodes"]
    {
        server.raw(&format!("GET {path}"), &[], b"").await.problem(404, "unknown-path");
    }
    assert_eq!(server.everything().await, before);
}

async fn a_path_that_is_not_utf_8_is_a_bad_request(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    for segment in ["%FF", "a%C3", "%ED%A0%80", "%C0%80"] {
        let path = format!("/v1/nodes/{segment}");
        for answer in [server.get(&path).await, server.delete(&path).await, server.put(&path, EFFECT).await] {
            assert_eq!(answer.problem(400, "invalid-request"), ["?node_id"], "{segment}");
        }
    }
    assert_eq!(server.everything().await, before);
}

async fn strange_ids_come_back_intact_from_every_call(server: &TestServer) {
    let mut ids = vec![
        "a/b",
        "/",
        "//",
        "../x",
        "..%2f",
        "100%",
        "%2F",
        "%00",
        "%",
        "%zz",
        "?",
        "a?b=c&d#e",
        "#",
        "\"",
        "'",
        "`",
        "\\",
        "a\\nb",
        "a b",
        "...",
        ".hidden",
        "+",
        "a+b",
        "&",
        "=",
        ";",
        ":",
        "*",
        "{node_id}",
        "<script>",
        "日本語",
        "🦀",
        "👩‍👩‍👧",
        "\u{202E}rtl",
        "\u{200B}",
        "\u{FFFF}",
        "\u{10FFFF}",
        "null",
        "heartbeat",
        "maintenance",
        "A",
        "a",
        "|",
        "[",
        "^",
    ];
    for (index, id) in ids.iter().enumerate() {
        let registered =
            server.put(&node(id), json!({"node_type": "effect", "metadata": {"n": index}})).await;
        assert_eq!((registered.status, &registered.json()["node_id"]), (201, &json!(id)));
        let location = registered.header("location").unwrap();
        assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location}");
        let found = server.get(location).await;
        assert_eq!((found.status, &found.text), (200, &registered.text), "{id:?} at {location}");
        assert_eq!(server.get(&node(id)).await.text, registered.text);

        let posted = server
            .post("/v1/nodes", json!({"node_id": id, "node_type": "effect", "metadata": {"n": index}}))
            .await;
        assert_eq!(
            (posted.status, posted.header("location")),
            (200, registered.header("location")),
            "{id:?}"
        );
        assert_eq!(server.ids(&format!("node_id={}", encoded(id))).await, [*id]);
        assert!(server.ids(&format!("node_id_prefix={}", encoded(id))).await.contains(&(*id).to_owned()));
    }
    ids.sort_unstable();
    assert_eq!(server.ids("limit=1000").await, ids);

    let (by_path, in_batch) = ids.split_at(ids.len() / 2);
    for id in by_path {
        assert_eq!(server.delete(&node(id)).await.status, 204, "{id:?}");
    }
    assert_eq!(server.ids("limit=1000").await, in_batch);
    let answer = server.post("/v1/batch/deregister", json!({"node_ids": in_batch})).await;
    assert_eq!(answer.json(), json!({"deregistered": in_batch.len(), "unknown": []}));
    assert!(server.ids("").await.is_empty());
}

async fn ids_that_look_alike_are_different_nodes(server: &TestServer) {
    // Composed and decomposed, upper and lower case, with and without an accent, Latin and Cyrillic.
    let ids = ["\u{e9}", "e\u{301}", "E", "e", "\u{435}", "e%301"];
    let nodes: Vec<Value> = ids.iter().map(|id| json!({"node_id": id, "node_type": "effect"})).collect();
    let results: Value =
        server.post("/v1/batch/nodes", json!({"nodes": nodes})).await.json()["results"].take();
    assert!(results.as_array().unwrap().iter().all(|result| result["status"] == 201), "{results}");
    for id in ids {
        assert_eq!(ids_of(&server.get(&format!("/v1/nodes?node_id={}", encoded(id))).await.json()), [id]);
    }
}

async fn what_no_column_holds_is_looked_up_in_vain(server: &TestServer) {
    register_victim(server).await;
    for id in ["a\0b", "\0", &"x".repeat(256), &"x".repeat(10_000)] {
        server.get(&node(id)).await.problem(404, "node-not-found");
        server.delete(&node(id)).await.problem(404, "node-not-found");
        assert!(server.ids(&format!("node_id={}", encoded(id))).await.is_empty());
    }
    for id in [" victim", "victim\n", "VICTIM"] {
        server.get(&node(id)).await.problem(404, "node-not-found");
        assert_eq!(server.request(Method::DELETE, &node(id)).send().await.unwrap().status(), 404);
    }
    assert_eq!(server.ids("").await, ["victim"]);
}
