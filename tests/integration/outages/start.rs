//! The server starts while the database is away.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::{SOON, STALE, put, until_back};
use crate::harness::mortal::MortalCluster;
use crate::harness::process::{Process, program, run};
use crate::harness::{TestDatabase, TestServer, sql};

async fn unready(cluster: &MortalCluster, arguments: &[&str]) -> TestServer {
    let arguments: Vec<&str> = SOON.iter().chain(arguments).copied().collect();
    TestServer::try_start_unready_on(&cluster.url(), &arguments).await.expect("the server starts")
}

fn setting(path: &Path) -> String {
    format!("--snapshot={}", path.display())
}

/// A fleet that was served, and kept; the database has died since.
async fn kept(folder: &Path) -> (MortalCluster, String) {
    let mut cluster = MortalCluster::start();
    let setting = setting(&folder.join("fleet"));
    let arguments: Vec<&str> =
        SOON.iter().copied().chain(["--ttl=2s", "--probe-interval=0", &setting]).collect();
    let server = TestServer::start_on(&cluster.url(), &arguments).await;
    let body = json!({"node_type": "effect", "metadata": {"exact": 1}, "ttl_seconds": 3});
    server.register("alive", body).await;
    assert_eq!(server.post("/v1/nodes/alive/heartbeat", "").await.status, 200);
    server.register("never_seen", json!({"node_type": "compute"})).await;
    server.register("aside", json!({"node_type": "reducer"})).await;
    let aside = server.put("/v1/nodes/aside/maintenance", json!({"reason": "a disk"})).await;
    assert_eq!(aside.status, 200);
    let everything = server.everything().await;
    server.stop().await;
    cluster.die();
    (cluster, everything)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_it_waits_and_says_so() {
    let mut cluster = MortalCluster::prepare();
    let server = unready(&cluster, &[]).await;
    assert_eq!(server.get_once("/livez").await.status, 200);
    assert_eq!(server.get_once("/metrics").await.status, 200);
    for path in ["/readyz", "/v1/nodes", "/v1/nodes/a", "/v1/summary", "/v1/events", "/v1/watch"] {
        let refused = server.get_once(path).await;
        assert!(refused.problem(503, "unavailable").is_empty());
        assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
    }
    put(&server, "a").await.problem_of_an_outage();
    // It is migrated as soon as it is there.
    cluster.come_back();
    until_back(&server, "a").await;
    assert_eq!(server.ids("").await, ["a"]);
    assert_eq!(server.ids("consistency=strong").await, ["a"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_snapshot_it_serves_what_it_last_knew() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, everything) = kept(folder.path()).await;
    let mode = std::fs::metadata(folder.path().join("fleet")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let arguments = ["--ttl=2s", "--probe-interval=0", &setting(&folder.path().join("fleet"))];
    let server = unready(&cluster, &arguments).await;
    let ready = server.get_once("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")), "{}", ready.text);
    // Longer than a TTL: status is judged at the instant up to which all was known.
    sql::eventually("it is old", async || {
        assert_eq!(server.everything().await, everything, "byte for byte");
        server.get("/v1/nodes").await.stale_seconds() >= Some(4)
    })
    .await;
    let found = server.get("/v1/nodes?status=healthy&node_type=effect&metadata=%7B%22exact%22:1%7D").await;
    assert_eq!(found.json()["nodes"][0]["node_id"], "alive");
    let age = found.stale_seconds();
    assert!((Some(4)..Some(60)).contains(&age), "{age:?}");
    put(&server, "new").await.problem_of_an_outage();
    server.get("/v1/nodes?consistency=strong").await.problem_of_an_outage();

    cluster.come_back();
    let mut plain = cluster.connect().await;
    sql::upsert(&mut plain, "by_sql", "effect", "{}").await.unwrap();
    until_back(&server, "new").await;
    let all = ["alive", "aside", "by_sql", "never_seen", "new"];
    sql::eventually("the table is read", async || server.ids("").await == all).await;
    assert_eq!(server.get("/v1/nodes").await.header(STALE), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_snapshot_is_told_what_has_happened_since_once_the_table_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, _) = kept(folder.path()).await;
    let server = unready(&cluster, &["--probe-interval=0", &setting(&folder.path().join("fleet"))]).await;
    let newest = server.get("/v1/nodes").await.header("registry-revision").unwrap().to_owned();
    let after = format!("after={newest}");
    let mut watches = [server.watch("").await, server.watch(&after).await];

    cluster.come_back();
    let mut plain = cluster.connect().await;
    sql::upsert(&mut plain, "by_sql", "effect", "{}").await.unwrap();
    for watch in &mut watches {
        loop {
            let message = watch.next().await;
            assert_eq!(message.name, "change", "nothing is wrong with what was told: {message:?}");
            if message.gist() == ("change", "registered", "by_sql") {
                break;
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_right_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, _) = kept(folder.path()).await;
    let path = folder.path().join("fleet");
    let right = std::fs::read(&path).unwrap();
    let mut changed = right.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let mut newer = right.clone();
    newer[8] += 1;
    for (what, bytes) in [
        ("something in it has changed", changed),
        ("it is cut off", right[..right.len() - 1].to_vec()),
        ("another version", newer),
        ("something else", b"{}".to_vec()),
        ("nothing", Vec::new()),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let server = unready(&cluster, &[&setting(&path)]).await;
        assert_eq!(server.get_once("/v1/nodes").await.status, 503, "{what}");
        assert_eq!(server.get_once("/readyz").await.status, 503, "{what}");
        server.stop().await;
    }
    std::fs::write(&path, &right).unwrap();
    // The same server, and another database on it.
    let other = cluster.url().replace("/postgres", "/template1").replacen("template1@", "postgres@", 1);
    let setting = setting(&path);
    let server = TestServer::try_start_unready_on(&other, &[&setting]).await.unwrap();
    assert_eq!(server.get_once("/v1/nodes").await.status, 503, "another database");
    server.stop().await;
    assert_eq!(std::fs::read(&path).unwrap(), right, "who knows nothing keeps nothing");
    let server = unready(&cluster, &[&setting]).await;
    assert_eq!(server.ids("").await.len(), 3, "it was right all the time");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_kept_while_the_server_runs_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = MortalCluster::start();
    let command = || {
        let mut command = program(folder.path());
        command.env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0").env("DATABASE_URL", cluster.url());
        command
            .env("ONEX_REGISTRY_SNAPSHOT", "fleet")
            .env("RUST_LOG", "info,onex_registry::http::observe=warn");
        command
    };
    let mut process = Process::start(&mut command()).await;
    let client = reqwest::Client::new();
    let request = client.put(process.url("/v1/nodes/n")).header("content-type", "application/json");
    let put = request.body(r#"{"node_type":"effect"}"#).send().await.unwrap();
    assert_eq!(put.status().as_u16(), 201);
    let path = folder.path().join("fleet");
    let has_it =
        || std::fs::read(&path).is_ok_and(|bytes| bytes.windows(12).any(|part| part == b"\"node_id\":\"n"));
    sql::eventually("it is kept", async || has_it()).await;
    process.signal("KILL").await;
    process.wait().await;
    let mut again = command();
    cluster.die();
    let mut process = Process::start(&mut again).await;
    let page = reqwest::get(process.url("/v1/nodes")).await.unwrap();
    assert!(page.headers().contains_key(STALE));
    assert!(page.text().await.unwrap().contains("\"node_id\":\"n\""));
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_the_settings_ends_the_start() {
    let database = TestDatabase::create().await;
    let missing = database.url().replace(database.name(), "there_is_no_such_database");
    let folder = tempfile::tempdir().unwrap();
    for url in [missing, database.url_as("there_is_no_such_role")] {
        let Err(error) = TestServer::try_start_unready_on(&url, &[]).await.map(drop) else {
            panic!("it starts on {url}");
        };
        assert!(format!("{error:#}").contains("there_is_no_such"), "{error:#}");
    }
    let Err(error) = TestServer::try_start_unready_on(&database.url(), &["--migrate=off"]).await.map(drop)
    else {
        panic!("it starts without tables");
    };
    assert!(format!("{error:#}").contains("node_registrations"), "{error:#}");
    let output = run(program(folder.path()).env("ONEX_REGISTRY_SNAPSHOT", "no/such/folder/fleet")).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("ONEX_REGISTRY_SNAPSHOT"), "{said}");
}
