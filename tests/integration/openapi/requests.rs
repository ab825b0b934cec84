//! What the document lets a request hold is what the server takes.

use serde_json::{Value, json};

use super::{Document, encoded};
use crate::harness::{TestServer, node};

on_both_stores!(a_text_is_taken_if_the_document_allows_it, a_registration_takes_only_a_star_as_if_none_match,);

async fn a_text_is_taken_if_the_document_allows_it(server: &TestServer) {
    let document = Document::read();
    let schema = |place: &str| document.0.pointer(place).unwrap_or_else(|| panic!("{place}"));
    let in_path = &document.operation("put", "/v1/nodes/{node_id}").body["parameters"][0]["schema"];
    let in_body = document.validator(schema("/components/schemas/Registration/properties/node_id"));
    let in_path = document.validator(in_path);
    let alone =
        document.validator(schema("/components/schemas/NamedRegistration/allOf/1/properties/node_id"));
    let reason = document.validator(schema("/components/schemas/Maintenance/properties/reason"));
    server.register("taken-out", json!({"node_type": "effect"})).await;

    for (text, allowed) in [
        ("node", true),
        ("é🦀\u{a0}/%\\\"", true),
        (&"é".repeat(255), true),
        (&"é".repeat(501), false),
        ("tab\tin it", false),
        ("\u{1f}", false),
        ("del\u{7f}", false),
        ("next\u{85}line", false),
        ("\u{9f}", false),
    ] {
        let value = Value::from(text);
        for (place, schema) in
            [("path", &in_path), ("body", &in_body), ("alone", &alone), ("reason", &reason)]
        {
            assert_eq!(schema.is_valid(&value), allowed, "{place}: {text:?}");
        }
        let answers = [
            server.put(&node(text), json!({"node_type": "effect"})).await,
            server.put(&node(text), json!({"node_type": "effect", "node_id": text})).await,
            server.post("/v1/nodes", json!({"node_type": "effect", "node_id": text})).await,
            server.put(&format!("{}/maintenance", node("taken-out")), json!({"reason": text})).await,
        ];
        for answer in answers {
            assert_eq!([200, 201].contains(&answer.status), allowed, "{text:?}: {}", answer.text);
        }
    }
    let empty = json!("");
    assert!(![in_path, in_body, alone, reason].iter().any(|schema| schema.is_valid(&empty)));
}

async fn a_registration_takes_only_a_star_as_if_none_match(server: &TestServer) {
    let document = Document::read();
    for (method, path) in [("put", "/v1/nodes/{node_id}"), ("post", "/v1/nodes")] {
        let call = document.operation(method, path);
        let field = call.parameters("header").find(|field| field["name"] == "If-None-Match").unwrap();
        let schema = document.validator(&field["schema"]);
        for (index, (value, allowed)) in
            [("*", true), ("\"1.0\"", false), ("", false)].into_iter().enumerate()
        {
            let id = format!("{method}-{index}");
            assert_eq!(schema.is_valid(&json!(value)), allowed, "{value}");
            let method = method.to_uppercase().parse().unwrap();
            let path = path.replace("{node_id}", &encoded(&id));
            let body = json!({"node_type": "effect", "node_id": id}).to_string();
            let answer = server.send(method, &path, body, &[("if-none-match", value)]).await;
            assert_eq!(answer.status, if allowed { 201 } else { 400 }, "{value}: {}", answer.text);
        }
    }
}
