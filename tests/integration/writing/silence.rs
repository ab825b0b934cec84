//! Connections whose other end has gone in silence: nothing comes any more, and nobody says that they are lost.

use std::sync::Arc;
use std::time::Duration;

use onex_registry::node::Ttl;
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{IfHeld, Store as _};
use serde_json::json;
use sqlx::PgConnection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{key, open, register};
use crate::harness::proxy::Proxy;
use crate::harness::{TestDatabase, sql};

const CONNECTIONS: u32 = 10;
/// The system would take a quarter of an hour to find that out.
const SOON: Duration = Duration::from_secs(20);

async fn through(proxy: &Proxy) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::connect(proxy.url(), CONNECTIONS, Ttl::from_seconds(90)).await.unwrap())
}

/// Calls that wait for a lock which somebody holds, on all connections that there may be.
async fn occupy(store: &Arc<PostgresStore>, owner: &mut PgConnection) -> JoinSet<()> {
    sql::run(owner, "BEGIN; LOCK TABLE node_registrations IN ACCESS EXCLUSIVE MODE").await;
    let mut calls = JoinSet::new();
    for call in 0..CONNECTIONS {
        let store = Arc::clone(store);
        calls.spawn(async move {
            // Half of them in transactions, half in single statements where sessions are ours.
            loop {
                if call % 2 == 0 {
                    drop(store.records(&[key("a")]).await);
                } else {
                    drop(store.heartbeat(&[key("a")], IfHeld::ComeBack).await);
                }
            }
        });
    }
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'node_registrations'::regclass
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    sql::eventually("all connections are in use", async || {
        sql::value::<i64>(&mut *owner, waiting).await == i64::from(CONNECTIONS)
    })
    .await;
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_leave_the_connections_to_others() {
    for ours in [false, true] {
        let database = TestDatabase::create().await;
        open(&database).await;
        let proxy = Proxy::to(&database).await;
        let store = through(&proxy).await;
        if ours {
            store.sessions_are_ours();
        }
        let mut owner = database.connect().await;
        let mut calls = occupy(&store, &mut owner).await;
        proxy.silence();
        calls.shutdown().await;
        drop(owner);

        let begun = Instant::now();
        while store.register(&[register("b", &json!({}))], IfHeld::ComeBack).await.results[0].is_err() {
            assert!(begun.elapsed() < SOON, "connections that nobody answers on are kept");
        }
        sql::eventually("none of them is kept", async || store.connections().in_use == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_while_nobody_needed_it_costs_no_call() {
    let database = TestDatabase::create().await;
    open(&database).await;
    let proxy = Proxy::to(&database).await;
    let store = through(&proxy).await;
    assert!(store.register(&[register("a", &json!({}))], IfHeld::Wait).await.results[0].is_ok());
    // Others are told of it on a connection, too.
    let is_idle = async || {
        let connections = store.connections();
        connections.idle > 0 && connections.in_use == 0
    };
    sql::eventually("it is idle", is_idle).await;
    // So long that it is asked whether it is still there.
    let mut observer = database.connect().await;
    let idle = "SELECT bool_and(state = 'idle' AND clock_timestamp() - state_change > '100 ms')
                  FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sql::eventually("it has been idle for a while", async || sql::value(&mut observer, idle).await).await;
    proxy.silence();
    let written = store.register(&[register("a", &json!({"new": 1}))], IfHeld::Wait).await;
    assert!(written.results[0].is_ok(), "{:?}", written.results);
}
