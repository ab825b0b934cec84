//! The database can write no more.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::process::Command;

use crate::harness::process::{Process, program};
use crate::harness::{Backend, TestServer, ids_of, sql};

/// What PostgreSQL says of a full disk (manual, appendix A), if it is.
fn disk(is_full: bool) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF {is_full} THEN
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
             END IF;
             RETURN NEW;
         END $$"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_answered_with_507_and_reads_go_on() {
    let server = TestServer::start_with(Backend::Postgres, &["--breaker-failures=3"]).await;
    server.register("a", json!({"node_type": "effect"})).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    sql::run(&mut owner, disk(true)).await;
    let trigger = "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON node_registrations
                      FOR EACH ROW EXECUTE FUNCTION full_disk()";
    sql::run(&mut owner, trigger).await;

    // Oftener than it takes to open the breaker: who says that its disk is full has answered.
    for _ in 0..4 {
        for answer in [
            server.put("/v1/nodes/b", json!({"node_type": "effect"})).await,
            server.post("/v1/nodes/a/heartbeat", "").await,
            server.put("/v1/nodes/a/maintenance", json!({"reason": "a disk"})).await,
            server.post("/v1/batch/heartbeats", json!({"node_ids": ["a"]})).await,
        ] {
            answer.problem(507, "database-full");
            assert!(!answer.text.contains("could not extend"), "{}", answer.text);
        }
    }
    let nodes = ["b", "c"].map(|id| json!({"node_id": id, "node_type": "effect"}));
    let batch = server.post("/v1/batch/nodes", json!({"nodes": nodes})).await;
    for result in batch.json()["results"].as_array().unwrap() {
        assert_eq!(result["status"], 507, "{result}");
    }
    for query in ["", "consistency=strong"] {
        assert_eq!(server.ids(query).await, ["a"]);
    }
    let ready = server.get("/readyz").await.json();
    assert_eq!((&ready["status"], &ready["breaker"]), (&json!("ok"), &json!("closed")));
    assert_eq!(server.delete("/v1/nodes/a").await.status, 204, "what makes room is done");
    sql::run(&mut owner, disk(false)).await;
    assert_eq!(server.put("/v1/nodes/b", json!({"node_type": "effect"})).await.status, 201);
    server.stop().await;
}

/// The program, where no file can grow larger than a megabyte: to SQLite it is as if there were no room.
fn with_little_room(folder: &Path) -> Command {
    let server = program(folder);
    let mut command = Command::new("sh");
    // Blocks of 512 bytes, or of 1,024. Who ignores the signal is told by an error (setrlimit(2), RLIMIT_FSIZE).
    command
        .args(["-c", r#"trap "" XFSZ; ulimit -f 1500; exec "$0""#])
        .arg(server.as_std().get_program())
        .current_dir(folder)
        .env_clear()
        .kill_on_drop(true);
    command
}

async fn put(process: &Process, id: &str, filler: usize) -> u16 {
    let body = json!({"node_type": "effect", "metadata": {"filler": "x".repeat(filler)}}).to_string();
    let request = reqwest::Client::new().put(process.url(&format!("/v1/nodes/{id}"))).body(body);
    request.header("content-type", "application/json").send().await.unwrap().status().as_u16()
}

async fn ids(process: &Process, query: &str) -> BTreeSet<String> {
    let page = reqwest::get(process.url(&format!("/v1/nodes?limit=1000{query}"))).await.unwrap();
    assert_eq!(page.status(), 200);
    let page: Value = serde_json::from_str(&page.text().await.unwrap()).unwrap();
    ids_of(&page).into_iter().collect()
}

#[tokio::test]
async fn an_sqlite_file_that_cannot_grow_loses_nothing_and_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let set = |mut command: Command| {
        command.env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0").env("ONEX_REGISTRY_LOG_FORMAT", "json");
        command
    };
    let mut process = Process::start(&mut set(with_little_room(folder.path()))).await;
    let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
    for number in 0..200 {
        let id = format!("n{number:03}");
        match put(&process, &id, 20_000).await {
            201 => drop(acknowledged.insert(id)),
            503 | 507 => refused += 1,
            other => panic!("{id}: {other}"),
        }
        if refused == 20 {
            break;
        }
    }
    assert!(acknowledged.len() > 9 && refused == 20, "{} were taken", acknowledged.len());
    assert_eq!(ids(&process, "").await, acknowledged, "reads go on, and show what was acknowledged");
    let summary = reqwest::get(process.url("/v1/summary")).await.unwrap();
    assert_eq!(summary.status(), 200);
    process.signal("KILL").await;
    process.wait().await;

    let mut process = Process::start(&mut set(program(folder.path()))).await;
    assert_eq!(ids(&process, "&consistency=strong").await, acknowledged);
    assert_eq!(put(&process, "after", 20_000).await, 201, "there is room again");
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let file = folder.path().join("onex-registry.db");
    let mut file: SqliteConnection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let intact: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut file).await.unwrap();
    assert_eq!(intact, "ok");
    file.close().await.unwrap();
}
