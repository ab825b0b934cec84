//! What the document gives as an example, and what it says may be sent, the server accepts.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Document, Operation};
use crate::harness::sql::eventually;
use crate::harness::{Answer, TestServer, encoded, node};

on_both_stores!(
    every_example_is_accepted,
    a_field_that_is_not_required_may_be_left_out_and_no_other,
    a_field_may_be_null_where_the_document_says_so_and_nowhere_else,
    an_item_of_a_batch_is_a_registration,
);

/// The order of a node's life: registered, found and kept alive, deregistered.
fn rank(call: &Operation) -> usize {
    match call.id() {
        "deregisterNode" => 3,
        "deregisterNodes" => 2,
        id if id.starts_with("register") => 0,
        _ => 1,
    }
}

fn example_of(document: &Document, call: &Operation) -> Option<Value> {
    let content = call.request()?;
    let schema = document.resolve(&content["schema"]);
    let example = content.get("example").or_else(|| schema.get("example"));
    let example = example.unwrap_or_else(|| panic!("{} has an example", call.id()));
    assert!(document.validator(&content["schema"]).is_valid(example), "{}: {example}", call.id());
    Some(example.clone())
}

async fn every_example_is_accepted(server: &TestServer) {
    let document = Document::read();
    eventually("it is ready", async || server.get("/readyz").await.status == 200).await;
    let mut calls = document.operations();
    calls.sort_by_key(rank);
    for call in calls {
        let path = call.example_path();
        let body = example_of(&document, &call);
        let mut queries = vec![String::new()];
        for parameter in call.parameters("query") {
            let name = parameter["name"].as_str().unwrap();
            queries.extend(values_of(parameter).iter().map(|value| format!("?{name}={}", encoded(value))));
        }
        for query in queries {
            let method = Method::from_bytes(call.method.to_uppercase().as_bytes()).unwrap();
            let mut request = server.request(method, &format!("{path}{query}"));
            if let Some(body) = &body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let answer = Answer::of(request).await;
            assert!(answer.status < 300, "{} {path}{query}: {}", call.method, answer.text);
            if call.id() == "heartbeats" {
                assert_eq!(answer.json()["unknown"], json!([]), "its example names those that register");
            }
            if call.id() == "registerNodes" {
                let results = answer.json()["results"].take();
                assert!(
                    results.as_array().unwrap().iter().all(|item| item["problem"].is_null()),
                    "{results}"
                );
            }
        }
    }
    assert!(server.ids("").await.is_empty(), "the examples that deregister name those that register");
}

/// The values that the document names for a parameter: examples, defaults, bounds, all of an enumeration.
fn values_of(parameter: &Value) -> Vec<String> {
    let schema = &parameter["schema"];
    let mut values: Vec<&Value> = Vec::new();
    for source in [parameter, schema] {
        for key in ["example", "default", "minimum", "maximum", "enum"] {
            values.extend(source.get(key));
        }
    }
    values.extend(schema["items"].get("enum"));
    let lists = values.into_iter().flat_map(|value| match value {
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    });
    lists.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
}

fn registration(document: &Document) -> (Value, Value) {
    let schema = &document.0["components"]["schemas"]["Registration"];
    (schema.clone(), schema["example"].clone())
}

async fn a_field_that_is_not_required_may_be_left_out_and_no_other(server: &TestServer) {
    let (schema, example) = registration(&Document::read());
    let required = schema["required"].as_array().unwrap();
    for field in example.as_object().unwrap().keys() {
        let mut body = example.clone();
        body.as_object_mut().unwrap().remove(field);
        let answer = server.put(&node("n"), &body).await;
        assert_eq!(answer.status == 422, required.contains(&json!(field)), "{field}: {}", answer.text);
        assert!(answer.status == 422 || answer.status < 300, "{field}: {}", answer.text);
    }
    let mut least = example;
    least.as_object_mut().unwrap().retain(|field, _| required.contains(&json!(field)));
    let record = server.register("least", &least).await;
    for (field, property) in schema["properties"].as_object().unwrap() {
        if let Some(default) = property.get("default") {
            assert_eq!(&record[field], default, "{field}");
        }
    }
    for field in ["node_version", "capabilities", "endpoints", "metadata"] {
        assert!(schema["properties"][field].get("default").is_some(), "{field} has a default");
    }
}

async fn a_field_may_be_null_where_the_document_says_so_and_nowhere_else(server: &TestServer) {
    let document = Document::read();
    let (schema, example) = registration(&document);
    let validator = document.validator(&json!({"$ref": "#/components/schemas/Registration"}));
    for field in schema["properties"].as_object().unwrap().keys() {
        let mut body = example.clone();
        body[field] = Value::Null;
        let answer = server.put(&node("n"), &body).await;
        assert_eq!(answer.status < 300, validator.is_valid(&body), "{field}: {}", answer.text);
    }
}

async fn an_item_of_a_batch_is_a_registration(server: &TestServer) {
    let (_, mut example) = registration(&Document::read());
    example["node_id"] = json!("n");
    let batch = server.post("/v1/batch/nodes", json!({"nodes": [example]})).await;
    assert_eq!(batch.json()["results"][0]["status"], 201, "{}", batch.text);
}
