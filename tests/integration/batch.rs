//! Many nodes in one request: each item is on its own, and the answer says what became of it.

use serde_json::{Value, json};

use crate::harness::{TestServer, node, places_of};

on_both_stores!(
    a_thousand_nodes_register_and_deregister_at_once,
    a_bad_item_harms_no_other,
    the_same_id_twice_is_applied_in_order,
    an_item_that_changes_nothing_is_no_new_revision,
    a_batch_that_is_none_stores_nothing,
    an_item_names_its_faults_up_to_a_bound,
    a_deregistration_says_which_ids_were_unknown,
    a_deregistration_that_is_none_removes_nothing,
    a_surrogate_is_never_taken_for_the_id_that_its_text_spells,
    a_batch_keeps_heartbeats_and_first_registrations,
);

async fn results(server: &TestServer, nodes: Value) -> Vec<Value> {
    let answer = server.post("/v1/batch/nodes", json!({"nodes": nodes})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["results"].as_array().unwrap().clone()
}

fn effect(id: &str) -> Value {
    json!({"node_id": id, "node_type": "effect"})
}

fn revision(result: &Value) -> i64 {
    result["revision"].as_i64().unwrap_or_else(|| panic!("{result}"))
}

async fn a_thousand_nodes_register_and_deregister_at_once(server: &TestServer) {
    // Not in the order of their ids.
    let ids: Vec<String> = (0..1_000).map(|n| format!("n{:03}", n * 387 % 1_000)).collect();
    let nodes: Vec<Value> = ids.iter().map(|id| effect(id)).collect();
    let registered = results(server, json!(nodes)).await;
    assert_eq!(registered.len(), 1_000);
    for (index, (result, id)) in registered.iter().zip(&ids).enumerate() {
        assert_eq!((&result["index"], &result["node_id"]), (&json!(index), &json!(id)));
        assert_eq!((&result["status"], &result["problem"]), (&json!(201), &Value::Null));
    }
    let page = server.get("/v1/nodes?limit=1000").await.json();
    for record in page["nodes"].as_array().unwrap() {
        let id = record["node_id"].as_str().unwrap();
        let index = ids.iter().position(|other| other == id).unwrap();
        assert_eq!(record["revision"], registered[index]["revision"], "{id}");
    }
    assert_eq!(page["nodes"].as_array().unwrap().len(), 1_000);

    let one = results(server, json!([effect("one")])).await;
    assert_eq!((one.len(), &one[0]["status"]), (1, &json!(201)));
    let gone = server.post("/v1/batch/deregister", json!({"node_ids": ids})).await;
    assert_eq!(gone.json(), json!({"deregistered": 1_000, "unknown": []}));
    assert_eq!(server.ids("").await, ["one"]);
}

async fn a_bad_item_harms_no_other(server: &TestServer) {
    let nodes = json!([
        effect("good-1"),
        {"node_id": "bad-type", "node_type": "planet"},
        effect("good-2"),
        {"node_id": " ", "node_type": "effect"},
        {"node_type": "effect"},
        "no object",
        null,
        {"node_id": "bad-fields", "node_type": "effect", "node_version": "1", "colour": "red"},
        {"node_id": "bad-jsonb", "node_type": "effect", "metadata": {"a": "\u{0}"}},
        {"node_id": 5},
        effect("good-3"),
    ]);
    let expected: [(&str, &[&str]); 11] = [
        ("good-1", &[]),
        ("bad-type", &["/node_type"]),
        ("good-2", &[]),
        ("", &["/node_id"]),
        ("", &["/node_id"]),
        ("", &[""]),
        ("", &[""]),
        ("bad-fields", &["/colour", "/node_version"]),
        ("bad-jsonb", &["/metadata/a"]),
        ("", &["/node_id", "/node_type"]),
        ("good-3", &[]),
    ];
    let found = results(server, nodes).await;
    assert_eq!(found.len(), expected.len());
    for (index, (result, (id, places))) in found.iter().zip(expected).enumerate() {
        assert_eq!(result["index"], index);
        let id = if id.is_empty() { Value::Null } else { json!(id) };
        assert_eq!(result["node_id"], id, "{result}");
        if places.is_empty() {
            assert_eq!((&result["status"], &result["problem"]), (&json!(201), &Value::Null), "{result}");
            assert!(revision(result) > 0);
        } else {
            assert_eq!((&result["status"], &result["revision"]), (&json!(422), &Value::Null), "{result}");
            assert_eq!(
                (&result["problem"]["type"], &result["problem"]["status"]),
                (&json!("/problems/validation"), &json!(422))
            );
            let mut found = places_of(&result["problem"]);
            found.sort();
            assert_eq!(found, places, "{result}");
        }
    }
    assert_eq!(server.ids("").await, ["good-1", "good-2", "good-3"]);
}

async fn the_same_id_twice_is_applied_in_order(server: &TestServer) {
    let version = |id: &str, n: u32| json!({"node_id": id, "node_type": "effect", "metadata": {"n": n}});
    let found = results(
        server,
        json!([version("a", 1), version("b", 1), version("a", 2), {"node_id": "a"}, version("a", 2), version("a", 1), version("b", 1)]),
    )
    .await;
    let statuses: Vec<&Value> = found.iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [201, 201, 200, 422, 200, 200, 200]);
    assert!(revision(&found[0]) < revision(&found[2]), "{found:?}");
    assert_eq!(revision(&found[4]), revision(&found[2]), "nothing changed");
    assert!(revision(&found[5]) > revision(&found[4]), "{found:?}");
    assert_eq!(revision(&found[6]), revision(&found[1]), "nothing changed");
    let record = server.get(&node("a")).await.json();
    assert_eq!((&record["metadata"], &record["revision"]), (&json!({"n": 1}), &found[5]["revision"]));
}

