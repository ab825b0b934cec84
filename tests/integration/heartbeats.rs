//! Signs of life, of one node and of many: they are noted, and change nothing else.

mod under_load;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, TestServer, node, sql};

on_both_stores!(
    a_heartbeat_makes_a_node_healthy_and_changes_nothing_else,
    a_heartbeat_of_nobody_says_to_register_again,
    a_heartbeat_reads_no_body_and_takes_no_parameters,
    a_stale_node_is_healthy_again_after_a_heartbeat,
    a_heartbeat_never_takes_time_back,
    a_node_that_was_alive_before_all_times_is_alive_now,
    a_batch_says_which_ids_are_unknown,
    a_batch_that_finds_nobody_was_noted_at_no_time,
    a_batch_may_have_ten_thousand_ids_and_no_more,
    a_batch_that_is_none_notes_nothing,
    the_empty_id_and_those_that_look_like_paths_have_heartbeats_too,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;
const BATCH: &str = "/v1/batch/heartbeats";

fn heartbeat_of(id: &str) -> String {
    format!("{}/heartbeat", node(id))
}

async fn beat(server: &TestServer, id: &str) -> Value {
    let answer = Answer::of(server.request(Method::POST, &heartbeat_of(id))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn beat_all(server: &TestServer, ids: impl serde::Serialize) -> Value {
    let answer = server.post(BATCH, json!({ "node_ids": ids })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn record(server: &TestServer, id: &str) -> Value {
    let answer = server.get(&node(id)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The newest change that there is.
async fn newest(server: &TestServer) -> String {
    server.get("/v1/nodes").await.header("registry-revision").unwrap().to_owned()
}

async fn a_heartbeat_makes_a_node_healthy_and_changes_nothing_else(server: &TestServer) {
    for (id, batch) in [("one", false), ("many", true)] {
        let registered = server.put(&node(id), EFFECT).await;
        let (before, revision) = (registered.json(), newest(server).await);
        assert_eq!((&before["status"], &before["last_heartbeat"]), (&json!("unknown"), &json!(null)));
        let mut last = json!("");
        for _ in 0..3 {
            let at = if batch {
                let answer = beat_all(server, [id]).await;
                assert_eq!((&answer["accepted"], &answer["unknown"]), (&json!(1), &json!([])));
                answer["last_heartbeat"].clone()
            } else {
                let answer = beat(server, id).await;
                assert_eq!((&answer["node_id"], &answer["status"]), (&json!(id), &json!("healthy")));
                answer["last_heartbeat"].clone()
            };
            assert!(at.as_str() > last.as_str(), "{at} after {last}");
            last = at;
        }
        let mut expected = before;
        expected["status"] = json!("healthy");
        expected["last_heartbeat"] = last;
        assert_eq!(record(server, id).await, expected, "not even updated_at");
        assert_eq!(newest(server).await, revision, "heartbeats are no events");
        let tag = registered.header("etag").unwrap();
        let changed = server.send(Method::PUT, &node(id), EFFECT, &[("if-match", tag)]).await;
        assert_eq!(changed.status, 200, "they break no condition: {}", changed.text);
    }
}

async fn a_heartbeat_of_nobody_says_to_register_again(server: &TestServer) {
    server.register("somebody", EFFECT).await;
    let before = server.everything().await;
    let answer = server.post(&heartbeat_of("nobody"), "").await;
    answer.problem(404, "node-not-found");
    assert!(answer.json()["detail"].as_str().unwrap().contains("register it again"), "{}", answer.text);
    for id in ["a\0b", " somebody", "SOMEBODY", &"x".repeat(256)] {
        server.post(&heartbeat_of(id), "").await.problem(404, "node-not-found");
    }
    server.post("/v1/nodes/%FF/heartbeat", "").await.problem(400, "invalid-request");
    assert_eq!(server.everything().await, before);
}

async fn a_heartbeat_reads_no_body_and_takes_no_parameters(server: &TestServer) {
    server.register("n", EFFECT).await;
    for (body, media_type) in [
        ("", "application/json"),
        ("{}", "application/json"),
        ("{", "application/json"),
        (r#"{"node_id":"other"}"#, "application/json"),
        ("I live", "text/plain"),
        ("I live", "a/b; c"),
    ] {
        let request = server.request(Method::POST, &heartbeat_of("n")).header("content-type", media_type);
        assert_eq!(Answer::of(request.body(body)).await.status, 200, "{body} as {media_type}");
    }
    let packed = server.send(Method::POST, &heartbeat_of("n"), "x", &[("content-encoding", "gzip")]).await;
    assert_eq!(packed.status, 200);

    let before = server.everything().await;
    let path = format!("{}?alive=true", heartbeat_of("n"));
    assert_eq!(server.post(&path, "").await.problem(400, "invalid-request"), ["?alive"]);
    let batch = server.post(&format!("{BATCH}?limit=1"), r#"{"node_ids":["n"]}"#).await;
    assert_eq!(batch.problem(400, "invalid-request"), ["?limit"]);
    assert_eq!(server.everything().await, before);
}

/// Everybody was last seen alive two minutes ago.
async fn two_minutes_pass(server: &TestServer) {
    sql::run_on(
        server,
        "UPDATE node_registrations SET last_heartbeat = now() - interval '2 minutes'",
        "UPDATE node_registrations SET last_heartbeat = CAST(unixepoch('subsec') * 1000000 AS INTEGER) - 120000000",
    )
    .await;
}

async fn a_stale_node_is_healthy_again_after_a_heartbeat(server: &TestServer) {
    for (id, ttl) in [("impatient", json!(60)), ("ordinary", json!(null)), ("patient", json!(86_400))] {
        server.register(id, json!({"node_type": "effect", "ttl_seconds": ttl})).await;
    }
    for batch in [false, true] {
        two_minutes_pass(server).await;
        assert_eq!(server.ids("status=stale").await, ["impatient", "ordinary"]);
        assert_eq!(server.ids("status=healthy").await, ["patient"]);
        if batch {
            assert_eq!(beat_all(server, ["impatient", "ordinary"]).await["accepted"], 2);
        } else {
            assert_eq!(beat(server, "ordinary").await["status"], "healthy");
            assert_eq!(server.ids("status=stale").await, ["impatient"]);
            assert_eq!(beat(server, "impatient").await["status"], "healthy");
        }
        assert_eq!(server.ids("status=healthy").await, ["impatient", "ordinary", "patient"]);
    }
}

async fn a_heartbeat_never_takes_time_back(server: &TestServer) {
    for id in ["future", "infinite"] {
        server.register(id, EFFECT).await;
    }
    sql::run_on(
        server,
        "UPDATE node_registrations SET last_heartbeat =
             CASE node_id WHEN 'future' THEN '2199-01-01 00:00:00Z'::timestamptz ELSE 'infinity' END",
        "UPDATE node_registrations SET last_heartbeat =
             CASE node_id WHEN 'future' THEN 7226582400000000 ELSE 9223372036854775807 END",
    )
    .await;
    for (id, shown) in [("future", "2199-01-01T00:00:00.000000Z"), ("infinite", "infinity")] {
        let answer = beat(server, id).await;
        assert_eq!(answer, json!({"node_id": id, "last_heartbeat": shown, "status": "healthy"}));
        let batch = beat_all(server, [id]).await;
        assert_eq!(batch["accepted"], 1);
        assert!(batch["last_heartbeat"].as_str().unwrap() < shown, "the batch is of now: {batch}");
        let again = server.put(&format!("{}?alive=true", node(id)), EFFECT).await.json();
        assert_eq!(again["last_heartbeat"], shown);
        assert_eq!(record(server, id).await["last_heartbeat"], shown);
    }
}

async fn a_node_that_was_alive_before_all_times_is_alive_now(server: &TestServer) {
    server.register("n", EFFECT).await;
    sql::run_on(
        server,
        "UPDATE node_registrations SET last_heartbeat = '-infinity'",
        "UPDATE node_registrations SET last_heartbeat = -9223372036854775808",
    )
    .await;
    assert_eq!(record(server, "n").await["last_heartbeat"], "-infinity");
    let answer = beat(server, "n").await;
    assert_eq!(answer["status"], "healthy");
    assert!(answer["last_heartbeat"].as_str().unwrap().starts_with("20"), "{answer}");
}

async fn a_batch_says_which_ids_are_unknown(server: &TestServer) {
    for id in ["a", "b", "🦀 \"'\\"] {
        server.register(id, EFFECT).await;
    }
    let long = "x".repeat(256);
    let ids = ["a", "nobody", "a", "🦀 \"'\\", "", "..", "\0", long.as_str(), "A", "a\u{0}", " b", "b\n"];
    let answer = beat_all(server, ids).await;
    assert_eq!(answer["accepted"], 2, "each id once: {answer}");
    let mut unknown: Vec<&str> =
        answer["unknown"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    unknown.sort_unstable();
    let mut expected = ["nobody", "", "..", "\0", long.as_str(), "A", "a\u{0}", " b", "b\n"];
    expected.sort_unstable();
    assert_eq!(unknown, expected);
    for (id, status) in [("a", "healthy"), ("b", "unknown"), ("🦀 \"'\\", "healthy")] {
        let record = record(server, id).await;
        assert_eq!(record["status"], status, "{id}");
        let noted = if status == "healthy" { &answer["last_heartbeat"] } else { &Value::Null };
        assert_eq!(&record["last_heartbeat"], noted, "the time that the batch says: {id}");
    }
}

async fn a_batch_that_finds_nobody_was_noted_at_no_time(server: &TestServer) {
    let answer = beat_all(server, ["nobody", "\0"]).await;
    assert_eq!(answer, json!({"last_heartbeat": null, "accepted": 0, "unknown": ["\0", "nobody"]}));
}

async fn a_batch_may_have_ten_thousand_ids_and_no_more(server: &TestServer) {
    let known: Vec<String> = (0..1_000).map(|n| format!("n{n:03}")).collect();
    let nodes: Vec<Value> = known.iter().map(|id| json!({"node_id": id, "node_type": "effect"})).collect();
    assert_eq!(server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await.status, 200);
    // As long as ids can be.
    let unknown = (0..9_000).map(|n| format!("{n:04}{}", "🦀".repeat(251)));
    let mut ids: Vec<String> = known.into_iter().chain(unknown).collect();
    let before = server.everything().await;

    ids.push("n000".to_owned());
    let answer = server.post(BATCH, json!({ "node_ids": ids })).await;
    assert_eq!(answer.problem(422, "validation"), ["/node_ids"]);
    let detail = answer.json()["errors"][0]["detail"].take();
    assert!(detail.as_str().unwrap().contains("10001"), "{detail}");
    assert_eq!(server.everything().await, before, "nothing was noted");

    ids.pop();
    let answer = beat_all(server, &ids).await;
    assert_eq!(answer["accepted"], 1_000);
    assert_eq!(answer["unknown"].as_array().unwrap().len(), 9_000);
    let page = server.get("/v1/nodes?status=healthy&limit=1000").await.json();
    let nodes = page["nodes"].as_array().unwrap();
    assert!(nodes.len() == 1_000 && nodes.iter().all(|n| n["last_heartbeat"] == answer["last_heartbeat"]));
}

async fn a_batch_that_is_none_notes_nothing(server: &TestServer) {
    server.register("there", EFFECT).await;
    let before = server.everything().await;
    for (body, places) in [
        (json!({"node_ids": []}), &["/node_ids"][..]),
        (json!({"node_ids": "there"}), &["/node_ids"]),
        (json!({"node_ids": null}), &["/node_ids"]),
        (json!({}), &["/node_ids"]),
        (json!(["there"]), &[""]),
        (json!({"node_ids": ["there"], "nodes": []}), &["/nodes"]),
        (json!({"node_ids": ["there", 1, null, ["there"]]}), &["/node_ids/1", "/node_ids/2", "/node_ids/3"]),
    ] {
        assert_eq!(server.post(BATCH, &body).await.problem(422, "validation"), places, "{body}");
    }
    let surrogate = server.post(BATCH, r#"{"node_ids":["there","\ud800"]}"#).await;
    assert_eq!(surrogate.problem(422, "validation"), ["/node_ids/1"]);
    assert_eq!(server.everything().await, before);
}

async fn the_empty_id_and_those_that_look_like_paths_have_heartbeats_too(server: &TestServer) {
    server.post("/v1/nodes//heartbeat", "").await.problem(404, "node-not-found");
    assert_eq!(server.get("/v1/nodes//heartbeat").await.problem(405, "method-not-allowed"), [""; 0]);
    for path in
        ["/v1/nodes/heartbeat", "/v1/nodes///heartbeat", "/v1//nodes/n/heartbeat", "/v1/nodes/n/heartbeat/"]
    {
        let answer = server.post(path, "").await;
        assert!(answer.status == 404 || answer.status == 405, "{path}: {}", answer.text);
    }
    sql::run_on(
        server,
        "INSERT INTO node_registrations (node_id, node_type) VALUES ('', 'effect'), ('a\nb', 'effect')",
        "INSERT INTO node_registrations (node_id, node_type) VALUES ('', 'effect'), ('a\nb', 'effect')",
    )
    .await;
    for id in ["a/heartbeat", "heartbeat", "/heartbeat", "a/", "//", "a%2Fheartbeat"] {
        server.register(id, EFFECT).await;
    }
    let mut alive = Vec::new();
    for id in ["", "a\nb", "a/heartbeat", "heartbeat", "/heartbeat", "a/", "//", "a%2Fheartbeat"] {
        assert_eq!(beat(server, id).await["node_id"], id);
        alive.push(id);
        alive.sort_unstable();
        assert_eq!(server.ids("status=healthy").await, alive, "{id:?} and nobody else");
    }
    assert_eq!(beat_all(server, ["", "a\nb", "a/heartbeat"]).await["accepted"], 3);
    for id in ["", "a/heartbeat"] {
        assert_eq!(server.get(&node(id)).await.json()["status"], "healthy");
        assert_eq!(server.delete(&node(id)).await.status, 204);
        server.post(&heartbeat_of(id), "").await.problem(404, "node-not-found");
    }
}

async fn start() -> (TestServer, sqlx::PgConnection) {
    let server = TestServer::start(Backend::Postgres).await;
    let owner = server.database.as_ref().unwrap().connect().await;
    (server, owner)
}

#[tokio::test]
async fn a_row_that_somebody_holds_costs_nobody_else_his_heartbeat() {
    let (server, _owner) = start().await;
    for id in ["a", "held", "z"] {
        server.register(id, EFFECT).await;
    }
    let mut idle = server.database.as_ref().unwrap().connect().await;
    sql::run(
        &mut idle,
        "BEGIN; UPDATE node_registrations SET metadata = '{\"a\": 1}' WHERE node_id = 'held'",
    )
    .await;

    let refused = server.post(&heartbeat_of("held"), "").await;
    refused.problem(503, "contended");
    assert!(refused.header("retry-after").is_some());
    let ids = json!({"node_ids": ["a", "held", "nobody", "z"]});
    let answer = server.post(BATCH, &ids).await;
    answer.problem(503, "contended");
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("3 of 4 were done"), "{}", answer.text);
    assert_eq!(server.ids("status=healthy").await, ["a", "z"]);

    sql::run(&mut idle, "COMMIT").await;
    let answer = server.post(BATCH, &ids).await.json();
    assert_eq!((&answer["accepted"], &answer["unknown"]), (&json!(3), &json!(["nobody"])));
    let held = record(&server, "held").await;
    assert_eq!((&held["status"], &held["metadata"]), (&json!("healthy"), &json!({"a": 1})));
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_is_registering_in_another_transaction_is_unknown_and_not_waited_for() {
    let (server, _owner) = start().await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut idle, "BEGIN").await;
    sql::upsert(&mut idle, "n", "effect", "{}").await.unwrap();
    server.post(&heartbeat_of("n"), "").await.problem(404, "node-not-found");
    sql::run(&mut idle, "COMMIT").await;
    assert_eq!(beat(&server, "n").await["status"], "healthy");
    server.stop().await;
}

#[tokio::test]
async fn a_rule_of_the_owner_refuses_that_heartbeat_alone() {
    for (body, reason) in [("RAISE EXCEPTION 'own_rule'", "raises"), ("RETURN NULL", "swallows")] {
        let (server, mut owner) = start().await;
        for id in ["a", "n7", "z"] {
            server.register(id, EFFECT).await;
        }
        let rule = format!(
            "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.node_id = 'n7' THEN {body}; END IF; RETURN NEW; END $$;
             CREATE TRIGGER own_rule BEFORE UPDATE ON node_registrations FOR EACH ROW EXECUTE FUNCTION own_rule()"
        );
        sql::run(&mut owner, rule).await;
        server.post(&heartbeat_of("n7"), "").await.problem(422, "refused");
        let answer = server.post(BATCH, r#"{"node_ids":["a","n7","z"]}"#).await;
        answer.problem(422, "refused");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("2 of 3 were done"), "{reason}");
        assert_eq!(server.ids("status=healthy").await, ["a", "z"], "{reason}");
        server.stop().await;
    }
}
