//! What tests stand on: a PostgreSQL cluster, databases, servers, a client.

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod endpoints;
pub(crate) mod keys;
pub(crate) mod mortal;
pub(crate) mod pooler;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod raw;
mod reading;
pub(crate) mod server;
pub(crate) mod sql;
pub(crate) mod tls;
pub(crate) mod waiting;
pub(crate) mod watching;

pub(crate) use database::TestDatabase;
pub(crate) use server::{Answer, Backend, TestServer, encoded, ids_of, node, places_of};

/// Makes a test for each store of every function that is named: `async fn name(server: &TestServer)`.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let server = crate::harness::TestServer::start(crate::harness::Backend::Postgres).await;
                    super::$name(&server).await;
                    server.stop().await;
                }
            )+
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let server = crate::harness::TestServer::start(crate::harness::Backend::Sqlite).await;
                    super::$name(&server).await;
                    server.stop().await;
                }
            )+
        }
    };
}
