//! Reads that the database answers, and what they leave to others.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::harness::sql::{self, value};
use crate::harness::{Answer, Backend, TestServer};

const EFFECT: &str = r#"{"node_type":"effect"}"#;

/// Another transaction locks the table: all reads of it hang, more of them than there are connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_hang_leave_connections_to_those_who_report() {
    let server = TestServer::start(Backend::Postgres).await;
    server.register("n", EFFECT).await;
    let database = server.database.as_ref().unwrap();
    let (mut owner, mut observer) = (database.connect().await, database.connect().await);
    sql::run(&mut owner, "BEGIN; LOCK TABLE node_registrations IN ACCESS EXCLUSIVE MODE").await;
    let begun = Instant::now();
    let paths = ["/v1/nodes/n?consistency=strong", "/v1/nodes?consistency=strong"];
    let reads: Vec<_> =
        (0..30).map(|read| tokio::spawn(Answer::of(server.request(Method::GET, paths[read % 2])))).collect();
    // Those that have no turn are told so, and don't wait for those that hang.
    sql::eventually("those have been told", async || {
        // Without a connection it would be silent for as long as the others hang: ten seconds. Three count as an outage,
        // and a machine that is busy may take some more.
        let silence =
            "SELECT EXTRACT(EPOCH FROM clock_timestamp() - served_until)::float8 FROM onex_registry_state";
        let silence: f64 = value(&mut observer, silence).await;
        assert!(silence < 5.0, "{silence} s");
        let refused = reads.iter().filter(|read| read.is_finished()).count();
        assert!(begun.elapsed() < Duration::from_secs(9), "{refused} were answered");
        refused >= 20
    })
    .await;
    sql::run(&mut owner, "COMMIT").await;
    let (mut answered, mut crowded) = (0, 0);
    for read in reads {
        let answer = read.await.unwrap();
        if answer.status == 200 {
            answered += 1;
        } else {
            assert!(answer.problem(503, "unavailable").is_empty());
            assert_eq!(answer.header("retry-after"), Some("1"));
            crowded += 1;
        }
    }
    assert!(answered > 0 && crowded >= 20, "{answered} {crowded}");
    assert_eq!(server.get_once(paths[0]).await.status, 200);
    server.stop().await;
}
