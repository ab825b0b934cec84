//! Constraints and triggers that the owner of the database has put on the table.

use serde_json::{Value, json};

use super::start;
use crate::harness::{TestServer, node, sql};

/// Registers n0 to n9 in a batch and returns the status of each.
async fn register_ten(server: &TestServer) -> Vec<i64> {
    let nodes: Vec<Value> = (0..10)
        .map(|i| json!({"node_id": format!("n{i}"), "node_type": "effect", "metadata": {"i": i}}))
        .collect();
    let answer = server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json();
    results["results"].as_array().unwrap().iter().map(|result| result["status"].as_i64().unwrap()).collect()
}

const ALL_BUT_SEVEN: [i64; 10] = [201, 201, 201, 201, 201, 201, 201, 422, 201, 201];

/// The rule of the owner refuses n7, alone and in a batch, and n7 only.
async fn refuses_seven(rule: &str) {
    let (server, mut owner) = start().await;
    sql::run(&mut owner, rule).await;
    assert_eq!(register_ten(&server).await, ALL_BUT_SEVEN, "{rule}");
    let answer = server.put(&node("n7"), json!({"node_type": "effect"})).await;
    assert!(answer.problem(422, "refused").is_empty());
    assert!(!answer.text.contains("own_rule"), "nothing of the database reaches a client: {}", answer.text);
    assert_eq!(server.ids("").await.len(), 9);
    assert_eq!(sql::events(&mut owner, 0).await.len(), 9);
    server.stop().await;
}

fn trigger(timing: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
         CREATE {timing} ON node_registrations FOR EACH ROW EXECUTE FUNCTION own_rule()"
    )
}

#[tokio::test]
async fn a_check_constraint_refuses_that_registration_alone() {
    refuses_seven("ALTER TABLE node_registrations ADD CONSTRAINT own_rule CHECK (node_id <> 'n7')").await;
}

#[tokio::test]
async fn a_unique_index_of_the_owner_refuses_that_registration_alone() {
    refuses_seven(
        "CREATE UNIQUE INDEX own_rule ON node_registrations ((replace(node_id, '7', '6')))
           WHERE node_id IN ('n6', 'n7')",
    )
    .await;
}

#[tokio::test]
async fn a_trigger_that_raises_refuses_that_registration_alone() {
    let raises = "IF NEW.node_id = 'n7' THEN RAISE EXCEPTION 'own_rule'; END IF; RETURN NEW;";
    refuses_seven(&trigger("TRIGGER own_rule BEFORE INSERT OR UPDATE", raises)).await;
}

#[tokio::test]
async fn a_trigger_that_raises_with_a_code_of_its_own_refuses_that_registration_alone() {
    let raises =
        "IF NEW.node_id = 'n7' THEN RAISE EXCEPTION 'own_rule' USING ERRCODE = 'ONX07'; END IF; RETURN NEW;";
    refuses_seven(&trigger("TRIGGER own_rule BEFORE INSERT OR UPDATE", raises)).await;
}

#[tokio::test]
async fn a_row_that_the_database_fails_at_harms_no_other() {
    let (server, mut owner) = start().await;
    let raises = "IF NEW.node_id = 'n7' THEN RAISE insufficient_privilege; END IF; RETURN NEW;";
    sql::run(&mut owner, trigger("TRIGGER own_rule BEFORE INSERT OR UPDATE", raises)).await;
    assert_eq!(register_ten(&server).await, [201, 201, 201, 201, 201, 201, 201, 500, 201, 201]);
    server.stop().await;
}

#[tokio::test]
async fn a_trigger_that_raises_at_commit_refuses_that_registration_alone() {
    let raises = "IF NEW.node_id = 'n7' THEN RAISE EXCEPTION 'own_rule'; END IF; RETURN NULL;";
    let timing = "CONSTRAINT TRIGGER own_rule AFTER INSERT OR UPDATE";
    let deferred =
        trigger(timing, raises).replace("FOR EACH ROW", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW");
    refuses_seven(&deferred).await;
}

#[tokio::test]
async fn a_trigger_that_swallows_an_insert_refuses_that_registration_alone() {
    let swallows = "IF NEW.node_id = 'n7' THEN RETURN NULL; END IF; RETURN NEW;";
    refuses_seven(&trigger("TRIGGER own_rule BEFORE INSERT", swallows)).await;
}

#[tokio::test]
async fn a_trigger_that_changes_a_row_is_shown_in_the_answer() {
    let (server, mut owner) = start().await;
    let changes = "NEW.metadata := NEW.metadata || '{\"seen\": true}'; RETURN NEW;";
    sql::run(&mut owner, trigger("TRIGGER own_rule BEFORE INSERT OR UPDATE", changes)).await;
    let first = server.register("n", json!({"node_type": "effect"})).await;
    assert_eq!(first["metadata"], json!({"seen": true}));
    assert_eq!(server.get(&node("n")).await.json(), first);
    let again = server.register("n", json!({"node_type": "effect"})).await;
    assert_eq!(again["revision"], first["revision"], "what is stored did not change");
    server.stop().await;
}

#[tokio::test]
async fn a_trigger_that_swallows_a_delete_refuses_that_deregistration_alone() {
    let (server, mut owner) = start().await;
    register_ten(&server).await;
    let swallows = "IF OLD.node_id = 'n7' THEN RETURN NULL; END IF; RETURN OLD;";
    sql::run(&mut owner, trigger("TRIGGER own_rule BEFORE DELETE", swallows)).await;
    let before = sql::newest(&mut owner).await;

    server.delete(&node("n7")).await.problem(422, "refused");
    assert_eq!(server.get(&node("n7")).await.status, 200);
    assert_eq!(sql::newest(&mut owner).await, before, "nothing happened, so nothing is recorded");

    let ids: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
    let answer = server.post("/v1/batch/deregister", json!({ "node_ids": ids })).await;
    answer.problem(422, "refused");
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("9 of 10 were done"), "{}", answer.text);
    assert_eq!(server.ids("").await, ["n7"]);
    assert_eq!(sql::kinds(&mut owner, before).await.len(), 9);
    server.stop().await;
}
