//! One replica behaves as if it did one thing at a time: an acknowledged write is in every later read.

use std::sync::Arc;

use futures_util::future::join_all;

use super::checker::judge;
use super::clients::{Book, client, log};
use crate::harness::{Backend, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_on_postgresql() {
    are_linearizable(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_on_sqlite() {
    are_linearizable(Backend::Sqlite).await;
}

async fn are_linearizable(backend: Backend) {
    let servers = [Arc::new(TestServer::start(backend).await)];
    let book = Book::default();
    join_all((0..16).map(|number| client(number, 150, &servers, &book, false))).await;
    let (writes, reads) = book.counts();
    assert!(writes > 400 && reads > 400, "{writes} writes, {reads} reads");
    let wrong = judge(&book.history(), &log(&servers[0]).await);
    assert!(wrong.is_empty(), "{} faults, the first: {:#?}", wrong.len(), &wrong[..wrong.len().min(3)]);
    let [server] = servers;
    Arc::into_inner(server).unwrap().stop().await;
}
