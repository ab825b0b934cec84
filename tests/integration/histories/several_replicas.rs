//! Three replicas on one database, whose connections are cut again and again.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::checker::{judge, judge_watcher};
use super::clients::{Book, client, log};
use super::dice::Dice;
use crate::harness::sql::{eventually, newest, value};
use crate::harness::{TestDatabase, TestServer};

/// Cuts some of the servers' connections until told to stop; says how many.
async fn cut(connection: &mut PgConnection, stop: &CancellationToken) -> i64 {
    let mut dice = Dice(99);
    let mut cut = 0;
    while !stop.is_cancelled() {
        let odds = dice.below(3) + 2;
        cut += value::<i64>(
            connection,
            format!(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                  WHERE application_name = 'onex-registry' AND datname = current_database()
                    AND pid % {odds} = 0"
            ),
        )
        .await;
        // Between two cuts something is to be got done, however slow the machine is.
        let before = newest(connection).await;
        eventually("something is written", async || {
            stop.is_cancelled() || newest(connection).await > before + 20
        })
        .await;
    }
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_agree_whatever_becomes_of_their_connections() {
    let database = TestDatabase::create().await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Arc::new(TestServer::start_on(&database.url(), &[]).await));
    }
    let watchers: Vec<_> = servers.iter().map(|server| server.watch("after=0")).collect();
    let watchers = join_all(watchers).await;

    let book = Book::default();
    let stop = CancellationToken::new();
    let mut connection = database.connect().await;
    let work = async {
        join_all((0..9).map(|number| client(number, 200, &servers, &book, true))).await;
        stop.cancel();
    };
    let (cut, ()) = join(cut(&mut connection, &stop), work).await;
    assert!(cut > 10, "{cut} connections were cut");
    let (writes, reads) = book.counts();
    assert!(writes > 300 && reads > 300, "{writes} writes, {reads} reads");

    // What was not acknowledged may still come; then all know the same.
    eventually("the connections are back", async || {
        servers[0].get_once("/v1/events?limit=1").await.status == 200
    })
    .await;
    let log = log(&servers[0]).await;
    let wrong = judge(&book.history(), &log);
    assert!(wrong.is_empty(), "{} faults, the first: {:#?}", wrong.len(), &wrong[..wrong.len().min(3)]);
    let newest = log.0.last().unwrap()["revision"].as_i64().unwrap();
    for (server, mut watcher) in servers.iter().zip(watchers) {
        let told = server.told_up_to(&mut watcher, newest).await;
        let told: Vec<i64> = told.iter().filter_map(|message| message.id).collect();
        let wrong = judge_watcher(&told, 0, &log);
        assert!(wrong.is_empty(), "{wrong:?}");
        // Equal to the table, too.
        server.get("/v1/nodes").await;
    }
    for server in servers {
        Arc::into_inner(server).unwrap().stop().await;
    }
}
