//! While there is no registry.

use tokio::net::TcpListener;

use super::{Agent, LASTING, NODE};
use crate::cli::{Said, command};
use crate::harness::process::{Process, program};
use crate::harness::sql::eventually;

#[tokio::test]
async fn a_registry_that_is_away_keeps_no_command_from_running_and_is_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let start =
        async |listen: &str| Process::start(program(folder.path()).env("ONEX_REGISTRY_LISTEN", listen)).await;
    let mut server = start("127.0.0.1:0").await;
    let (address, url) = (server.address.clone(), server.url(""));
    server.signal("TERM").await;
    server.wait().await;
    let agent = Agent::start(&url, NODE, &["--interval=200ms"], LASTING).await;
    let is_healthy = async || {
        let said = Said::by(&mut command(&url, &["nodes", "get", "a", "--output=json"])).await;
        said.code == 0 && said.json()["status"] == "healthy"
    };
    let mut server = start(&address).await;
    eventually("the node is registered", is_healthy).await;
    server.signal("KILL").await;
    server.wait().await;
    // Nothing of it is left: it is a registry that doesn't know the node.
    for name in ["onex-registry.db", "onex-registry.db-wal", "onex-registry.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    let mut server = start(&address).await;
    eventually("the node is registered again", is_healthy).await;
    let ended = agent.end().await;
    assert_eq!(
        ended.err.matches("; trying again").count(),
        ended.err.matches("is back").count(),
        "{}",
        ended.err
    );
    assert!(ended.err.matches("is back").count() <= 2, "a line for each change: {}", ended.err);
    let said = Said::by(&mut command(&url, &["nodes", "get", "a"])).await;
    assert_eq!(said.code, 3, "it is deregistered: {said:?}");
    server.signal("TERM").await;
    server.wait().await;
}

#[tokio::test]
async fn a_silent_registry_holds_up_neither_begin_nor_end() {
    // Connections are made, and nobody takes them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let began = std::time::Instant::now();
    let agent = Agent::start(&url, NODE, &["--interval=30s"], LASTING).await;
    let ended = agent.end().await;
    assert!(ended.err.contains("the command is run without it"), "{}", ended.err);
    assert!(ended.err.contains("not deregistered"), "{}", ended.err);
    assert!(began.elapsed() < crate::cli::FOREVER, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_command_that_needs_its_registration_waits_for_it_and_can_be_stopped_then() {
    let folder = tempfile::tempdir().unwrap();
    let (node, ran) = (folder.path().join("node.json"), folder.path().join("ran"));
    std::fs::write(&node, NODE).unwrap();
    let arguments = ["agent", "--require-registration", "--interval=100ms", "--file", node.to_str().unwrap()];
    let arguments = [&arguments[..], &["--", "/usr/bin/touch", ran.to_str().unwrap()]].concat();
    let mut child =
        command("http://127.0.0.1:1", &arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().unwrap()));
    let said = lines.next_line().await.unwrap().unwrap();
    assert!(said.contains("is away") && said.contains("trying again"), "{said}");
    let id = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", "TERM", &id]).status().await;
    assert!(sent.unwrap().success());
    let status = tokio::time::timeout(crate::cli::FOREVER, child.wait()).await.expect("it ends").unwrap();
    assert_eq!((status.code(), ran.exists()), (Some(128 + 15), false));

    let mut server = Process::start(program(folder.path()).env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0")).await;
    let said = Said::by(&mut command(&server.url(""), &arguments)).await;
    assert!(said.code == 0 && ran.exists(), "{said:?}");
    server.signal("TERM").await;
    server.wait().await;
}

/// A registration that is on its way when the agent is told to end is waited for. If it were not, it might arrive after the
/// question whether there is anything to deregister.
#[tokio::test]
async fn an_agent_that_is_stopped_while_it_registers_waits_for_the_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", registry.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("node.json");
    std::fs::write(&node, NODE).unwrap();
    let arguments = ["agent", "--require-registration", "--file", node.to_str().unwrap(), "--", "/bin/true"];
    let mut child = command(&url, &arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    let (mut connection, _) = registry.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.windows(6).any(|bytes| bytes == b"effect") {
        assert_ne!(connection.read_buf(&mut request).await.unwrap(), 0);
    }
    assert!(request.starts_with(b"PUT "), "{}", String::from_utf8_lossy(&request));
    let id = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", "TERM", &id]).status().await;
    assert!(sent.unwrap().success());
    // It asks nothing else, on this connection or another one, and doesn't hang up.
    let mut next = Vec::new();
    let asked = async {
        tokio::select! {
            read = connection.read_buf(&mut next) => read.unwrap_or_default(),
            other = registry.accept() => panic!("another connection: {other:?}"),
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_millis(500), asked).await.is_err(), "{next:?}");
    let record = r#"{"node_id":"a","node_type":"effect","node_version":"1.0.0","capabilities":{},"endpoints":{},"metadata":{},"health_endpoint":null,"ttl_seconds":null,"maintenance":null,"status":"unknown","last_heartbeat":null,"registered_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","revision":7}"#;
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{record}",
        record.len()
    );
    connection.write_all(answer.as_bytes()).await.unwrap();
    while !next.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        assert_ne!(connection.read_buf(&mut next).await.unwrap(), 0);
    }
    assert!(next.starts_with(b"DELETE "), "{}", String::from_utf8_lossy(&next));
    connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let status = tokio::time::timeout(crate::cli::FOREVER, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(128 + 15));
}
