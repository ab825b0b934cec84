//! A key changes the nodes that its patterns cover, and no others.

use reqwest::Method;
use serde_json::{Value, json};

use super::EFFECT;
use crate::harness::keys::KeyFile;
use crate::harness::{Backend, TestServer, ids_of, node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let server = KeyFile::usual().serve(Backend::Postgres, &[]).await;
    a_key_changes_what_it_covers(&server).await;
    a_batch_is_refused_item_by_item_or_as_a_whole(&server).await;
    the_name_of_the_key_is_the_actor(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let server = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    a_key_changes_what_it_covers(&server).await;
    a_batch_is_refused_item_by_item_or_as_a_whole(&server).await;
    the_name_of_the_key_is_the_actor(&server).await;
    server.stop().await;
}

async fn everything(server: &TestServer) -> String {
    server.get_as("reader", "/v1/nodes?limit=1000&consistency=strong").await.text
}

async fn a_key_changes_what_it_covers(server: &TestServer) {
    let reason = r#"{"reason":"disk swap"}"#;
    let named = |id: &str| json!({"node_id": id, "node_type": "effect"}).to_string();
    let registered = server.ask_as(Some("admin"), Method::PUT, &node("other"), EFFECT).await;
    assert_eq!(registered.status, 201);
    let calls = |id: &str| {
        let path = node(id);
        [
            (Method::PUT, path.clone(), EFFECT.to_owned()),
            (Method::POST, "/v1/nodes".to_owned(), named(id)),
            (Method::POST, format!("{path}/heartbeat"), String::new()),
            (Method::PUT, format!("{path}/maintenance"), reason.to_owned()),
            (Method::DELETE, format!("{path}/maintenance"), String::new()),
            (Method::DELETE, path, String::new()),
        ]
    };
    let before = everything(server).await;
    // One that is there, one that isn't, and some that only look as if they were covered.
    for id in [
        "other",
        "nobody",
        "billing",
        "Billing-1",
        "x-billing-1",
        "billing%2D1",
        "../billing-1",
        "billing\u{2010}1",
    ] {
        for (method, path, body) in calls(id) {
            let answer = server.ask_as(Some("billing"), method.clone(), &path, &body).await;
            answer.problem(403, "forbidden");
            let challenge = answer.header("www-authenticate");
            assert_eq!(
                challenge,
                Some(r#"Bearer realm="onex-registry", error="insufficient_scope""#),
                "{method} {path}"
            );
        }
    }
    for (method, path) in [
        (Method::PUT, "/v1/nodes/"),
        (Method::DELETE, "/v1/nodes/"),
        (Method::POST, "/v1/nodes//heartbeat"),
        (Method::PUT, "/v1/nodes//maintenance"),
        (Method::DELETE, "/v1/nodes//maintenance"),
    ] {
        let answer = server.ask_as(Some("billing"), method, path, reason).await;
        answer.problem(403, "forbidden");
    }
    assert_eq!(everything(server).await, before, "nothing has changed");
    for (name, id) in [("billing", "billing-1"), ("writer", "anything"), ("admin", "billing-2")] {
        for (method, path, body) in calls(id) {
            let answer = server.ask_as(Some(name), method.clone(), &path, &body).await;
            assert!(answer.status < 300, "{name} {method} {path}: {}", answer.text);
        }
    }
    assert_eq!(server.get_as("billing", &node("other")).await.status, 200, "what is read is not limited");
    let listed = server.get_as("billing", "/v1/nodes").await.json();
    assert_eq!(ids_of(&listed), ["other"]);
}

async fn a_batch_is_refused_item_by_item_or_as_a_whole(server: &TestServer) {
    let item = |id: &str| json!({"node_id": id, "node_type": "reducer"});
    let batch = json!({"nodes": [
        item("billing-1"), item("other"), item("billing-2"), item("new"), {"node_id": "other"}, item("billing-1"),
    ]});
    let answer = server.ask_as(Some("billing"), Method::POST, "/v1/batch/nodes", &batch.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json()["results"].clone();
    let statuses: Vec<(&Value, &Value)> =
        results.as_array().unwrap().iter().map(|result| (&result["node_id"], &result["status"])).collect();
    let expected = [
        (&json!("billing-1"), &json!(201)),
        (&json!("other"), &json!(403)),
        (&json!("billing-2"), &json!(201)),
        (&json!("new"), &json!(403)),
        (&json!("other"), &json!(422)),
        (&json!("billing-1"), &json!(200)),
    ];
    assert_eq!(statuses, expected);
    assert_eq!(results[1]["problem"]["type"], "/problems/forbidden");
    assert_eq!(results[1]["problem"]["correlation_id"], answer.header("x-correlation-id").unwrap());
    let listed = server.get_as("reader", "/v1/nodes").await.json();
    assert_eq!(ids_of(&listed), ["billing-1", "billing-2", "other"]);
    assert_eq!(listed["nodes"][2]["node_type"], "effect", "it is as it was");

    let before = everything(server).await;
    let mixed = json!({"node_ids": ["billing-1", "other", "billing-2", "no\u{202e}body"]}).to_string();
    for path in ["/v1/batch/heartbeats", "/v1/batch/deregister"] {
        let answer = server.ask_as(Some("billing"), Method::POST, path, &mixed).await;
        assert_eq!(answer.problem(403, "forbidden"), ["/node_ids/1", "/node_ids/3"], "{path}");
        let said = answer.json()["errors"].to_string();
        assert!(said.contains("'other'") && said.contains("no\u{FFFD}body"), "{said}");
    }
    let many: Vec<String> = (0..3_000).map(|number| format!("node-{number}")).collect();
    let many = json!({"node_ids": many}).to_string();
    let answer = server.ask_as(Some("billing"), Method::POST, "/v1/batch/heartbeats", &many).await;
    assert_eq!(
        answer.problem(403, "forbidden").len(),
        1_001,
        "a thousand are named, and the rest is counted"
    );
    assert_eq!(everything(server).await, before, "nothing was done");
    let own = json!({"node_ids": ["billing-1", "billing-2"]}).to_string();
    let beats = server.ask_as(Some("billing"), Method::POST, "/v1/batch/heartbeats", &own).await;
    assert_eq!(beats.json()["accepted"], 2);
    let gone = server.ask_as(Some("billing"), Method::POST, "/v1/batch/deregister", &own).await;
    assert_eq!(gone.json()["deregistered"], 2);
    let metrics = server.get_as("reader", "/metrics").await.text;
    let counted = metrics.lines().find(|line| line.contains("reason=\"not_covered\"")).unwrap();
    assert!(!counted.ends_with(" 0"), "{counted}");
}

async fn the_name_of_the_key_is_the_actor(server: &TestServer) {
    let events = server.get_as("reader", "/v1/events?limit=1000").await.json();
    let events = events["events"].as_array().unwrap();
    let of = |id: &str, kind: &str| {
        let event = events.iter().find(|event| event["node_id"] == id && event["kind"] == kind);
        event.unwrap_or_else(|| panic!("{id} {kind}: {events:?}"))["actor"].clone()
    };
    assert_eq!(of("other", "registered"), "admin");
    for kind in ["registered", "maintenance", "deregistered"] {
        assert_eq!(of("billing-1", kind), "billing", "{kind}");
        assert_eq!(of("anything", kind), "writer", "{kind}");
    }
    assert_eq!(of("billing-2", "deregistered"), "admin", "the first of the two");
}
