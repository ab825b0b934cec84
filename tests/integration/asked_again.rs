//! A question that is asked again: the same answer as long as nothing has changed, and never an old one after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Backend, TestServer, ids_of, node, sql};

on_both_stores!(
    what_happens_between_two_equal_questions_is_in_the_second_answer,
    an_equal_answer_is_equal_to_the_byte_and_can_be_asked_for_by_its_tag,
    heartbeats_of_many_are_in_the_next_answer_to_a_question_that_all_ask,
);

const QUESTION: &str = "/v1/nodes?node_type=effect&limit=10";

/// Asked three times: the second and the third answer may be what was kept of the first.
async fn asked(server: &TestServer) -> Value {
    let first = server.get_once(QUESTION).await;
    for _ in 0..2 {
        let again = server.get_once(QUESTION).await;
        assert_eq!(again.status, 200, "{}", again.text);
        assert_eq!(again.json()["nodes"], first.json()["nodes"]);
    }
    first.json()["nodes"].clone()
}

async fn what_happens_between_two_equal_questions_is_in_the_second_answer(server: &TestServer) {
    assert_eq!(asked(server).await, json!([]));
    server.register("n", r#"{"node_type":"effect"}"#).await;
    assert_eq!(asked(server).await[0]["status"], "unknown");

    let beat = server.post(&format!("{}/heartbeat", node("n")), "").await.json();
    let nodes = asked(server).await;
    assert_eq!(
        [&nodes[0]["last_heartbeat"], &nodes[0]["status"]],
        [&beat["last_heartbeat"], &json!("healthy")]
    );

    let renewed = server.register("n", r#"{"node_type":"effect"}"#).await;
    assert_eq!(asked(server).await[0]["updated_at"], renewed["updated_at"]);

    server.put(&format!("{}/maintenance", node("n")), json!({"reason": "disk"})).await;
    assert_eq!(asked(server).await[0]["maintenance"], "disk");

    let changed = server.register("n", r#"{"node_type":"effect","metadata":{"a":1}}"#).await;
    assert_eq!(asked(server).await[0], changed);

    server.register("n", r#"{"node_type":"compute"}"#).await;
    assert_eq!(asked(server).await, json!([]));
    server.register("m", r#"{"node_type":"effect"}"#).await;
    assert_eq!(asked(server).await[0]["node_id"], "m");
    server.delete(&node("m")).await;
    assert_eq!(asked(server).await, json!([]));
}

async fn an_equal_answer_is_equal_to_the_byte_and_can_be_asked_for_by_its_tag(server: &TestServer) {
    for id in ["a", "b", "c"] {
        server.register(id, r#"{"node_type":"effect"}"#).await;
    }
    for question in [QUESTION, "/v1/nodes?node_type=effect&limit=2", "/v1/nodes", "/v1/nodes?"] {
        let [first, second] = [server.get_once(question).await, server.get_once(question).await];
        assert_eq!(first.text, second.text);
        for name in ["etag", "registry-revision", "content-type", "cache-control"] {
            assert!(first.header(name).is_some(), "{name}");
            assert_eq!(first.header(name), second.header(name));
        }
        assert_ne!(first.header("x-correlation-id"), second.header("x-correlation-id"));
        let tag = first.header("etag").unwrap();
        let unchanged = server.request(reqwest::Method::GET, question).header("if-none-match", tag);
        let unchanged = crate::harness::Answer::of(unchanged).await;
        assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    }
    // One that is refused is refused again.
    for _ in 0..2 {
        server.get_once("/v1/nodes?node_typ=effect").await.problem(400, "invalid-request");
    }
}

/// All ask the same while all of them write. Whoever is told that his sign of life is taken finds it.
async fn heartbeats_of_many_are_in_the_next_answer_to_a_question_that_all_ask(server: &TestServer) {
    let ids: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
    for id in &ids {
        server.register(id, r#"{"node_type":"effect"}"#).await;
    }
    let looks = Arc::new(AtomicUsize::new(0));
    let callers = ids.iter().enumerate().map(|(place, id)| {
        let looks = Arc::clone(&looks);
        async move {
            for _ in 0..40 {
                let beat = server.post(&format!("{}/heartbeat", node(id)), "").await.json();
                let page = server.get_once(QUESTION).await.json();
                // Instants of one form are in the order of their texts.
                let (told, shown) =
                    (beat["last_heartbeat"].as_str(), page["nodes"][place]["last_heartbeat"].as_str());
                assert!(shown >= told, "{id}: told {told:?}, and shown {shown:?}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    futures_util::future::join_all(callers).await;
    assert_eq!(looks.load(Ordering::Relaxed), 8 * 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_and_what_time_does_ends_an_answer_too() {
    let server = TestServer::start_with(Backend::Postgres, &["--ttl=6s"]).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    assert_eq!(asked(&server).await, json!([]));
    sql::upsert(&mut owner, "by_sql", "effect", "{}").await.unwrap();
    sql::eventually("it is listed", async || ids_of(&server.get_once(QUESTION).await.json()) == ["by_sql"])
        .await;

    server.post(&format!("{}/heartbeat", node("by_sql")), "").await;
    let status = async || server.get_once(QUESTION).await.json()["nodes"][0]["status"].clone();
    assert_eq!(status().await, "healthy");
    sql::eventually("it is stale", async || status().await == "stale").await;

    sql::run(&mut owner, "TRUNCATE node_registrations").await;
    sql::eventually("nothing is left", async || server.get_once(QUESTION).await.json()["nodes"] == json!([]))
        .await;
    server.stop().await;
}
