//! One node: register, get, deregister.

use serde_json::json;
use sqlx::Connection as _;

use crate::harness::{Answer, Backend, TestServer, node};

on_both_stores!(
    a_node_that_registers_is_there_until_it_deregisters,
    registering_again_keeps_what_it_must_and_counts_only_changes,
    what_is_left_out_has_its_default_the_first_time_and_every_time,
    a_registration_may_count_as_a_sign_of_life,
    a_post_registers_like_a_put,
    the_id_in_a_body_may_repeat_the_one_in_the_path_and_no_other,
    a_head_is_a_get_without_its_body,
    a_node_that_registers_anew_begins_anew,
    each_field_that_changes_is_a_change,
    times_are_in_utc_with_six_decimals,
);

async fn a_node_that_registers_is_there_until_it_deregisters(server: &TestServer) {
    let path = node("payments/effect");
    let body = json!({
        "node_type": "effect",
        "node_version": "1.2.3-rc.1+build",
        "capabilities": {"capabilities": ["pay"]},
        "endpoints": {"grpc": "localhost:50051"},
        "metadata": {"environment": "dev"},
        "health_endpoint": "http://127.0.0.1:9/health",
        "ttl_seconds": 60
    });
    let registered = server.put(&path, &body).await;
    assert_eq!(registered.status, 201);
    assert_eq!(registered.header("location"), Some("/v1/nodes/payments%2Feffect"));

    let record = registered.json();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&record[field], value, "{field}");
    }
    assert_eq!(record["node_id"], "payments/effect");
    assert_eq!((&record["status"], &record["last_heartbeat"]), (&json!("unknown"), &json!(null)));
    assert_eq!(record["maintenance"], json!(null));
    assert_eq!(record["registered_at"], record["updated_at"]);
    assert!(record["revision"].as_i64().unwrap() > 0);

    let found = server.get(&path).await;
    assert_eq!((found.status, &found.text), (200, &registered.text), "a read sees what the write answered");
    assert_eq!(found.header("etag"), registered.header("etag"));
    assert_eq!(found.header("registry-revision").unwrap(), record["revision"].to_string());

    assert_eq!(server.delete(&path).await.status, 204);
    server.delete(&path).await.problem(404, "node-not-found");
    let gone = server.get(&path).await;
    gone.problem(404, "node-not-found");
    let revision: i64 = gone.header("registry-revision").unwrap().parse().unwrap();
    assert!(revision > record["revision"].as_i64().unwrap(), "a deregistration is a change");
}

async fn registering_again_keeps_what_it_must_and_counts_only_changes(server: &TestServer) {
    let body = json!({"node_type": "compute", "metadata": {"n": 1}});
    let first = server.register("n", &body).await;
    let again = server.put(&node("n"), &body).await;
    assert_eq!(again.status, 200);
    let again = again.json();
    assert_eq!(again["revision"], first["revision"], "nothing changed");
    assert_eq!(again["registered_at"], first["registered_at"]);
    assert!(again["updated_at"].as_str() > first["updated_at"].as_str());

    let changed = server.register("n", json!({"node_type": "compute", "metadata": {"n": 2}})).await;
    assert!(changed["revision"].as_i64() > first["revision"].as_i64());
    assert_eq!(changed["registered_at"], first["registered_at"]);
}

async fn what_is_left_out_has_its_default_the_first_time_and_every_time(server: &TestServer) {
    let full = json!({
        "node_type": "effect", "node_version": "2.0.0", "capabilities": {"a": 1}, "endpoints": {"http": "h:1"},
        "metadata": {"b": 2}, "health_endpoint": "http://h/", "ttl_seconds": 5,
    });
    let defaults = json!({
        "node_version": "1.0.0", "capabilities": {}, "endpoints": {}, "metadata": {}, "health_endpoint": null,
        "ttl_seconds": null, "last_heartbeat": null, "maintenance": null, "status": "unknown",
    });
    for before in [None, Some(&full)] {
        if let Some(before) = before {
            assert_eq!(server.register("n", before).await["ttl_seconds"], 5);
        }
        let record = server.register("n", json!({"node_type": "reducer"})).await;
        assert_eq!(record["node_type"], "reducer");
        for (field, value) in defaults.as_object().unwrap() {
            assert_eq!(&record[field], value, "{field}");
        }
    }
}

