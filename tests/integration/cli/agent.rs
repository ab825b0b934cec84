//! `agent`: a command that is a node.

mod away;

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::{FOREVER, Running, Said, command};
use crate::harness::keys::{KeyFile, secret};
use crate::harness::sql::eventually;
use crate::harness::{Backend, TestServer};

const NODE: &str = r#"{"node_id":"a","node_type":"effect","metadata":{"environment":"dev"}}"#;
/// Lasts until it is told to end, and says what it is told.
const LASTING: &str = "echo ready; while read line; do echo $line; done; exit 7";

/// An agent that runs a script, as long as its input is open.
struct Agent {
    running: Running,
    _folder: TempDir,
}

/// How it ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    err: String,
}

impl Agent {
    /// Starts it, and waits until its command runs.
    async fn start(url: &str, node: &str, flags: &[&str], script: &str) -> Self {
        Self::start_with(url, node, flags, script, &[]).await
    }

    async fn start_with(
        url: &str,
        node: &str,
        flags: &[&str],
        script: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.json");
        std::fs::write(&file, node).unwrap();
        let arguments = [&["agent", "--file", file.to_str().unwrap()], flags].concat();
        let mut command = command(url, &[&arguments[..], &["--", "/bin/sh", "-c", script]].concat());
        let mut running = Running::start(
            command
                .stdin(Stdio::piped())
                .process_group(0)
                .env("PATH", "/usr/bin:/bin")
                .envs(environment.iter().copied()),
        );
        assert_eq!(running.line().await, "ready");
        Self { running, _folder: folder }
    }

