//! When much of the fleet turns stale at once, nobody expires; nor after an outage, before a TTL has passed.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::{ages, alive, kinds_of};
use crate::harness::{Backend, TestDatabase, TestServer, node, sql};

pub(crate) const FLEET: [&str; 4] =
    ["--ttl=4s", "--expire-after=1s", "--probe-interval=0", "--self-preservation-percent=15"];

async fn preservation(server: &TestServer) -> Value {
    server.get("/v1/summary").await.json()["self_preservation"].clone()
}

/// So many nodes that have been healthy for a TTL.
pub(crate) async fn fleet(server: &TestServer, size: usize) -> Vec<String> {
    let ids: Vec<String> = (0..size).map(|i| format!("n{i:02}")).collect();
    for id in &ids {
        alive(server, id, None).await;
    }
    sql::eventually("they were healthy one TTL ago", async || {
        heartbeats(server, &ids).await;
        preservation(server).await["were_healthy"] == size
    })
    .await;
    ids
}

pub(crate) async fn heartbeats(server: &TestServer, ids: &[String]) {
    assert_eq!(server.post("/v1/batch/heartbeats", json!({"node_ids": ids})).await.status, 200);
}

async fn a_cut_off_removes_nobody_and_ends_when_the_fleet_is_well(server: &TestServer) {
    let ids = fleet(server, 12).await;
    // Nobody reaches us any more.
    sql::eventually("expiry pauses", async || preservation(server).await["active"] == true).await;
    sql::eventually("all are stale", async || server.ids("status=stale").await.len() == 12).await;
    let shown = preservation(server).await;
    assert!(shown["since"].is_string() && shown["taking_part"] == 12, "{shown}");
    assert_eq!(server.get("/readyz").await.json()["self_preservation"]["active"], true);
    sql::eventually("it is in the metrics", async || {
        server.get("/metrics").await.text.contains("\nonex_registry_self_preservation 1\n")
    })
    .await;
    // A little less than a half comes back: that is not well. Far beyond the time at which all are overdue.
    let begun = std::time::Instant::now();
    sql::eventually("three TTLs have passed", async || {
        heartbeats(server, &ids[..5]).await;
        assert_eq!(server.ids("").await.len(), 12, "nobody is removed");
        begun.elapsed() > Duration::from_secs(12)
    })
    .await;
    assert_eq!(preservation(server).await["active"], true);
    // Another one, and they are half. When they have been well for a TTL, the rest is removed.
    sql::eventually("it ends, and the rest expires", async || {
        heartbeats(server, &ids[..6]).await;
        server.ids("").await == ids[..6]
    })
    .await;
    sql::eventually("it is over", async || preservation(server).await["active"] == false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_removes_nobody_on_postgres() {
    let server = TestServer::start_with(Backend::Postgres, &FLEET).await;
    a_cut_off_removes_nobody_and_ends_when_the_fleet_is_well(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_removes_nobody_on_sqlite() {
    let server = TestServer::start_with(Backend::Sqlite, &FLEET).await;
    a_cut_off_removes_nobody_and_ends_when_the_fleet_is_well(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_inherits_the_cut_off() {
    let database = TestDatabase::create().await;
    let first = TestServer::start_on(&database.url(), &FLEET).await;
    fleet(&first, 10).await;
    let second = TestServer::start_on(&database.url(), &FLEET).await;
    sql::eventually("expiry pauses", async || preservation(&second).await["active"] == true).await;
    let since = preservation(&second).await["since"].clone();
    first.stop().await;
    sql::eventually("another leads", async || second.get("/readyz").await.json()["leader"] == true).await;
    let mut owner = database.connect().await;
    // A census of its own, and with it the decision whether to remove somebody.
    alive(&second, "witness", None).await;
    sql::eventually("it looks after the fleet", async || !kinds_of(&mut owner, "witness").await.is_empty())
        .await;
    sql::eventually("it has told of it", async || kinds_of(&mut owner, "witness").await.len() == 2).await;
    assert_eq!(
        (&preservation(&second).await["active"], &preservation(&second).await["since"]),
        (&json!(true), &since)
    );
    assert_eq!(second.ids("").await.len(), 11);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_fleet_is_exempt() {
    let server = TestServer::start_with(Backend::Postgres, &FLEET).await;
    fleet(&server, 9).await;
    sql::eventually("all expire", async || server.ids("").await.is_empty()).await;
    assert_eq!(preservation(&server).await["active"], false);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_nobody_is_stale_or_removed_before_a_ttl_of_grace() {
    let database = TestDatabase::create().await;
    let arguments = ["--ttl=1h", "--expire-after=1s", "--probe-interval=0"];
    let server = TestServer::start_on(&database.url(), &arguments).await;
    alive(&server, "alive", None).await;
    alive(&server, "dead", None).await;
    let mut owner = database.connect().await;
    for id in ["alive", "dead"] {
        sql::eventually("it is told to be healthy", async || kinds_of(&mut owner, id).await.len() == 2).await;
    }
    ages(&mut owner, "node_id = 'dead'", "61 minutes").await;
    sql::eventually("it is told to be stale", async || kinds_of(&mut owner, "dead").await.len() == 3).await;
    server.stop().await;
    // To the database, the server was away for two hours: nobody could tell that it was alive.
    ages(&mut owner, "TRUE", "2 hours").await;
    let past = "UPDATE onex_registry_state SET served_until = served_until - interval '2 hours';
                UPDATE onex_registry_node_health SET since = since - interval '2 hours'";
    sql::run(&mut owner, past).await;

    let server = TestServer::start_on(&database.url(), &arguments).await;
    let other = TestServer::start_on(&database.url(), &arguments).await;
    for server in [&server, &other] {
        assert_eq!(server.get(&node("alive")).await.json()["status"], "healthy");
        assert_eq!(server.ids("status=healthy").await, ["alive"]);
        // Who was stale before stays so, and is not removed before a TTL either.
        assert_eq!(server.ids("status=stale").await, ["dead"]);
    }
    alive(&server, "witness", None).await;
    sql::eventually("it looks after the fleet", async || kinds_of(&mut owner, "witness").await.len() == 2)
        .await;
    assert_eq!(kinds_of(&mut owner, "alive").await, ["registered", "healthy"]);
    assert_eq!(kinds_of(&mut owner, "dead").await, ["registered", "healthy", "stale"]);

    // The grace is over an hour after the outage.
    let later = "UPDATE onex_registry_state SET outage_began = outage_began - interval '61 minutes',
                        outage_ended = outage_ended - interval '61 minutes'";
    sql::run(&mut owner, later).await;
    ages(&mut owner, "node_id <> 'witness'", "61 minutes").await;
    sql::eventually("it is stale now", async || server.ids("status=stale").await == ["alive", "dead"]).await;
    assert_eq!(other.ids("status=healthy").await, ["witness"]);
    // The server itself has not been up for a TTL of an hour, so nobody is removed.
    sql::eventually("it is told", async || kinds_of(&mut owner, "alive").await.len() == 3).await;
    assert_eq!(server.ids("").await, ["alive", "dead", "witness"]);
    other.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_restart_is_an_outage_to_the_server_that_restarts() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let database = if backend == Backend::Postgres { Some(TestDatabase::create().await) } else { None };
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}", folder.path().join("registry.db").display());
        let url = database.as_ref().map_or_else(|| file.clone(), TestDatabase::url);
        let arguments = ["--ttl=1h", "--probe-interval=0"];
        let server = TestServer::start_on(&url, &arguments).await;
        alive(&server, "n", None).await;
        server.stop().await;
        // It was away for two seconds, and in these the last sign of life grew too old.
        if let Some(database) = &database {
            let mut owner = database.connect().await;
            let past = "UPDATE onex_registry_state SET served_until = now() - interval '2 seconds';
                        UPDATE node_registrations SET last_heartbeat = now() - interval '1 hour 1 second'";
            sql::run(&mut owner, past).await;
        } else {
            let past = "UPDATE onex_registry_state SET served_until = unixepoch('subsec') * 1000000 - 2000000;
                        UPDATE node_registrations SET last_heartbeat = unixepoch('subsec') * 1000000 - 3601000000";
            let mut writer = SqliteConnection::connect(&file).await.unwrap();
            sqlx::raw_sql(past).execute(&mut writer).await.unwrap();
            writer.close().await.unwrap();
        }
        let server = TestServer::start_on(&url, &arguments).await;
        assert_eq!(server.get(&node("n")).await.json()["status"], "healthy", "{backend:?}");
        assert_eq!(server.ids("status=healthy").await, ["n"], "{backend:?}");
        server.stop().await;
    }
}
