//! What the database tells of, and that it is missed when it doesn't.

use sqlx::PgConnection;

use crate::following::hinted::NOTIFY_ANYWAY;
use crate::harness::proxy::Proxy;
use crate::harness::sql::{self, eventually};
use crate::harness::{TestDatabase, TestServer};

const EFFECT: &str = r#"{"node_type":"effect"}"#;

/// The backend that tells a server of changes.
async fn listener(owner: &mut PgConnection) -> Option<i32> {
    let listening = "SELECT max(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    sql::value(owner, listening).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_of_plain_sql_does_not_listen_anew() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database).await;
    let server = TestServer::start_on(proxy.url(), &[]).await;
    let mut owner = database.connect().await;
    sql::run(&mut owner, NOTIFY_ANYWAY).await;
    eventually("it listens", async || listener(&mut owner).await.is_some()).await;
    // One that is told nothing shows how long it takes to find that out.
    let untold = Proxy::to(&database).await;
    let other = TestServer::start_on(untold.url(), &[]).await;
    eventually("it listens", async || untold.listening() == 1).await;
    untold.silence_listening();
    let mut round = 0;
    eventually("the other one listens anew", async || {
        sql::upsert(&mut owner, &format!("n{round}"), "effect", "{}").await.unwrap();
        round += 1;
        eventually("it is known", async || server.ids("").await.len() == round).await;
        untold.listening() == 2
    })
    .await;
    assert_eq!(proxy.listening(), 1);
    other.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_nothing_on_a_dead_connection_finds_out_and_listens_anew() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database).await;
    let server = TestServer::start_on(proxy.url(), &["--compare-interval=1d"]).await;
    let other = TestServer::start_on(&database.url(), &[]).await;
    let mut owner = database.connect().await;
    eventually("it listens", async || proxy.listening() == 1).await;
    other.register("told", EFFECT).await;
    eventually("it is told", async || server.ids("").await == ["told"]).await;

    proxy.silence_listening();
    let written = other.register("untold", EFFECT).await;
    // It is waited for, but nobody says that it is there.
    let found = format!("/v1/nodes?min_revision={}", written["revision"]);
    assert_eq!(server.get_once(&found).await.status, 200);
    eventually("it listens anew", async || proxy.listening() == 2).await;
    // And hears: what it is told of by plain SQL is known at once, and not only when it looks.
    let before = listener(&mut owner).await;
    other.register("told again", EFFECT).await;
    eventually("it is told", async || server.ids("").await.len() == 3).await;
    assert_eq!(listener(&mut owner).await, before);
    assert_eq!(proxy.listening(), 2);
    other.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_nothing_at_first_tries_again_soon() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database).await;
    proxy.lose_a_trial();
    let server = TestServer::start_on(proxy.url(), &[]).await;
    eventually("it waits for one in vain", async || proxy.has_lost_it()).await;
    // It gives up, and looks for itself meanwhile.
    sql::upsert(&mut database.connect().await, "looked for", "effect", "{}").await.unwrap();
    eventually("it is found", async || server.ids("").await == ["looked for"]).await;
    eventually("it listens anew, and is told", async || proxy.listening() == 1).await;
    server.stop().await;
}
