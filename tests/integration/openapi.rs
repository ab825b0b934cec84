//! The OpenAPI document: it is current, valid, and what it says of requests and answers is so.

use std::collections::BTreeSet;

use jsonschema::Validator;
use onex_registry::http::openapi::document_json;
use reqwest::Method;
use roas::validation::{Options, Validate as _};
use serde_json::{Value, json};

use crate::harness::{Answer, TestServer, encoded};

mod answers;
mod examples;
mod requests;

on_both_stores!(the_server_answers_the_document_that_is_checked_in, a_path_has_the_methods_of_the_document);

/// Every call of the API. A new route is documented, and named here.
const OPERATIONS: [(&str, &str); 20] = [
    ("get", "/livez"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("get", "/readyz"),
    ("post", "/v1/batch/deregister"),
    ("post", "/v1/batch/heartbeats"),
    ("post", "/v1/batch/nodes"),
    ("get", "/v1/discovery/prometheus"),
    ("get", "/v1/events"),
    ("get", "/v1/nodes"),
    ("post", "/v1/nodes"),
    ("delete", "/v1/nodes/{node_id}"),
    ("get", "/v1/nodes/{node_id}"),
    ("put", "/v1/nodes/{node_id}"),
    ("post", "/v1/nodes/{node_id}/heartbeat"),
    ("delete", "/v1/nodes/{node_id}/maintenance"),
    ("put", "/v1/nodes/{node_id}/maintenance"),
    ("get", "/v1/summary"),
    ("get", "/v1/summary/history"),
    ("get", "/v1/watch"),
];

async fn the_server_answers_the_document_that_is_checked_in(server: &TestServer) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == document_json(),
        "openapi/openapi.json is not what the code says; write it with: cargo run -- openapi > openapi/openapi.json"
    );
    let answer = server.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.text, checked_in);
}

#[test]
fn the_document_is_valid_openapi_3_1() {
    let spec: roas::v3_1::spec::Spec = serde_json::from_str(document_json()).unwrap();
    // What a stream is made of has its schema, and OpenAPI 3.1 has no way to say where.
    spec.validate(Options::empty() | Options::IgnoreUnusedSchemas, None).unwrap();

    let mut broken = Document::read();
    broken.0["paths"]["/livez"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"] =
        json!("#/components/schemas/Nothing");
    let spec: roas::v3_1::spec::Spec = serde_json::from_value(broken.0).unwrap();
    assert!(spec.validate(Options::empty(), None).is_err(), "the validator sees what is broken");
}

#[test]
fn the_schemas_are_valid_json_schema() {
    let document = Document::read();
    for (name, schema) in document.0["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}: {schema}");
        document.validator(schema);
    }
}

#[test]
fn the_document_has_every_call_and_no_other() {
    let found: Vec<(String, String)> =
        Document::read().operations().into_iter().map(|call| (call.method, call.path)).collect();
    let expected: Vec<(String, String)> =
        OPERATIONS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(found, expected);
}

async fn a_path_has_the_methods_of_the_document(server: &TestServer) {
    let paths: BTreeSet<&str> = OPERATIONS.iter().map(|(_, path)| *path).collect();
    for path in paths {
        let mut allowed: Vec<String> =
            OPERATIONS.iter().filter(|call| call.1 == path).map(|call| call.0.to_uppercase()).collect();
        if allowed.contains(&"GET".to_owned()) {
            allowed.push("HEAD".to_owned());
        }
        allowed.sort();
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let request = server.request(Method::from_bytes(method.as_bytes()).unwrap(), path);
            let answer = Answer::of(request).await;
            if allowed.contains(&method.to_owned()) {
                assert_ne!(answer.status, 405, "{method} {path}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}");
            if method != "HEAD" {
                answer.problem(405, "method-not-allowed");
            }
            let mut listed: Vec<&str> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
            listed.sort_unstable();
            assert_eq!(listed, allowed, "{method} {path}");
        }
    }
}

struct Document(Value);

/// A call of the document.
struct Operation {
    method: String,
    path: String,
    body: Value,
}

impl Document {
    fn read() -> Self {
        Self(serde_json::from_str(document_json()).unwrap())
    }

    fn operations(&self) -> Vec<Operation> {
        let mut found = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, body) in item.as_object().unwrap() {
                found.push(Operation { method: method.clone(), path: path.clone(), body: body.clone() });
            }
        }
        found
    }

    fn operation(&self, method: &str, path: &str) -> Operation {
        let wanted = self.operations().into_iter().find(|call| call.method == method && call.path == path);
        wanted.unwrap_or_else(|| panic!("{method} {path} is in the document"))
    }

    /// A validator that knows the components, and refuses what they don't mention.
    fn validator(&self, schema: &Value) -> Validator {
        let mut components = self.0["components"].clone();
        for component in components["schemas"].as_object_mut().unwrap().values_mut() {
            if component["properties"].is_object() {
                component["additionalProperties"] = json!(false);
            }
        }
        let mut root = schema.clone();
        root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        root["components"] = components;
        jsonschema::validator_for(&root).unwrap_or_else(|error| panic!("{schema}: {error}"))
    }

    /// Follows a reference to a component.
    fn resolve<'d>(&'d self, schema: &'d Value) -> &'d Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        }
    }
}

impl Operation {
    fn id(&self) -> &str {
        self.body["operationId"].as_str().unwrap()
    }

    /// The schema and the example of the request body, if it has one.
    fn request(&self) -> Option<&Value> {
        self.body.pointer("/requestBody/content/application~1json")
    }

    /// Checks an answer to this call: the status, the header fields and the body are those of the document.
    fn check(&self, document: &Document, answer: &Answer) {
        let call = format!("{} {} -> {}: {}", self.method, self.path, answer.status, answer.text);
        let described = &self.body["responses"][answer.status.to_string()];
        assert!(described.is_object(), "the status is documented: {call}");
        for (name, header) in described["headers"].as_object().unwrap() {
            // Said only when there is something to say.
            if name == "Registry-Stale-Seconds" && answer.header(name).is_none() {
                continue;
            }
            let value = answer.header(name).unwrap_or_else(|| panic!("{name} is there: {call}"));
            let value = match header["schema"]["type"].as_str() {
                Some("integer") => json!(value.parse::<i64>().unwrap()),
                _ => json!(value),
            };
            assert!(document.validator(&header["schema"]).is_valid(&value), "{name}: {value}: {call}");
        }
        let Some(content) = described.get("content") else {
            assert_eq!(answer.text, "", "{call}");
            assert_eq!(answer.header("content-type"), None, "{call}");
            return;
        };
        let media_type = answer.header("content-type").unwrap();
        let schema = &content[media_type]["schema"];
        assert!(schema.is_object(), "{media_type} is documented: {call}");
        let body = if media_type.ends_with("json") { answer.json() } else { json!(answer.text) };
        let errors: Vec<String> =
            document.validator(schema).iter_errors(&body).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {call}");
    }

    /// The path with the examples of its parameters in it.
    fn example_path(&self) -> String {
        let mut path = self.path.clone();
        for parameter in self.parameters("path") {
            let name = parameter["name"].as_str().unwrap();
            let example = parameter["example"].as_str().unwrap_or_else(|| panic!("{name} has an example"));
            path = path.replace(&format!("{{{name}}}"), &encoded(example));
        }
        assert!(!path.contains('{'), "every parameter of {path} is documented");
        path
    }

    fn parameters(&self, place: &str) -> impl Iterator<Item = &Value> {
        let all = self.body["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(move |parameter| parameter["in"] == place)
    }
}