async fn an_item_that_changes_nothing_is_no_new_revision(server: &TestServer) {
    let first = results(server, json!([effect("a"), effect("b")])).await;
    let mut changed = effect("b");
    changed["ttl_seconds"] = json!(5);
    let again = results(server, json!([effect("a"), changed, effect("c")])).await;
    let statuses: Vec<&Value> = again.iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [200, 200, 201]);
    assert_eq!(again[0]["revision"], first[0]["revision"]);
    assert!(revision(&again[1]) > revision(&first[1]));
}

async fn a_batch_that_is_none_stores_nothing(server: &TestServer) {
    server.register("there", r#"{"node_type":"effect"}"#).await;
    let before = server.everything().await;
    let too_many: Vec<Value> = (0..1_001).map(|n| effect(&format!("n{n}"))).collect();
    let good = effect("new");
    for (body, places) in [
        (json!({"nodes": too_many}), &["/nodes"][..]),
        (json!({"nodes": []}), &["/nodes"]),
        (json!({"nodes": {"0": good}}), &["/nodes"]),
        (json!({"nodes": null}), &["/nodes"]),
        (json!({"nodes": "x"}), &["/nodes"]),
        (json!({}), &["/nodes"]),
        (json!([good]), &[""]),
        (json!("nodes"), &[""]),
        (good.clone(), &["/node_id", "/node_type", "/nodes"]),
        (json!({"nodes": [good], "colour": "red"}), &["/colour"]),
        (json!({"nodes": [good], "a~/b": 1, "node_ids": []}), &["/a~0~1b", "/node_ids"]),
    ] {
        let answer = server.post("/v1/batch/nodes", &body).await;
        let mut found = answer.problem(422, "validation");
        found.sort();
        assert_eq!(found, places, "{body}");
    }
    assert_eq!(server.everything().await, before);
    let detail = server.post("/v1/batch/nodes", json!({"nodes": too_many})).await.json();
    assert!(detail["errors"][0]["detail"].as_str().unwrap().contains("1001"), "{detail}");
    // The last of duplicate fields wins.
    let twice = format!(r#"{{"nodes":[],"nodes":[{good}]}}"#);
    assert_eq!(server.post("/v1/batch/nodes", twice).await.json()["results"][0]["status"], 201);
}

async fn an_item_names_its_faults_up_to_a_bound(server: &TestServer) {
    let numbers = vec!["1e131071"; 500].join(",");
    let item = format!(r#"{{"node_id":"n","node_type":"effect","metadata":{{"n":[{numbers}]}}}}"#);
    let body = format!(r#"{{"nodes":[{item},{item}]}}"#);
    let answer = server.post("/v1/batch/nodes", body).await.json();
    for result in answer["results"].as_array().unwrap() {
        assert_eq!((&result["node_id"], &result["status"]), (&json!("n"), &json!(422)));
        let errors = result["problem"]["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 21);
        assert_eq!(errors[19]["pointer"], "/metadata/n/19");
        assert_eq!(errors[20]["detail"], "480 more faults are not listed");
        assert_eq!(result["problem"]["detail"], "500 rules are broken");
    }
    assert!(server.ids("").await.is_empty());
}

async fn a_deregistration_says_which_ids_were_unknown(server: &TestServer) {
    results(server, json!([effect("a"), effect("b"), effect("c"), effect("d")])).await;
    let long = "x".repeat(256);
    let ids = json!(["a", "nobody", "a", "c", "", "..", "\0", long, "A", "a\u{0}", " b"]);
    let answer = server.post("/v1/batch/deregister", json!({"node_ids": ids})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(body["deregistered"], 2, "a node is deregistered once");
    let mut unknown: Vec<&str> =
        body["unknown"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    unknown.sort_unstable();
    let mut expected = ["nobody", "", "..", "\0", long.as_str(), "A", "a\u{0}", " b"];
    expected.sort_unstable();
    assert_eq!(unknown, expected);
    assert_eq!(server.ids("").await, ["b", "d"]);
    server.get(&node("a")).await.problem(404, "node-not-found");

    let again = server.post("/v1/batch/deregister", json!({"node_ids": ["a"]})).await;
    assert_eq!(again.json(), json!({"deregistered": 0, "unknown": ["a"]}));
}

async fn a_deregistration_that_is_none_removes_nothing(server: &TestServer) {
    server.register("there", r#"{"node_type":"effect"}"#).await;
    let before = server.everything().await;
    let too_many: Vec<String> = (0..1_000).map(|n| format!("n{n}")).chain(["there".to_owned()]).collect();
    for (body, places) in [
        (json!({"node_ids": too_many}), &["/node_ids"][..]),
        (json!({"node_ids": []}), &["/node_ids"]),
        (json!({"node_ids": "there"}), &["/node_ids"]),
        (json!({"node_ids": null}), &["/node_ids"]),
        (json!({}), &["/node_ids"]),
        (json!(["there"]), &[""]),
        (json!({"node_ids": ["there"], "nodes": []}), &["/nodes"]),
        (
            json!({"node_ids": ["there", 1, null, ["there"], {"node_id": "there"}, true]}),
            &["/node_ids/1", "/node_ids/2", "/node_ids/3", "/node_ids/4", "/node_ids/5"],
        ),
    ] {
        let answer = server.post("/v1/batch/deregister", &body).await;
        assert_eq!(answer.problem(422, "validation"), places, "{body}");
    }
    assert_eq!(server.everything().await, before);
}

async fn a_surrogate_is_never_taken_for_the_id_that_its_text_spells(server: &TestServer) {
    let spelled = r#""\ud800""#;
    server.register(spelled, r#"{"node_type":"effect"}"#).await;
    let before = server.everything().await;
    let body = format!(r#"{{"node_ids":[{},{spelled}]}}"#, json!(spelled));
    let answer = server.post("/v1/batch/deregister", body).await;
    assert_eq!(answer.problem(422, "validation"), ["/node_ids/1"]);
    assert_eq!(server.everything().await, before);
}

async fn a_batch_keeps_heartbeats_and_first_registrations(server: &TestServer) {
    let alive = server.put(&format!("{}?alive=true", node("a")), r#"{"node_type":"effect"}"#).await.json();
    let mut changed = effect("a");
    changed["metadata"] = json!({"n": 1});
    assert_eq!(results(server, json!([changed])).await[0]["status"], 200);
    let record = server.get(&node("a")).await.json();
    assert_eq!(record["last_heartbeat"], alive["last_heartbeat"]);
    assert_eq!(record["registered_at"], alive["registered_at"]);
    assert_eq!((&record["status"], &record["metadata"]), (&json!("healthy"), &json!({"n": 1})));
    assert!(record["updated_at"].as_str() > alive["updated_at"].as_str());
}
