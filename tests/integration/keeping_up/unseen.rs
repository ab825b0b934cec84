//! Changes that no event tells of, because triggers slept: they are found by comparing, and told like any other.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::sql::{self, eventually};
use crate::harness::watching::{Message, Watch};
use crate::harness::{Answer, TestDatabase, TestServer, ids_of, node};

on_both_stores!(
    a_change_that_nobody_saw_is_told_to_who_watches_and_to_who_waits,
    an_emptied_table_that_nobody_saw_is_told,
);

const PROD: &str = r#"{"node_type":"effect","metadata":{"env":"prod"}}"#;
/// What is watched: `metadata={"env":"prod"}`.
const FILTER: &str = "metadata=%7B%22env%22%3A%22prod%22%7D";

const REMOVE: &str = "DELETE FROM node_registrations WHERE node_id = 'removed'";
const CHANGE: &str = r#"UPDATE node_registrations SET metadata = '{"env":"test"}' WHERE node_id = 'changed'"#;
const INSERT: &str = r#"INSERT INTO node_registrations (node_id, node_type, metadata) VALUES ('new', 'effect', '{"env":"prod"}')"#;

/// What each of them is, to who watches those of the filter.
const KINDS: [(&str, (&str, &str, &str)); 3] = [
    (REMOVE, ("removed", "deregistered", "removed")),
    (CHANGE, ("removed", "updated", "changed")),
    (INSERT, ("change", "registered", "new")),
];

/// A change that no trigger sees.
async fn unseen(server: &TestServer, statement: &'static str) {
    if let Some(database) = &server.database {
        unseen_in(database, statement).await;
    } else {
        sqlx::raw_sql(statement).execute(&mut server.open_sqlite().await).await.unwrap();
    }
}

async fn unseen_in(database: &TestDatabase, statement: &str) {
    let statement = format!("SET session_replication_role = replica; {statement}");
    sql::run(&mut database.connect().await, statement).await;
}

/// A long poll for the nodes of the filter, from now on.
async fn poll(server: &TestServer) -> JoinHandle<Answer> {
    let since = server.get(&format!("/v1/nodes?{FILTER}")).await.json()["revision"].clone();
    let path = format!("/v1/nodes?{FILTER}&since={since}&wait=60s");
    tokio::spawn(Answer::of(server.request(Method::GET, &path)))
}

fn event_of(message: &Message) -> Value {
    let mut event = message.data.clone();
    event.as_object_mut().unwrap().remove("node");
    event
}

async fn a_change_that_nobody_saw_is_told_to_who_watches_and_to_who_waits(server: &TestServer) {
    for id in ["changed", "removed", "stays"] {
        server.register(id, PROD).await;
    }
    let mut watch = server.watch(FILTER).await;
    let mut told = Vec::new();
    for (statement, gist) in KINDS {
        let polled = poll(server).await;
        unseen(server, statement).await;
        let message = watch.next().await;
        assert_eq!(message.gist(), gist);
        let page = polled.await.unwrap().json();
        assert_eq!(ids_of(&page).contains(&gist.2.to_owned()), gist.0 == "change", "{page}");
        assert!(page["revision"].as_i64() >= message.id);
        told.push(event_of(&message));
    }
    assert!(told.iter().all(|event| event["actor"] == "registry"), "{told:?}");
    let after = told[0]["revision"].as_i64().unwrap() - 1;
    let log = server.get(&format!("/v1/events?after={after}")).await.json();
    assert_eq!(log["events"], Value::from(told), "each is told once");
    assert_eq!(server.get(&node("removed")).await.status, 404);
    assert_eq!(server.ids(FILTER).await, ["new", "stays"]);
}

async fn an_emptied_table_that_nobody_saw_is_told(server: &TestServer) {
    // More than are looked at together.
    const FLEET: usize = 1_100;
    let nodes: Vec<Value> =
        (0..FLEET).map(|n| json!({"node_id": format!("n{n}"), "node_type": "effect"})).collect();
    for nodes in nodes.chunks(1_000) {
        assert_eq!(server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await.status, 200);
    }
    let mut watch = server.watch("node_type=effect").await;
    let empty = "ALTER TABLE node_registrations DISABLE TRIGGER USER; TRUNCATE node_registrations;
                 ALTER TABLE node_registrations ENABLE TRIGGER USER";
    sql::run_on(server, empty, "DELETE FROM node_registrations").await;
    let mut gone = watch.take(FLEET).await;
    assert!(gone.iter().all(|told| (told.gist().0, told.gist().1) == ("removed", "deregistered")));
    gone.sort_by(|one, other| one.gist().2.cmp(other.gist().2));
    gone.dedup_by(|one, other| one.gist().2 == other.gist().2);
    assert_eq!((gone.len(), server.ids("").await.len()), (FLEET, 0));
    server.register("next", PROD).await;
    assert_eq!(watch.next().await.gist(), ("change", "registered", "next"));
}