async fn a_registration_may_count_as_a_sign_of_life(server: &TestServer) {
    let body = json!({"node_type": "effect"});
    let alive = format!("{}?alive=true", node("n"));
    let first = server.put(&alive, &body).await.json();
    assert_eq!(first["status"], "healthy");
    let first_seen = first["last_heartbeat"].as_str().unwrap();
    assert!(first_seen >= first["registered_at"].as_str().unwrap());

    for query in ["", "?alive=false"] {
        let record = server.put(&format!("{}{query}", node("n")), &body).await.json();
        assert_eq!((&record["last_heartbeat"], &record["status"]), (&json!(first_seen), &json!("healthy")));
    }
    let changed = server.register("n", json!({"node_type": "compute"})).await;
    assert_eq!(changed["last_heartbeat"], first_seen, "a change of the registration is no sign of life");

    let again = server.put(&alive, json!({"node_type": "compute"})).await.json();
    assert!(again["last_heartbeat"].as_str().unwrap() > first_seen);
    assert_eq!(again["revision"], changed["revision"], "a sign of life is no change");
    assert_eq!(server.get(&node("n")).await.json(), again);

    let posted = server.post("/v1/nodes?alive=true", json!({"node_id": "m", "node_type": "effect"})).await;
    assert_eq!((posted.status, &posted.json()["status"]), (201, &json!("healthy")));
}

async fn a_post_registers_like_a_put(server: &TestServer) {
    let mut body =
        json!({"node_type": "effect", "node_version": "1.2.3", "metadata": {"n": 1}, "ttl_seconds": 7});
    let put = server.put(&node("a b/c"), &body).await;
    body["node_id"] = json!("a b/c");
    let posted = server.post("/v1/nodes", &body).await;
    assert_eq!((put.status, posted.status), (201, 200));
    assert_eq!(put.header("location"), posted.header("location"));
    let (put, mut posted_record) = (put.json(), posted.json());
    assert!(posted_record["updated_at"].as_str() > put["updated_at"].as_str());
    posted_record["updated_at"] = put["updated_at"].clone();
    assert_eq!(posted_record, put, "nothing else differs");

    body["node_id"] = json!("new");
    let created = server.post("/v1/nodes", &body).await;
    assert_eq!((created.status, created.header("location")), (201, Some("/v1/nodes/new")));
    let found = server.get("/v1/nodes/new").await;
    assert_eq!((&found.text, found.header("etag")), (&created.text, created.header("etag")));
}

async fn the_id_in_a_body_may_repeat_the_one_in_the_path_and_no_other(server: &TestServer) {
    let body = |id: &str| json!({"node_id": id, "node_type": "effect"});
    assert_eq!(server.put(&node("é/1"), body("é/1")).await.status, 201);
    let before = server.everything().await;
    for other in ["é/2", "e\u{301}/1", "É/1", "%C3%A9%2F1", "", " é/1"] {
        let answer = server.put(&node("é/1"), body(other)).await;
        assert_eq!(answer.problem(422, "validation"), ["/node_id"], "{other}");
    }
    assert_eq!(server.everything().await, before);
}

async fn a_head_is_a_get_without_its_body(server: &TestServer) {
    server.register("n", json!({"node_type": "effect"})).await;
    for path in ["/v1/nodes/n", "/v1/nodes", "/v1/nodes/nobody", "/livez", "/openapi.json"] {
        let get = server.get(path).await;
        let head = Answer::of(server.request(reqwest::Method::HEAD, path)).await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        for name in ["etag", "content-type", "registry-revision", "cache-control", "content-length"] {
            assert_eq!(head.header(name), get.header(name), "{path}: {name}");
        }
    }
}

