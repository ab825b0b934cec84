//! What the log is told of an outage.

use crate::harness::mortal::MortalCluster;
use crate::harness::process::{Process, program};
use crate::harness::sql;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_the_transitions_and_a_count_and_not_each_request() {
    const REQUESTS: usize = 300;
    let mut cluster = MortalCluster::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(folder.path());
    command.env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0").env("DATABASE_URL", cluster.url());
    // Each request has a line of its own, of which nobody is warned. The pipe doesn't hold as many.
    command.args(["--breaker-failures=3", "--slow=1m"]).env("RUST_LOG", "info,onex_registry::http=warn");
    let mut process = Process::start(&mut command).await;
    let client = reqwest::Client::new();
    let put = async || {
        let request = client.put(process.url("/v1/nodes/n")).header("content-type", "application/json");
        request.body(r#"{"node_type":"effect"}"#).send().await.unwrap().status().as_u16()
    };
    assert_eq!(put().await, 201);
    cluster.die();
    let mut refused = 0;
    while refused < REQUESTS {
        assert_eq!(put().await, 503);
        refused += 1;
    }
    cluster.come_back();
    sql::eventually("it is back", async || put().await == 200).await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let warned = process.lines.iter().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let warned: Vec<&String> = warned.collect();
    assert!(warned.len() < 20, "{warned:#?}");
    assert!(warned.iter().any(|line| line.contains("the breaker is open")), "{warned:#?}");
    let closed = process.lines.iter().find(|line| line.contains("the breaker is closed"));
    let closed: serde_json::Value = serde_json::from_str(closed.expect("it is said")).unwrap();
    let counted = closed["failed"].as_u64().unwrap() + closed["refused"].as_u64().unwrap();
    assert!(counted >= 3 && closed["silent_ms"].is_number(), "{closed}");
}
