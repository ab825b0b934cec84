//! Every answer that can be provoked is as the document says.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Document, Operation};
use crate::harness::keys::{KeyFile, secret};
use crate::harness::sql::eventually;
use crate::harness::{Answer, Backend, TestServer, node};

on_both_stores!(
    every_answer_is_as_documented,
    a_record_and_a_result_have_all_their_fields_even_if_null,
    what_a_watch_is_sent_is_as_documented,
);

/// What only a database that is away, slow or full answers, a client that is slow or sends too much, or a server that has
/// keys.
const NOT_PROVOKED_HERE: [&str; 8] = ["401", "403", "408", "429", "500", "503", "504", "507"];

/// Asks, checks the answers, and remembers which were seen.
struct Client<'s> {
    server: &'s TestServer,
    document: Document,
    seen: BTreeSet<(String, String)>,
}

impl Client<'_> {
    async fn ask(&mut self, call: &Operation, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let method = Method::from_bytes(call.method.to_uppercase().as_bytes()).unwrap();
        let mut request = self.server.request(method, path);
        if call.request().is_some() {
            let given = headers.iter().any(|(name, _)| *name == "content-type");
            request = request.body(body.to_owned());
            request = if given { request } else { request.header("content-type", "application/json") };
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = Answer::of(request).await;
        call.check(&self.document, &answer);
        self.seen.insert((call.id().to_owned(), answer.status.to_string()));
        answer
    }

    /// Signs of life, and maintenance, of a registered node.
    async fn ask_of_life(&mut self, path: &str, unknown: &Value) {
        let call = |method: &str, path: &str| Document::read().operation(method, path);
        let never = [("if-match", "\"0.0\"")];
        let beats = json!({"node_ids": ["n", "nobody", "\0"]});
        for ids in [&beats, unknown] {
            self.ask(&call("post", "/v1/batch/heartbeats"), "/v1/batch/heartbeats", &ids.to_string(), &[])
                .await;
        }
        let heartbeat = call("post", "/v1/nodes/{node_id}/heartbeat");
        for path in [path.to_owned(), node("nobody"), "/v1/nodes/%FF".to_owned()] {
            self.ask(&heartbeat, &format!("{path}/heartbeat"), "", &[]).await;
        }
        for method in ["put", "delete"] {
            let maintenance = call(method, "/v1/nodes/{node_id}/maintenance");
            for (path, headers) in [
                (path.to_owned(), &[][..]),
                (node("nobody"), &[]),
                (path.to_owned(), &never),
                (path.to_owned(), &[("if-match", "x")]),
            ] {
                let path = format!("{path}/maintenance");
                self.ask(&maintenance, &path, r#"{"reason":"disk swap"}"#, headers).await;
                self.ask(&heartbeat, &format!("{path}/heartbeat"), "", &[]).await;
            }
        }
    }
}

async fn every_answer_is_as_documented(server: &TestServer) {
    let mut client = Client { server, document: Document::read(), seen: BTreeSet::new() };
    let calls = client.document.operations();
    let call = |method: &str, path: &str| Document::read().operation(method, path);

    let effect =
        r#"{"node_type":"effect","node_version":"1.2.3","ttl_seconds":60,"health_endpoint":"http://h/"}"#;
    let with_id = r#"{"node_id":"a/b","node_type":"effect"}"#;
    let never = [("if-match", "\"0.0\"")];
    for (call, path, body) in [
        (call("put", "/v1/nodes/{node_id}"), node("n"), effect),
        (call("post", "/v1/nodes"), "/v1/nodes".to_owned(), with_id),
    ] {
        for alive in ["", "?alive=true"] {
            client.ask(&call, &format!("{path}{alive}"), body, &[]).await;
        }
        client.ask(&call, &path, body, &never).await;
        client.ask(&call, &path, body, &[("if-none-match", "*")]).await;
        client.ask(&call, &path, body, &[("if-match", "x")]).await;
    }
    for (call, path) in
        [(call("get", "/v1/nodes/{node_id}"), node("n")), (call("get", "/v1/nodes"), "/v1/nodes".into())]
    {
        let found = client.ask(&call, &path, "", &[]).await;
        let tag = found.header("etag").unwrap();
        client.ask(&call, &path, "", &[("if-none-match", tag)]).await;
        client.ask(&call, &format!("{path}?consistency=strong"), "", &[]).await;
        client.ask(&call, &format!("{path}?colour=red"), "", &[]).await;
    }
    client.ask(&call("get", "/v1/nodes"), "/v1/nodes?limit=1", "", &[]).await;
    client.ask(&call("get", "/v1/nodes/{node_id}"), &node("nobody"), "", &[]).await;
    let batch = json!({"nodes": [
        {"node_id": "m", "node_type": "reducer"}, {"node_id": "m", "node_type": "reducer"}, {"node_id": ""}, 1
    ]});
    client.ask(&call("post", "/v1/batch/nodes"), "/v1/batch/nodes", &batch.to_string(), &[]).await;
    let ids = json!({"node_ids": ["m", "nobody", "\0"]});
    client.ask(&call("post", "/v1/batch/deregister"), "/v1/batch/deregister", &ids.to_string(), &[]).await;
    client.ask_of_life(&node("n"), &ids).await;
    let delete = call("delete", "/v1/nodes/{node_id}");
    client.ask(&delete, &node("n"), "", &never).await;
    client.ask(&delete, &format!("{}?colour=red", node("n")), "", &[]).await;
    for _ in 0..2 {
        client.ask(&delete, &node("n"), "", &[]).await;
    }
    for query in ["", "?kind=updated&node_id=n&limit=1", "?after=1000000", "?colour=red"] {
        client.ask(&call("get", "/v1/events"), &format!("/v1/events{query}"), "", &[]).await;
    }
    eventually("it is ready", async || server.get("/readyz").await.status == 200).await;
    for query in ["", "?snapshot=true", "?after=1000000", "?colour=red"] {
        client.ask(&call("get", "/v1/watch"), &format!("/v1/watch{query}"), "", &[]).await;
    }
    let prometheus = "/v1/discovery/prometheus";
    for query in ["", "?endpoint=grpc", "?colour=red"] {
        client.ask(&call("get", prometheus), &format!("{prometheus}{query}"), "", &[]).await;
    }
    for query in ["", "?colour=red"] {
        for path in ["/v1/summary", "/v1/summary/history"] {
            client.ask(&call("get", path), &format!("{path}{query}"), "", &[]).await;
        }
    }
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        client.ask(&call("get", path), path, "", &[]).await;
    }
    for call in calls.iter().filter(|call| call.request().is_some()) {
        let path = call.path.replace("{node_id}", "n");
        let large = ["registerNodes", "heartbeats"].contains(&call.id());
        let limit = if large { 16 } else { 2 } * 1024 * 1024;
        for (body, headers) in [
            ("{", &[][..]),
            ("[]", &[]),
            ("{}", &[("content-type", "text/plain")]),
            (&" ".repeat(limit + 1), &[]),
        ] {
            client.ask(call, &path, body, headers).await;
        }
    }

    let documented: BTreeSet<(String, String)> = calls
        .iter()
        .flat_map(|call| {
            let statuses = call.body["responses"].as_object().unwrap().keys();
            statuses.map(|status| (call.id().to_owned(), status.clone())).collect::<Vec<_>>()
        })
        .filter(|(_, status)| !NOT_PROVOKED_HERE.contains(&status.as_str()))
        // Nothing of it is read but the key, see below.
        .filter(|(id, status)| !(id == "metrics" && status == "400"))
        // It takes a rule of the database's owner, see `plain_sql::rules_of_the_owner`.
        .filter(|(id, status)| {
            let bodiless = ["deregisterNode", "heartbeat", "endMaintenance"].contains(&id.as_str());
            !(bodiless && status == "422")
        })
        .collect();
    let missing: Vec<_> = documented.difference(&client.seen).collect();
    assert!(missing.is_empty(), "documented and never seen: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_let_in_is_answered_as_documented() {
    let mut server = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    let document = Document::read();
    let shown = [None, Some("a b".to_owned()), Some(secret("reader")), Some(secret("billing"))];
    let mut seen = BTreeSet::new();
    for key in shown {
        server.key = key;
        for call in document.operations().iter().filter(|call| call.body["security"][0].is_object()) {
            let ids = r#"{"node_ids":["n"]}"#;
            let method = Method::from_bytes(call.method.to_uppercase().as_bytes()).unwrap();
            let path = call.path.replace("{node_id}", "n");
            let answer = server.send(method, &path, ids, &[]).await;
            call.check(&document, &answer);
            seen.insert((call.id().to_owned(), answer.status));
        }
    }
    for call in document.operations() {
        for status in ["400", "401", "403"] {
            let is_documented = call.body["responses"][status].is_object();
            let is_of_keys = call.body["security"][0].is_object();
            let is_seen = seen.contains(&(call.id().to_owned(), status.parse().unwrap()));
            assert!(!is_of_keys || is_documented == is_seen, "{} {status}", call.id());
        }
    }
    server.stop().await;
}

async fn a_record_and_a_result_have_all_their_fields_even_if_null(server: &TestServer) {
    let document = Document::read();
    let expected = |name: &str| -> Vec<String> {
        let schema = &document.0["components"]["schemas"][name];
        let mut required: Vec<String> = schema["required"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        required.sort();
        let properties: Vec<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(required, properties, "{name}: null fields are present, not left out");
        required
    };
    let keys = |object: &Value| -> Vec<String> { object.as_object().unwrap().keys().cloned().collect() };
    let record = server.register("n", r#"{"node_type":"effect"}"#).await;
    assert_eq!(keys(&record), expected("NodeRecord"));
    let page = server.get("/v1/nodes").await.json();
    assert_eq!((keys(&page), keys(&page["nodes"][0])), (expected("NodePage"), expected("NodeRecord")));
    let events = server.get("/v1/events").await.json();
    assert_eq!((keys(&events), keys(&events["events"][0])), (expected("EventPage"), expected("Event")));
    let summary = server.get("/v1/summary").await.json();
    assert_eq!(keys(&summary), expected("Summary"));
    for (list, schema) in [
        ("by_type", "TypeCount"),
        ("by_type_and_version", "VersionCount"),
        ("by_type_and_status", "TypeStatusCount"),
    ] {
        assert_eq!(keys(&summary[list][0]), expected(schema));
    }
    assert_eq!(keys(&summary["by_status"]), expected("StatusCounts"));
    let mut history = json!(null);
    eventually("the nodes were counted", async || {
        history = server.get("/v1/summary/history").await.json();
        history["samples"][0].is_object()
    })
    .await;
    assert_eq!(keys(&history), expected("SummaryHistory"));
    assert_eq!(keys(&history["samples"][0]), expected("SummarySample"));
    assert_eq!(keys(&summary["not_listed"]), expected("NotListed"));
    let batch = server.post("/v1/batch/nodes", r#"{"nodes":[1,{"node_id":"n","node_type":"effect"}]}"#).await;
    for result in batch.json()["results"].as_array().unwrap() {
        assert_eq!(keys(result), expected("RegistrationResult"));
    }
    assert_eq!(keys(&batch.json()["results"][0]["problem"]), expected("Problem"));
}

async fn what_a_watch_is_sent_is_as_documented(server: &TestServer) {
    let document = Document::read();
    let is = |name: &str, data: &Value| {
        document.validator(&json!({"$ref": format!("#/components/schemas/{name}")})).is_valid(data)
    };
    server.register("n", r#"{"node_type":"effect"}"#).await;
    let mut watch = server.watch("snapshot=true").await;
    let first = watch.next().await;
    assert!(first.name == "snapshot" && is("NodeRecord", &first.data), "{first:?}");
    watch.next().await;
    server.register("n", r#"{"node_type":"compute"}"#).await;
    server.delete(&node("n")).await;
    // Open as a schema that is made of others has to be.
    let mut change = document.0["components"]["schemas"]["Change"].clone();
    change["components"] = document.0["components"].clone();
    let change = jsonschema::validator_for(&change).unwrap();
    for name in ["change", "removed"] {
        let mut told = watch.next().await;
        assert_eq!(told.name, name);
        assert!(change.is_valid(&told.data), "{told:?}");
        let present = told.data.as_object_mut().unwrap().remove("node").unwrap();
        assert!(present.is_null() || is("NodeRecord", &present), "{present}");
        assert!(is("Event", &told.data), "and nothing else: {told:?}");
        assert!(!change.is_valid(&told.data), "the node is a part of it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_is_answered_as_documented() {
    let server = TestServer::start_with(Backend::Sqlite, &["--body-timeout=100ms"]).await;
    let document = Document::read();
    for call in document.operations().iter().filter(|call| call.request().is_some()) {
        let path = call.path.replace("{node_id}", "n");
        let request = format!(
            "{} {path} HTTP/1.1\r\nHost: registry\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n",
            call.method.to_uppercase()
        );
        let answer = server.bytes(request.into_bytes()).await;
        assert_eq!(answer.status, 408);
        call.check(&document, &answer);
    }
    server.stop().await;
}