async fn leads(server: &TestServer) -> bool {
    server.get("/readyz").await.json()["leader"] == true
}

/// A replica that leads, and one that doesn't and compares more often: it finds out first.
async fn two(database: &TestDatabase) -> [TestServer; 2] {
    let leader = TestServer::start_on(&database.url(), &["--compare-interval=4s"]).await;
    eventually("the first one leads", async || leads(&leader).await).await;
    [leader, TestServer::start_on(&database.url(), &["--compare-interval=1s"]).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_out_first_and_does_not_lead_swallows_nothing() {
    let database = TestDatabase::create().await;
    let servers = two(&database).await;
    for id in ["changed", "removed", "stays"] {
        servers[0].register(id, PROD).await;
    }
    let mut watches: Vec<Watch> = Vec::new();
    for server in &servers {
        assert_eq!(server.ids(FILTER).await.len(), 3);
        watches.push(server.watch(FILTER).await);
    }
    for (statement, gist) in KINDS {
        let polled = [poll(&servers[0]).await, poll(&servers[1]).await];
        unseen_in(&database, statement).await;
        let mut ids = Vec::new();
        for (watch, polled) in watches.iter_mut().zip(polled) {
            let message = watch.next().await;
            assert_eq!(message.gist(), gist);
            ids.push(message.id);
            let page = polled.await.unwrap().json();
            assert_eq!(ids_of(&page).contains(&gist.2.to_owned()), gist.0 == "change", "{page}");
        }
        assert_eq!(ids[0], ids[1], "there is one event");
    }
    for server in servers {
        assert_eq!(server.ids(FILTER).await, ["new", "stays"]);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_leads_the_catalog_comes_right_and_who_watches_is_told_to_begin_anew() {
    let database = TestDatabase::create().await;
    let server = TestServer::start_on(&database.url(), &["--compare-interval=1s"]).await;
    server.register("removed", PROD).await;
    let mut owner = database.connect().await;
    let takes = "UPDATE onex_registry_leases SET holder = 'somebody who is away', expires_at = 'infinity'";
    sql::run(&mut owner, takes).await;
    eventually("it doesn't lead any more", async || !leads(&server).await).await;
    let mut watch = server.watch(FILTER).await;
    let polled = poll(&server).await;
    unseen_in(&database, REMOVE).await;
    let told = watch.rest().await;
    let gists: Vec<_> = told.iter().map(|message| (message.name.as_str(), &message.data)).collect();
    assert_eq!(gists, [("closing", &json!({"reason": "reset"}))]);
    assert_eq!(ids_of(&polled.await.unwrap().json()), [""; 0]);
    assert_eq!(server.get(&node("removed")).await.status, 404);

    // Who leads later tells of it, though its catalog has come right.
    let after = sql::newest(&mut owner).await;
    sql::run(&mut owner, "UPDATE onex_registry_leases SET expires_at = now()").await;
    eventually("it is told", async || {
        sql::registrations(&mut owner, after).await == [("removed".to_owned(), "deregistered".to_owned())]
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_is_read_right_before_he_lets_go_and_told_of_after() {
    let database = TestDatabase::create().await;
    let server = TestServer::start_on(&database.url(), &["--compare-interval=1s"]).await;
    server.register("changed", PROD).await;
    eventually("it leads", async || leads(&server).await).await;
    unseen_in(&database, CHANGE).await;
    let mut holder = database.connect().await;
    sql::run(&mut holder, "BEGIN; SELECT FROM node_registrations FOR UPDATE").await;
    let after = sql::newest(&mut holder).await;
    eventually("the catalog comes right", async || {
        let page = server.get_once(&format!("/v1/nodes?{FILTER}")).await;
        page.status == 200 && ids_of(&page.json()).is_empty()
    })
    .await;
    let mut watch = server.watch("").await;
    sql::run(&mut holder, "COMMIT").await;
    assert_eq!(watch.next().await.gist(), ("change", "updated", "changed"));
    assert_eq!(sql::registrations(&mut holder, after).await, [("changed".to_owned(), "updated".to_owned())]);
    drop(watch);
    server.stop().await;
}
