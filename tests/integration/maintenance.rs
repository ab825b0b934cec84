//! Taking nodes out of service on purpose, and putting them back.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, TestServer, node, sql};

on_both_stores!(
    a_node_is_out_of_service_until_it_is_put_back,
    both_ends_and_another_reason_are_changes_and_the_same_again_is_none,
    nothing_but_its_end_ends_it,
    plain_sql_neither_ends_nor_hides_it,
    a_node_that_registers_anew_is_in_service,
    a_condition_must_hold,
    a_node_that_is_not_there_is_not_found,
    a_reason_that_breaks_a_rule_changes_nothing,
    a_reason_comes_back_as_it_was,
    any_id_can_be_taken_out_of_service,
    of_many_that_begin_it_at_once_each_is_a_change,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;

fn of(id: &str) -> String {
    format!("{}/maintenance", node(id))
}

async fn begin(server: &TestServer, id: &str, reason: &str) -> Answer {
    let answer = server.put(&of(id), json!({ "reason": reason })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

async fn end(server: &TestServer, id: &str) -> Answer {
    let answer = server.delete(&of(id)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

fn revision(answer: &Answer) -> i64 {
    answer.json()["revision"].as_i64().unwrap()
}

/// The newest change that there is.
async fn newest(server: &TestServer) -> i64 {
    server.get("/v1/nodes").await.header("registry-revision").unwrap().parse().unwrap()
}

async fn a_node_is_out_of_service_until_it_is_put_back(server: &TestServer) {
    server.register("other", EFFECT).await;
    let path = format!("{}?alive=true", node("n"));
    let before = server.put(&path, r#"{"node_type":"reducer","metadata":{"n":1}}"#).await.json();

    let out = begin(server, "n", "disk swap").await;
    let mut expected = before.clone();
    expected["maintenance"] = json!("disk swap");
    expected["status"] = json!("maintenance");
    expected["revision"] = json!(revision(&out));
    assert_eq!(out.json(), expected, "nothing else changes, updated_at and last_heartbeat neither");
    assert!(out.header("etag").unwrap().starts_with(&format!("\"{}.", revision(&out))));
    assert_eq!(out.header("location"), None);
    let found = server.get(&node("n")).await;
    assert_eq!((&found.text, found.header("etag")), (&out.text, out.header("etag")));
    for query in ["status=maintenance", "status=maintenance&consistency=strong", "node_type=reducer"] {
        assert_eq!(server.ids(query).await, ["n"], "{query}");
    }
    assert_eq!(server.ids("status=healthy&status=unknown&status=stale").await, ["other"]);

    let back = end(server, "n").await;
    expected = before;
    expected["revision"] = json!(revision(&back));
    assert_eq!(back.json(), expected);
    assert_eq!(server.get(&node("n")).await.text, back.text);
    assert!(server.ids("status=maintenance").await.is_empty());
}

async fn both_ends_and_another_reason_are_changes_and_the_same_again_is_none(server: &TestServer) {
    let mut last = server.register("n", EFFECT).await["revision"].as_i64().unwrap();
    let steps = [
        (Some("a"), true),
        (Some("a"), false),
        (Some("b"), true),
        (None, true),
        (None, false),
        (Some("b"), true),
    ];
    for (reason, changes) in steps {
        let answer = match reason {
            Some(reason) => begin(server, "n", reason).await,
            None => end(server, "n").await,
        };
        assert_eq!(answer.json()["maintenance"], json!(reason));
        assert_eq!(revision(&answer) > last, changes, "{reason:?}");
        last = revision(&answer);
        assert_eq!(newest(server).await, last, "one event, or none");
    }
}

async fn nothing_but_its_end_ends_it(server: &TestServer) {
    server.register("n", EFFECT).await;
    let out = begin(server, "n", "disk swap").await;
    let beat = server.post(&format!("{}/heartbeat", node("n")), "").await.json();
    assert_eq!(beat["status"], "maintenance");
    assert_eq!(server.post("/v1/batch/heartbeats", r#"{"node_ids":["n"]}"#).await.json()["accepted"], 1);
    for (query, body) in [("", EFFECT), ("?alive=true", EFFECT), ("", r#"{"node_type":"compute"}"#)] {
        let again = server.put(&format!("{}{query}", node("n")), body).await.json();
        let shown = (&again["status"], &again["maintenance"]);
        assert_eq!(shown, (&json!("maintenance"), &json!("disk swap")), "{query} {body}");
    }
    server.post("/v1/batch/nodes", r#"{"nodes":[{"node_id":"n","node_type":"effect"}]}"#).await;
    let record = server.get(&node("n")).await.json();
    assert_eq!(record["status"], "maintenance");
    assert!(record["last_heartbeat"].as_str() > beat["last_heartbeat"].as_str(), "heartbeats are noted");
    assert!(record["revision"].as_i64().unwrap() > revision(&out));
    assert_eq!(end(server, "n").await.json()["status"], "healthy");
}

async fn plain_sql_neither_ends_nor_hides_it(server: &TestServer) {
    server.register("n", EFFECT).await;
    begin(server, "n", "disk swap").await;
    let upsert = "INSERT INTO node_registrations (node_id, node_type) VALUES ('n', 'compute')
                      ON CONFLICT (node_id) DO UPDATE SET node_type = EXCLUDED.node_type";
    sql::run_on(server, upsert, upsert).await;
    let record = server.get(&node("n")).await.json();
    assert_eq!((&record["node_type"], &record["maintenance"]), (&json!("compute"), &json!("disk swap")));

    // The empty reason, which only other hands can leave, is a reason too.
    let set = "UPDATE node_registrations SET maintenance = ''";
    sql::run_on(server, set, set).await;
    assert_eq!(server.ids("status=maintenance").await, ["n"]);
    let before = newest(server).await;
    assert_eq!(end(server, "n").await.json()["maintenance"], json!(null));
    assert!(newest(server).await > before);
}

async fn a_node_that_registers_anew_is_in_service(server: &TestServer) {
    server.register("n", EFFECT).await;
    begin(server, "n", "to be scrapped").await;
    assert_eq!(server.delete(&node("n")).await.status, 204);
    assert_eq!(server.register("n", EFFECT).await["maintenance"], json!(null));
}

async fn a_condition_must_hold(server: &TestServer) {
    let body = json!({"reason": "x"}).to_string();
    for method in [Method::PUT, Method::DELETE] {
        let registered = server.put(&node("n"), EFFECT).await;
        let tag = registered.header("etag").unwrap().to_owned();
        let before = server.everything().await;
        for (id, field, status) in [
            ("n", ("if-match", "\"0.x\""), 412),
            ("nobody", ("if-match", "*"), 412),
            ("nobody", ("if-match", tag.as_str()), 412),
            ("n", ("if-match", "x"), 400),
            ("n", ("if-none-match", "*"), 400),
        ] {
            let answer = server.send(method.clone(), &of(id), body.clone(), &[field]).await;
            assert_eq!(answer.status, status, "{method} {field:?}: {}", answer.text);
        }
        assert_eq!(server.everything().await, before);
        let held = server.send(method.clone(), &of("n"), body.clone(), &[("if-match", &tag)]).await;
        assert_eq!(held.status, 200, "{}", held.text);
        // What was changed meanwhile is changed for whoever has the old tag.
        if method == Method::PUT {
            let late = server.send(Method::PUT, &node("n"), EFFECT, &[("if-match", &tag)]).await;
            late.problem(412, "precondition-failed");
            let late = server.send(Method::DELETE, &of("n"), "", &[("if-match", &tag)]).await;
            late.problem(412, "precondition-failed");
        }
    }
}

async fn a_node_that_is_not_there_is_not_found(server: &TestServer) {
    server.register("n", EFFECT).await;
    let before = server.everything().await;
    for id in ["nobody", "", "a\0b", "N", " n", &"x".repeat(256)] {
        server.put(&of(id), r#"{"reason":"x"}"#).await.problem(404, "node-not-found");
        server.delete(&of(id)).await.problem(404, "node-not-found");
    }
    for answer in [
        server.put("/v1/nodes/%FF/maintenance", r#"{"reason":"x"}"#).await,
        server.delete("/v1/nodes/%FF/maintenance").await,
    ] {
        assert_eq!(answer.problem(400, "invalid-request"), ["?node_id"]);
    }
    assert_eq!(server.everything().await, before);
}

async fn a_reason_that_breaks_a_rule_changes_nothing(server: &TestServer) {
    server.register("n", EFFECT).await;
    let before = server.everything().await;
    let (long, wide) = ("x".repeat(501), "🦀".repeat(501));
    let reasons = ["", " ", "\u{3000}\u{a0}", "a\nb", "\u{0}", "a\u{7f}", "a\u{85}b", &long, &wide];
    let reasons = reasons.map(|reason| json!(reason).to_string());
    let others = ["null", "1", "true", "[]", "{}", r#"["x"]"#, r#""\ud800""#, r#""\u0000""#, "1e400"];
    for reason in reasons.iter().map(String::as_str).chain(others) {
        let answer = server.put(&of("n"), format!(r#"{{"reason":{reason}}}"#)).await;
        let places = answer.problem(422, "validation");
        assert!(!places.is_empty() && places.iter().all(|place| place == "/reason"), "{reason}: {places:?}");
        assert!(!answer.text.contains("xxxx"), "a bad reason is not repeated: {}", answer.text);
    }
    for (body, places) in [
        ("{}", &["/reason"][..]),
        ("[]", &[""]),
        (r#""x""#, &[""]),
        ("null", &[""]),
        (r#"{"Reason":"x"}"#, &["/Reason", "/reason"]),
        (r#"{"reason":"x","until":"noon","a/b":1}"#, &["/a~1b", "/until"]),
        (r#"{"reason":"\n","until":"noon"}"#, &["/reason", "/reason", "/until"]),
    ] {
        let mut found = server.put(&of("n"), body).await.problem(422, "validation");
        found.sort();
        assert_eq!(found, places, "{body}");
    }
    let all = server.send(Method::PUT, &format!("{}?a=1", of("n")), "{}", &[("if-match", "x")]).await;
    let mut places = all.problem(400, "invalid-request");
    places.sort();
    assert_eq!(places, ["/reason", "?a", "If-Match:"]);
    assert_eq!(server.delete(&format!("{}?a=1", of("n"))).await.problem(400, "invalid-request"), ["?a"]);
    assert_eq!(server.everything().await, before);
}

async fn a_reason_comes_back_as_it_was(server: &TestServer) {
    server.register("n", EFFECT).await;
    let (long, wide) = ("x".repeat(500), "🦀".repeat(500));
    for reason in
        ["x", " disk swap ", "'; DROP TABLE node_registrations; --", "\u{202E}\"\\", "null", &long, &wide]
    {
        let shown = begin(server, "n", reason).await;
        assert_eq!(shown.json()["maintenance"], reason);
        assert_eq!(server.get(&node("n")).await.text, shown.text);
    }
    // The last of duplicate fields wins.
    let twice = server.put(&of("n"), r#"{"reason":"","reason":"b"}"#).await;
    assert_eq!(twice.json()["maintenance"], "b");
}

async fn any_id_can_be_taken_out_of_service(server: &TestServer) {
    let insert =
        "INSERT INTO node_registrations (node_id, node_type) VALUES ('', 'effect'), ('a\nb', 'effect')";
    sql::run_on(server, insert, insert).await;
    for id in ["a/maintenance", "maintenance", "/maintenance", "a/", "//"] {
        server.register(id, EFFECT).await;
    }
    let mut out = Vec::new();
    for id in ["", "a\nb", "a/maintenance", "maintenance", "/maintenance", "a/", "//"] {
        assert_eq!(begin(server, id, "x").await.json()["node_id"], id);
        out.push(id);
        out.sort_unstable();
        assert_eq!(server.ids("status=maintenance").await, out, "{id:?} and nobody else");
    }
    for id in &out {
        assert_eq!(end(server, id).await.json()["maintenance"], json!(null), "{id:?}");
        assert_eq!(server.get(&node(id)).await.json()["node_id"], *id);
        assert_eq!(server.delete(&node(id)).await.status, 204, "{id:?}");
    }
    assert!(server.ids("").await.is_empty());
}

async fn of_many_that_begin_it_at_once_each_is_a_change(server: &TestServer) {
    for id in ["a", "b"] {
        server.register(id, EFFECT).await;
    }
    let answers = join_all((0..20).map(|n| async move {
        // Some of them in competition with registrations, heartbeats and the end.
        let id = if n % 2 == 0 { "a" } else { "b" };
        if n % 5 == 0 {
            end(server, id).await;
            server.post(&format!("{}/heartbeat", node(id)), "").await;
        }
        server.register(id, json!({"node_type": "effect", "metadata": {"n": n}})).await;
        begin(server, id, &format!("reason {n}")).await
    }))
    .await;
    let mut revisions: Vec<i64> = answers.iter().map(revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 20);
    for id in ["a", "b"] {
        let record = server.get(&node(id)).await.json();
        assert_eq!(record["status"], "maintenance");
        let of_id: Vec<Value> =
            answers.iter().map(Answer::json).filter(|answer| answer["node_id"] == id).collect();
        let last = of_id.iter().max_by_key(|answer| answer["revision"].as_i64()).unwrap();
        assert_eq!(last["maintenance"], record["maintenance"], "the last one counts");
    }
}

#[tokio::test]
async fn an_event_says_who_began_and_who_ended_it() {
    let server = TestServer::start(Backend::Postgres).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    server.register("n", EFFECT).await;
    let after = sql::newest(&mut owner).await;
    for (method, id) in [
        (Method::PUT, "order-1"),
        (Method::PUT, "order-2"),
        (Method::DELETE, "order-3"),
        (Method::DELETE, "order-4"),
    ] {
        let answer = server.send(method, &of("n"), r#"{"reason":"x"}"#, &[("x-correlation-id", id)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let events = sql::events(&mut owner, after).await;
    assert_eq!(events.len(), 2, "{events:?}");
    for event in &events {
        assert_eq!((&*event.node_id, &*event.kind, &*event.actor), ("n", "maintenance", "anonymous"));
        assert!(event.changed.is_empty());
    }
    let query = format!(
        "SELECT string_agg(correlation_id, ' ' ORDER BY revision) FROM node_events WHERE revision > {after}"
    );
    assert_eq!(sql::value::<String>(&mut owner, query).await, "order-1 order-3");
    server.stop().await;
}

#[tokio::test]
async fn a_held_node_is_taken_out_of_service_once_it_is_let_go() {
    let server = TestServer::start(Backend::Postgres).await;
    server.register("held", EFFECT).await;
    let mut idle = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut idle, "BEGIN; UPDATE node_registrations SET metadata = '{\"a\": 1}'").await;
    let refused = server.put(&of("held"), r#"{"reason":"x"}"#).await;
    refused.problem(503, "contended");
    assert!(refused.header("retry-after").is_some());
    server.delete(&of("held")).await.problem(503, "contended");
    sql::run(&mut idle, "COMMIT").await;
    let record = begin(&server, "held", "x").await.json();
    assert_eq!((&record["status"], &record["metadata"]), (&json!("maintenance"), &json!({"a": 1})));
    server.stop().await;
}

#[tokio::test]
async fn a_rule_of_the_owner_may_refuse_it() {
    for body in ["RAISE EXCEPTION 'own_rule'", "RETURN NULL"] {
        let server = TestServer::start(Backend::Postgres).await;
        let mut owner = server.database.as_ref().unwrap().connect().await;
        server.register("n", EFFECT).await;
        let rule = format!(
            "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;
             CREATE TRIGGER own_rule BEFORE UPDATE ON node_registrations FOR EACH ROW EXECUTE FUNCTION own_rule()"
        );
        sql::run(&mut owner, rule).await;
        let (before, newest) = (server.everything().await, sql::newest(&mut owner).await);
        server.put(&of("n"), r#"{"reason":"x"}"#).await.problem(422, "refused");
        assert_eq!(server.delete(&of("n")).await.status, 200, "nothing to change, and nothing to refuse");
        assert_eq!((server.everything().await, sql::newest(&mut owner).await), (before, newest));
        server.stop().await;
    }
}
