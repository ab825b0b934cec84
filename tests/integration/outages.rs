//! What happens while the database is away, and when it is back.

mod down;
mod failover;
mod log;
mod silent;
mod start;
mod well;

use serde_json::json;

use crate::harness::mortal::MortalCluster;
use crate::harness::{Answer, TestServer, sql};

/// An outage is noticed soon, so that tests needn't wait for it.
pub(crate) const SOON: [&str; 3] = ["--breaker-failures=3", "--breaker-pause=200ms", "--database-silence=1s"];

const STALE: &str = "registry-stale-seconds";

async fn start() -> (MortalCluster, TestServer) {
    let cluster = MortalCluster::start();
    let server = TestServer::start_on(&cluster.url(), &SOON).await;
    (cluster, server)
}

async fn put(server: &TestServer, id: &str) -> Answer {
    server.put(&format!("/v1/nodes/{id}"), json!({"node_type": "effect"})).await
}

/// Waits until the breaker is open, by what a client does.
async fn until_open(server: &TestServer) {
    sql::eventually("the breaker is open", async || {
        put(server, "lost").await.problem_of_an_outage();
        server.get("/readyz").await.json()["breaker"] != "closed"
    })
    .await;
}

/// Waits until a write is taken again.
async fn until_back(server: &TestServer, id: &str) {
    sql::eventually("writes are taken again", async || {
        let answer = put(server, id).await;
        if answer.status != 503 {
            assert!(answer.status == 200 || answer.status == 201, "{} {}", answer.status, answer.text);
        }
        answer.status != 503
    })
    .await;
    sql::eventually("all is well", async || server.get("/readyz").await.json()["status"] == "ok").await;
}

impl Answer {
    /// For how long it has not been known what the table has.
    fn stale_seconds(&self) -> Option<u64> {
        self.header(STALE).map(|seconds| seconds.parse().unwrap())
    }

    /// It says that the database is away, and when to come again.
    fn problem_of_an_outage(&self) {
        assert_eq!(self.status, 503, "{}", self.text);
        let kind = self.json()["type"].clone();
        assert!(kind == "/problems/unavailable" || kind == "/problems/interrupted", "{}", self.text);
        assert_eq!(self.header("retry-after"), Some("1"), "{}", self.text);
    }
}
