//! What was written to a replica is seen by the next read there, also if the write left no event, and the replica had
//! not heard of the node yet.

use serde_json::{Value, json};

use crate::harness::{Backend, TestServer, ids_of, node, sql};

/// Table and catalog are not compared while this runs, unless there is a reason.
const NEVER: &str = "--compare-interval=1h";

/// What the next reads show: each is asked for once.
async fn read(server: &TestServer, id: &str) -> Value {
    let page = server.get_once("/v1/nodes?limit=1000").await.json();
    let answer = server.get_once(&node(id)).await;
    assert_eq!(answer.status, 200, "{id}: {}", answer.text);
    assert!(ids_of(&page).iter().any(|listed| listed == id), "{id}: {page}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_another_writer_registered_a_moment_ago() {
    let server = TestServer::start_with(Backend::Postgres, &[NEVER]).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    for round in 0..10 {
        let [beaten, beaten_together, renewed] =
            ["beaten", "together", "renewed"].map(|id| format!("{id}{round}"));
        for id in [&beaten, &beaten_together, &renewed] {
            sql::upsert(&mut owner, id, "effect", "{}").await.unwrap();
        }
        let beat = server.post(&format!("{}/heartbeat", node(&beaten)), "").await;
        assert_eq!(beat.status, 200, "{}", beat.text);
        assert_eq!(read(&server, &beaten).await["last_heartbeat"], beat.json()["last_heartbeat"]);

        let ids = json!({"node_ids": [beaten_together, "nobody"]});
        let beat = server.post("/v1/batch/heartbeats", ids).await;
        assert_eq!(beat.json()["accepted"], 1, "{}", beat.text);
        assert_eq!(read(&server, &beaten_together).await["status"], "healthy");

        let same = json!({
            "node_type": "effect", "capabilities": {"capabilities": []}, "endpoints": {"grpc": "localhost:50051"},
        });
        let answer = server.put(&node(&renewed), same).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(read(&server, &renewed).await, answer.json());
    }
    server.stop().await;
}

/// Statements that leave no event.
async fn unseen(server: &TestServer, statements: &str) {
    if let Some(database) = &server.database {
        let statements = format!("SET session_replication_role = replica; {statements}");
        sql::run(&mut database.connect().await, statements).await;
    } else {
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements).execute(&mut server.open_sqlite().await).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_no_event_tells_of() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let server = TestServer::start_with(backend, &[NEVER]).await;
        server.register("changed", json!({"node_type": "effect"})).await;
        for (id, node_type, statement) in [
            (
                "changed",
                "compute",
                "UPDATE node_registrations SET node_type = 'compute' WHERE node_id = 'changed'",
            ),
            (
                "renewed",
                "effect",
                "INSERT INTO node_registrations (node_id, node_type) VALUES ('renewed', 'effect')",
            ),
        ] {
            unseen(&server, statement).await;
            let answer = server.put(&node(id), json!({ "node_type": node_type })).await;
            assert_eq!(answer.status, 200, "it changes nothing: {}", answer.text);
            assert_eq!(read(&server, id).await["node_type"], node_type);
        }
        unseen(&server, "INSERT INTO node_registrations (node_id, node_type) VALUES ('beaten', 'effect')")
            .await;
        let beat = server.post(&format!("{}/heartbeat", node("beaten")), "").await;
        assert_eq!(beat.status, 200, "{}", beat.text);
        assert_eq!(read(&server, "beaten").await["last_heartbeat"], beat.json()["last_heartbeat"]);
        // Others are told of it, by an event of the registry's own.
        let events = server.get("/v1/events?kind=updated").await.json();
        assert_eq!(events["events"][0]["actor"], "registry", "{backend:?}: {events}");
        server.stop().await;
    }
}
