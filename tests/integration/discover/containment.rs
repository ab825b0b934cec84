//! Capabilities and metadata are asked for by containment.

use serde_json::{Value, json};

use super::{finds, register_all};
use crate::harness::{TestServer, encoded};

on_both_stores!(
    capabilities_and_metadata_are_found_by_containment,
    numbers_are_compared_by_value_and_exactly,
    the_two_columns_are_asked_for_separately,
    keys_and_strings_are_compared_as_they_are,
);

async fn capabilities_and_metadata_are_found_by_containment(server: &TestServer) {
    for column in ["capabilities", "metadata"] {
        let objects = [
            ("array", json!({"c": ["pay", "refund", {"deep": [1, 2]}]})),
            ("empty", json!({})),
            ("nested", json!({"a": {"b": {"c": null, "d": true}}, "c": "pay"})),
            ("scalar", json!({"c": "refund", "n": 1})),
        ];
        let nodes: Vec<Value> = objects
            .iter()
            .map(|(id, object)| json!({"node_id": format!("{column} {id}"), "node_type": "effect", column: object}))
            .collect();
        register_all(server, &nodes).await;
        for (wanted, expected) in [
            (json!({}), &["array", "empty", "nested", "scalar"][..]),
            (json!({"c": ["pay"]}), &["array"]),
            (json!({"c": ["refund", "pay", "pay"]}), &["array"]),
            (json!({"c": ["pay", "fly"]}), &[]),
            (json!({"c": []}), &["array"]),
            (json!({"c": [{"deep": [2]}]}), &["array"]),
            (json!({"c": [{"deep": [3]}]}), &[]),
            (json!({"c": [{}]}), &["array"]),
            (json!({"c": [["pay"]]}), &[]),
            (json!({"c": "pay"}), &["nested"]),
            (json!({"c": {}}), &[]),
            (json!({"a": {}}), &["nested"]),
            (json!({"a": {"b": {"d": true}}}), &["nested"]),
            (json!({"a": {"b": {"c": null}}}), &["nested"]),
            (json!({"a": {"b": {"d": false}}}), &[]),
            (json!({"a": {"b": {"x": null}}}), &[]),
            (json!({"b": {}}), &[]),
            (json!({"n": 1}), &["scalar"]),
            (json!({"n": "1"}), &[]),
            (json!({"n": null}), &[]),
        ] {
            let expected: Vec<String> = expected.iter().map(|id| format!("{column} {id}")).collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            let query = format!("node_id_prefix={column}&{column}={}", encoded(&wanted.to_string()));
            finds(server, &query, &expected).await;
        }
    }
}

async fn numbers_are_compared_by_value_and_exactly(server: &TestServer) {
    for (id, number) in [
        ("big", "12345678901234567890123456789012345678901"),
        ("big+1", "12345678901234567890123456789012345678902"),
        ("hundred", "1e2"),
        ("one", "1.00"),
        ("tenth", "0.1"),
        ("zero", "-0.0"),
    ] {
        let object = format!(r#"{{"n":{number},"list":[{number}]}}"#);
        let body = format!(r#"{{"node_type":"effect","capabilities":{object},"metadata":{object}}}"#);
        server.register(id, body).await;
    }
    for (number, expected) in [
        ("1", &["one"][..]),
        ("1.0", &["one"]),
        ("10e-1", &["one"]),
        ("100", &["hundred"]),
        ("100.0", &["hundred"]),
        ("0", &["zero"]),
        ("-0", &["zero"]),
        ("0.10", &["tenth"]),
        ("0.1000000000000000055511151231257827", &[]),
        ("12345678901234567890123456789012345678901", &["big"]),
        ("12345678901234567890123456789012345678901.0", &["big"]),
        ("12345678901234567890123456789012345678900", &[]),
    ] {
        for column in ["capabilities", "metadata"] {
            for wanted in [format!(r#"{{"n":{number}}}"#), format!(r#"{{"list":[{number}]}}"#)] {
                finds(server, &format!("{column}={}", encoded(&wanted)), expected).await;
            }
        }
    }
}

async fn the_two_columns_are_asked_for_separately(server: &TestServer) {
    let nodes = [
        json!({"node_id": "both", "node_type": "effect", "capabilities": {"k": 1}, "metadata": {"k": 1}}),
        json!({"node_id": "can", "node_type": "effect", "capabilities": {"k": 1}}),
        json!({"node_id": "is", "node_type": "effect", "metadata": {"k": 1}, "endpoints": {"k": "1"}}),
    ];
    register_all(server, &nodes).await;
    let wanted = encoded(r#"{"k":1}"#);
    finds(server, &format!("capabilities={wanted}"), &["both", "can"]).await;
    finds(server, &format!("metadata={wanted}"), &["both", "is"]).await;
    finds(server, &format!("metadata={wanted}&capabilities={wanted}"), &["both"]).await;
}

async fn keys_and_strings_are_compared_as_they_are(server: &TestServer) {
    let texts =
        ["a.b", "a\"b", "a\\b", "a/b", "$.a", "é", "e\u{301}", "🦀", "", " ", "%", "A", "a", "a[0]", "'"];
    let nodes: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"node_id": format!("n{index:02}"), "node_type": "effect", "metadata": {*text: {"in": [text]}}})
        })
        .collect();
    register_all(server, &nodes).await;
    for (index, text) in texts.iter().enumerate() {
        let id = format!("n{index:02}");
        for wanted in [json!({*text: {}}), json!({*text: {"in": [text]}})] {
            finds(server, &format!("metadata={}", encoded(&wanted.to_string())), &[&id]).await;
        }
    }
    // The last of duplicate keys is asked for, and an escape is what it stands for.
    finds(
        server,
        &format!("metadata={}", encoded(r#"{"\u0061":{"in":[1]},"a":{"in":["\u0061"]}}"#)),
        &["n12"],
    )
    .await;
}