async fn a_node_that_registers_anew_begins_anew(server: &TestServer) {
    let body = json!({"node_type": "effect"});
    let first = server.put(&format!("{}?alive=true", node("n")), &body).await.json();
    assert_eq!(server.delete(&node("n")).await.status, 204);
    let anew = server.put(&node("n"), &body).await;
    assert_eq!(anew.status, 201);
    let anew = anew.json();
    assert_eq!((&anew["last_heartbeat"], &anew["status"]), (&json!(null), &json!("unknown")));
    assert!(anew["registered_at"].as_str() > first["registered_at"].as_str());
    assert!(anew["revision"].as_i64() > first["revision"].as_i64());
}

async fn each_field_that_changes_is_a_change(server: &TestServer) {
    let body = json!({"node_type": "effect"});
    let mut last = server.register("n", &body).await["revision"].as_i64();
    for (field, value) in [
        ("node_type", json!("compute")),
        ("node_version", json!("1.0.1")),
        ("capabilities", json!({"a": 1})),
        ("endpoints", json!({"a": "h:1"})),
        ("metadata", json!({"a": [1]})),
        ("health_endpoint", json!("http://h/")),
        ("ttl_seconds", json!(60)),
    ] {
        for changed in [true, false] {
            let mut body = body.clone();
            if changed {
                body[field] = value.clone();
            }
            let revision = server.register("n", &body).await["revision"].as_i64();
            assert!(revision > last, "{field}, there or not");
            last = revision;
        }
    }
    // The order of keys, blanks and the spelling of a string are no change; a number's decimals are.
    let texts = [
        (r#"{"a":"é","bb":1.0}"#, true),
        (r#"{ "bb" : 1.0, "a":"\u00e9"}"#, false),
        (r#"{"a":"é","bb":1.00}"#, true),
    ];
    for (metadata, changes) in texts {
        let body = format!(r#"{{"node_type":"effect","metadata":{metadata}}}"#);
        let revision = server.register("n", body).await["revision"].as_i64();
        assert_eq!(revision > last, changes, "{metadata}");
        last = revision;
    }
}

async fn times_are_in_utc_with_six_decimals(server: &TestServer) {
    let record =
        server.put(&format!("{}?alive=true", node("n")), json!({"node_type": "effect"})).await.json();
    for field in ["registered_at", "updated_at", "last_heartbeat"] {
        let time = record[field].as_str().unwrap();
        let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "0000-00-00T00:00:00.000000Z", "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_stale_once_its_ttl_has_passed() {
    let server = TestServer::start(Backend::Postgres).await;
    for (id, ttl) in [("patient", json!(3_600)), ("impatient", json!(30)), ("ordinary", json!(null))] {
        let body = json!({"node_type": "effect", "ttl_seconds": ttl});
        server.put(&format!("{}?alive=true", node(id)), body).await;
    }
    assert_eq!(server.ids("status=healthy").await, ["impatient", "ordinary", "patient"]);
    let mut other = server.database.as_ref().unwrap().connect().await;
    for (seconds, healthy, stale) in [
        (60, &["ordinary", "patient"][..], &["impatient"][..]),
        (120, &["patient"], &["impatient", "ordinary"]),
        (7_200, &[], &["impatient", "ordinary", "patient"]),
    ] {
        sqlx::query("UPDATE node_registrations SET last_heartbeat = now() - $1 * interval '1 second'")
            .bind(seconds)
            .execute(&mut other)
            .await
            .unwrap();
        assert_eq!(server.ids("consistency=strong&status=healthy").await, healthy);
        assert_eq!(server.ids("consistency=strong&status=stale").await, stale);
        let status = if stale.contains(&"ordinary") { "stale" } else { "healthy" };
        assert_eq!(server.get("/v1/nodes/ordinary?consistency=strong").await.json()["status"], status);
    }
    other.close().await.unwrap();
    server.stop().await;
}