    async fn write(&mut self, line: &str) {
        let stdin = self.running.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn signal(&self, name: &str) {
        let id = self.running.child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Waits for its end. The input is closed only then.
    async fn ended(mut self) -> Ended {
        let stdin = self.running.child.stdin.take();
        let output = tokio::time::timeout(FOREVER, self.running.child.wait_with_output()).await;
        drop(stdin);
        let output = output.expect("it ends").unwrap();
        Ended {
            code: output.status.code().expect("no signal ended it"),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Ends its command, which exits with 7.
    async fn end(mut self) -> Ended {
        drop(self.running.child.stdin.take());
        let ended = self.ended().await;
        assert_eq!(ended.code, 7, "{}", ended.err);
        ended
    }
}

async fn status(server: &TestServer, id: &str) -> Option<String> {
    let answer = server.get_once(&format!("/v1/nodes/{id}")).await;
    (answer.status == 200).then(|| answer.json()["status"].as_str().unwrap().to_owned())
}

async fn becomes(server: &TestServer, id: &str, expected: Option<&str>) {
    eventually(&format!("{id} is {expected:?}"), async || status(server, id).await.as_deref() == expected)
        .await;
}

on_both_stores!(a_node_is_there_and_healthy_as_long_as_its_command_runs);

async fn a_node_is_there_and_healthy_as_long_as_its_command_runs(server: &TestServer) {
    let mut agent = Agent::start(&server.url, NODE, &["--set=ttl_seconds:=2"], LASTING).await;
    becomes(server, "a", Some("healthy")).await;
    let node: Value = server.get_once("/v1/nodes/a").await.json();
    assert_eq!((&node["ttl_seconds"], &node["metadata"]), (&json!(2), &json!({"environment": "dev"})));
    let first = node["last_heartbeat"].clone();
    eventually("there are heartbeats", async || {
        server.get_once("/v1/nodes/a").await.json()["last_heartbeat"] != first
    })
    .await;
    agent.write("its input and output are its own").await;
    assert_eq!(agent.running.line().await, "its input and output are its own");
    let ended = agent.end().await;
    let lines: Vec<&str> = ended.err.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].contains("registered a, revision")
            && lines[1].contains("deregistered a"),
        "a line for each change: {lines:#?}"
    );
    assert_eq!(status(server, "a").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_and_the_end_by_one_are_passed_on() {
    let server = TestServer::start(Backend::Sqlite).await;
    let script = "for s in INT HUP QUIT USR1 USR2; do trap \"echo $s\" $s; done; echo ready; while :; do read line; done";
    let mut agent = Agent::start(&server.url, NODE, &[], script).await;
    for signal in ["INT", "HUP", "QUIT", "USR1", "USR2"] {
        agent.signal(signal).await;
        assert_eq!(agent.running.line().await, signal);
    }
    agent.signal("TERM").await;
    assert_eq!(agent.ended().await.code, 128 + 15);
    assert_eq!(status(&server, "a").await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_ignores_term_is_killed_by_a_second_one_only() {
    let server = TestServer::start(Backend::Sqlite).await;
    let script = "trap '' TERM; trap 'echo still' USR1; echo ready; while :; do read line; done";
    let mut agent = Agent::start(&server.url, NODE, &[], script).await;
    agent.signal("TERM").await;
    agent.signal("USR1").await;
    assert_eq!(agent.running.line().await, "still");
    assert!(status(&server, "a").await.is_some());
    agent.signal("TERM").await;
    let ended = agent.ended().await;
    assert!(ended.code == 128 + 9 && ended.err.contains("killed"), "{ended:?}");
    assert_eq!(status(&server, "a").await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_forgotten_is_registered_again() {
    let server = TestServer::start(Backend::Sqlite).await;
    let agent = Agent::start(&server.url, NODE, &["--interval=100ms"], LASTING).await;
    becomes(&server, "a", Some("healthy")).await;
    assert_eq!(server.delete("/v1/nodes/a").await.status, 204);
    becomes(&server, "a", Some("healthy")).await;
    let ended = agent.end().await;
    assert_eq!(ended.err.matches(": registered a").count(), 2, "{}", ended.err);
    assert_eq!(status(&server, "a").await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_or_is_another_s_is_not_deregistered() {
    let server = TestServer::start(Backend::Sqlite).await;
    let agent = Agent::start(&server.url, NODE, &["--keep"], LASTING).await;
    becomes(&server, "a", Some("healthy")).await;
    agent.end().await;
    assert_eq!(status(&server, "a").await.as_deref(), Some("healthy"));

    let agent = Agent::start(&server.url, NODE, &[], LASTING).await;
    server.register("a", r#"{"node_type":"effect","node_version":"2.0.0"}"#).await;
    let ended = agent.end().await;
    assert!(ended.err.contains("not deregistered"), "{}", ended.err);
    assert!(status(&server, "a").await.is_some());

    let agent = Agent::start(&server.url, NODE, &[], LASTING).await;
    assert_eq!(server.put("/v1/nodes/a/maintenance", r#"{"reason":"disk"}"#).await.status, 200);
    agent.end().await;
    assert_eq!(status(&server, "a").await, None, "taken out of service, it is still ours");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_sent_only_while_the_check_succeeds() {
    let server = TestServer::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let well = folder.path().join("well");
    let check = format!("--check=test -e {}", well.display());
    let flags = ["--set=ttl_seconds:=1", "--interval=100ms", &check];
    let agent = Agent::start(&server.url, NODE, &flags, LASTING).await;
    assert_eq!(status(&server, "a").await.as_deref(), Some("unknown"));
    std::fs::write(&well, "").unwrap();
    becomes(&server, "a", Some("healthy")).await;
    std::fs::remove_file(&well).unwrap();
    becomes(&server, "a", Some("stale")).await;
    std::fs::write(&well, "").unwrap();
    becomes(&server, "a", Some("healthy")).await;
    let ended = agent.end().await;
    for (text, times) in [("no heartbeats until it succeeds", 2), ("the check succeeds again", 2)] {
        assert!(
            (1..=times).contains(&ended.err.matches(text).count()),
            "a line for each change: {}",
            ended.err
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_hangs_has_failed_and_is_ended() {
    let server = TestServer::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    let check = format!("--check=sleep 3600 & echo $! >{}; wait", file.display());
    let flags = ["--interval=100ms", "--check-timeout=300ms", &check];
    let agent = Agent::start(&server.url, NODE, &flags, LASTING).await;
    let first = async || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    eventually("it is checked", async || !first().await.is_empty()).await;
    let id = first().await;
    eventually("what the check has started has ended", async || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    })
    .await;
    assert_eq!(status(&server, "a").await.as_deref(), Some("unknown"));
    let ended = agent.end().await;
    assert_eq!(ended.err.matches("took longer than 300ms").count(), 1, "{}", ended.err);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_run_is_told_apart_as_by_a_shell() {
    let server = TestServer::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let (node, ran) = (folder.path().join("node.json"), folder.path().join("ran"));
    let run = async |content: &str, flags: &[&str], of: &[&str]| {
        std::fs::write(&node, content).unwrap();
        let arguments = [&["agent", "--file", node.to_str().unwrap()], flags, &["--"], of].concat();
        Said::by(&mut command(&server.url, &arguments)).await
    };
    let touch = ["/usr/bin/touch", ran.to_str().unwrap()];
    for (content, flags) in [
        (r#"{"node_id":"a","node_type":"robot"}"#, &[][..]),
        ("{", &[]),
        (NODE, &["--interval=1ms"]),
        (NODE, &["--set=ttl_seconds:=5", "--interval=5s"]),
        (NODE, &["--url=ftp://h"]),
    ] {
        let said = run(content, flags, &touch).await;
        assert!(said.code == 125 && !said.err.is_empty() && !ran.exists(), "{content} {flags:?}: {said:?}");
    }
    assert_eq!(run(NODE, &[], &["/missing"]).await.code, 127);
    assert_eq!(run(NODE, &[], &[node.to_str().unwrap()]).await.code, 126);
    assert_eq!(status(&server, "a").await, None, "it was registered, and is not any more");
    assert_eq!(run(NODE, &[], &touch).await.code, 0);
    assert!(ran.exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_rights_is_said_once_and_the_command_does_not_get_it() {
    let keys = KeyFile::usual();
    let server = keys.serve(Backend::Sqlite, &[]).await;
    let mine = secret("mine");
    let script = format!("[ -z \"$ONEX_REGISTRY_API_KEY\" ] && {LASTING}");
    let agent = Agent::start_with(
        &server.url,
        NODE,
        &["--interval=100ms"],
        &script,
        &[("ONEX_REGISTRY_API_KEY", &mine)],
    )
    .await;
    let refused = async || {
        let metrics = server.get_as("admin", "/metrics").await.text;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("onex_registry_http_requests_total") && line.contains("401"));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    eventually("it is tried again", async || refused().await >= 4.0).await;
    keys.write(&crate::harness::keys::entry("mine", "admin", ""));
    let is_there = async || server.get_as("mine", "/v1/nodes/a").await.status == 200;
    eventually("the key has rights now", is_there).await;
    let ended = agent.end().await;
    assert_eq!(
        (ended.err.matches("(401)").count(), ended.err.matches("is back").count()),
        (1, 1),
        "{}",
        ended.err
    );
    server.stop().await;
}
