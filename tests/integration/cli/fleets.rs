//! `import` and `export`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::{Running, Said, ask, command};
use crate::harness::keys::{KeyFile, secret};
use crate::harness::process::{Process, program};
use crate::harness::sql::eventually;
use crate::harness::{Backend, TestServer, ids_of};

const REAL_NODES: &str = include_str!("../../data/onex_nodes.jsonl");

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.jsonl");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

async fn import(server: &TestServer, content: impl AsRef<[u8]>, flags: &[&str]) -> Said {
    let (_folder, path) = file(content);
    ask(server, &[&["import", path.to_str().unwrap()], flags].concat()).await
}

async fn by_input(command: &mut tokio::process::Command, input: &str) -> Said {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    end(running).await
}

async fn end(mut running: Running) -> Said {
    let mut out = String::new();
    while let Some(line) =
        tokio::time::timeout(super::FOREVER, running.out.next_line()).await.unwrap().unwrap()
    {
        out.push_str(&line);
        out.push('\n');
    }
    let output = running.child.wait_with_output().await.unwrap();
    Said { code: output.status.code().unwrap(), out, err: String::from_utf8(output.stderr).unwrap() }
}

fn fleet(ids: impl IntoIterator<Item = u32>) -> String {
    ids.into_iter().fold(String::new(), |mut file, id| {
        writeln!(file, r#"{{"node_id":"n{id:06}","node_type":"effect"}}"#).unwrap();
        file
    })
}

/// How many nodes there are, by a server of its own process or of ours.
async fn count(url: &str) -> u64 {
    let said = Said::by(&mut command(url, &["summary", "--output=json"])).await;
    if said.code == 0 { said.json()["nodes"].as_u64().unwrap() } else { 0 }
}

on_both_stores!(what_is_exported_is_imported_and_again_changes_nothing);

async fn what_is_exported_is_imported_and_again_changes_nothing(server: &TestServer) {
    let first = import(server, REAL_NODES, &[]).await.done();
    assert_eq!(first, "115 lines: 115 registered, 0 updated, 0 unchanged, 0 failed\n");
    let second = import(server, REAL_NODES, &[]).await.done();
    assert_eq!(second, "115 lines: 0 registered, 0 updated, 115 unchanged, 0 failed\n");
    let hostile = json!({"node_id": "a/\u{202e}\n", "node_type": "effect", "ttl_seconds": 5});
    let odd = r#"{"node_id":"a/%/é","node_type":"effect","metadata":{"n":1.10,"m":123456789012345678901234567890}}"#;
    let changed = REAL_NODES.replacen("\"node_version\":\"", "\"node_version\":\"7", 1);
    assert_ne!(changed, REAL_NODES);
    let third = import(server, format!("{changed}{odd}\r\n\n{hostile}"), &[]).await;
    assert_eq!(third.code, 1, "a control character in an id: {third:?}");
    assert_eq!(third.out, "117 lines: 1 registered, 1 updated, 114 unchanged, 1 failed\n");

    let exported = ask(server, &["export"]).await.done();
    assert_eq!(exported.lines().count(), 116);
    assert!(
        exported.contains(r#""metadata":{"n":1.10,"m":123456789012345678901234567890}"#)
            || exported.contains(r#""metadata":{"m":123456789012345678901234567890,"n":1.10}"#),
        "{exported}"
    );
    assert!(!exported.contains("registered_at"), "{exported}");
    let other = TestServer::start(Backend::Sqlite).await;
    let imported = by_input(&mut command(&other.url, &["import", "-"]), &exported).await.done();
    assert_eq!(imported, "116 lines: 116 registered, 0 updated, 0 unchanged, 0 failed\n");
    assert_eq!(ask(&other, &["export"]).await.lines(), ask(server, &["export"]).await.lines());
    // A list of records is a fleet, too.
    let records = ask(server, &["nodes", "list", "--output=jsonl"]).await.done();
    let imported = import(&other, records, &[]).await.done();
    assert_eq!(imported, "116 lines: 0 registered, 0 updated, 116 unchanged, 0 failed\n");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_line_stops_no_other_and_is_named() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut content = fleet(1..1_500).into_bytes();
    content.extend(b"{\"node_id\": \"cut\n");
    content.extend(b"{\"node_id\":\"\xff\"}\n");
    content.extend(format!("{{\"node_id\":\"{}\"}}\n", "x".repeat(3_000_000)).into_bytes());
    content.extend(br#"{"node_id":"robot","node_type":"robot","node_version":"one","colour":"red"}"#);
    content.extend(b"\n[]\n");
    content.extend(fleet(1_505..3_001).into_bytes());
    let said = import(&server, &content, &[]).await;
    assert_eq!(
        (said.code, said.out.as_str()),
        (1, "3000 lines: 2995 registered, 0 updated, 0 unchanged, 5 failed\n")
    );
    let heads: Vec<&str> = said.err.lines().filter(|line| !line.starts_with("  ")).collect();
    for (head, expected) in heads.iter().zip([
        "line 1500: not JSON: ",
        "line 1501: not UTF-8, from byte 13 on",
        "line 1502: longer than 2097152 bytes",
        "line 1503 (robot): ",
        "line 1504: not a JSON object",
        "onex-registry: 5 of 3000 lines failed",
    ]) {
        assert!(head.starts_with(expected), "{}", said.err);
    }
    assert_eq!(heads.len(), 6, "{}", said.err);
    for place in ["  /node_type: ", "  /node_version: ", "  /colour: "] {
        assert!(said.err.contains(place), "{}", said.err);
    }
    assert_eq!(count(&server.url).await, 2_995);
    for form in ["json", "jsonl"] {
        let said = import(&server, &content, &["--output", form]).await;
        assert_eq!((said.code, said.err.as_str()), (1, "onex-registry: 5 of 3000 lines failed\n"));
        let (failures, summary) = if form == "json" {
            let report: Value = serde_json::from_str(&said.out).unwrap();
            (report["failures"].as_array().unwrap().clone(), report["summary"].clone())
        } else {
            let mut lines: Vec<Value> =
                said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let last = lines.pop().unwrap();
            (lines, last["summary"].clone())
        };
        let lines: Vec<u64> = failures.iter().map(|failure| failure["line"].as_u64().unwrap()).collect();
        assert_eq!(lines, [1_500, 1_501, 1_502, 1_503, 1_504]);
        assert_eq!((&failures[3]["node_id"], &failures[3]["status"]), (&json!("robot"), &json!(422)));
        assert_eq!(failures[3]["errors"].as_array().unwrap().len(), 3);
        assert_eq!((&summary["unchanged"], &summary["complete"]), (&json!(2_995), &json!(true)));
    }
    let whole = import(&server, fleet(1..3), &["--output=json"]).await.json();
    assert_eq!((&whole["failures"], &whole["summary"]["unchanged"]), (&json!([]), &json!(2)));
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_finds_line_70_000_and_asks_nobody() {
    let mut content = fleet(1..70_000);
    content.push_str("{\"node_id\":\"bad\",\"node_type\":\"robot\"}\n");
    content.push_str(&fleet([70_001]));
    let (_folder, path) = file(content);
    let said =
        Said::by(&mut command("http://127.0.0.1:1", &["import", "--dry-run", path.to_str().unwrap()])).await;
    assert_eq!((said.code, said.out.as_str()), (1, "70001 lines: 70000 valid, 1 not; nothing was sent\n"));
    assert!(
        said.err.starts_with("line 70000 (bad): ") && said.err.contains("\n  /node_type: "),
        "{}",
        said.err
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_the_server_says() {
    let server = TestServer::start(Backend::Sqlite).await;
    let content = [
        r#"{"node_id":" a","node_type":"effect"}"#,
        r#"{"node_type":"effect"}"#,
        r#"{"node_id":"a","node_type":"effect","metadata":{"x":"\u0000"}}"#,
        r#"{"node_id":"a","node_type":"effect","ttl_seconds":0,"endpoints":{"http":1}}"#,
        r#"{"node_id":"a","node_type":"effect","health_endpoint":"ftp://h","capabilities":null}"#,
        r#"{"node_id":"a","node_type":"effect","metadata":{"n":1e500}}"#,
    ]
    .join("\n");
    let faults = |report: Value| {
        let failures = report["failures"].as_array().unwrap().clone();
        failures.iter().map(|failure| failure["errors"].clone()).collect::<Vec<_>>()
    };
    let dry = import(&server, &content, &["--dry-run", "--output=json"]).await;
    let wet = import(&server, &content, &["--output=json"]).await;
    let (dry, wet): (Value, Value) =
        (serde_json::from_str(&dry.out).unwrap(), serde_json::from_str(&wet.out).unwrap());
    assert_eq!(wet["summary"]["failed"], 6);
    assert_eq!(faults(dry), faults(wet));
    assert_eq!(count(&server.url).await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_lines_of_a_node_the_last_one_wins() {
    let server = TestServer::start(Backend::Sqlite).await;
    let version = |version: u32| {
        format!("{{\"node_id\":\"twice\",\"node_type\":\"effect\",\"node_version\":\"{version}.0.0\"}}\n")
    };
    let content =
        [version(1), fleet(1..1_200), version(2), version(3), fleet(1_200..1_300), version(4)].concat();
    let said = import(&server, &content, &[]).await.done();
    assert_eq!(said, "1303 lines: 1300 registered, 3 updated, 0 unchanged, 0 failed\n");
    let node = ask(&server, &["nodes", "get", "twice", "--output=json"]).await.json();
    assert_eq!(node["node_version"], "4.0.0");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_and_comes_back_gets_all() {
    let folder = tempfile::tempdir().unwrap();
    let start =
        async |listen: &str| Process::start(program(folder.path()).env("ONEX_REGISTRY_LISTEN", listen)).await;
    let mut server = start("127.0.0.1:0").await;
    let (address, url) = (server.address.clone(), server.url(""));
    let mut running = Running::start(command(&url, &["import", "-"]).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    // A batch is sent when the line after it is read.
    stdin.write_all(fleet(0..1_001).as_bytes()).await.unwrap();
    eventually("the first batch is there", async || count(&url).await == 1_000).await;
    server.signal("KILL").await;
    server.wait().await;
    stdin.write_all(fleet(1_001..2_500).as_bytes()).await.unwrap();
    let mut server = start(&address).await;
    stdin.write_all(fleet(2_500..4_000).as_bytes()).await.unwrap();
    drop(stdin);
    let said = end(running).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("4000 lines: ") && said.out.ends_with(" 0 failed\n"), "{said:?}");
    assert_eq!(count(&url).await, 4_000);
    server.signal("TERM").await;
    server.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let server = TestServer::start_with(Backend::Sqlite, &["--rate-limit=1", "--rate-burst=1"]).await;
    let said = import(&server, fleet(0..2_001), &[]).await;
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "2001 lines: 2001 registered, 0 updated, 0 unchanged, 0 failed\n")
    );
    assert!(said.err.contains("429") && said.err.contains("trying again"), "{}", said.err);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_it_ended_is_told_by_the_exit_code() {
    let (_folder, path) = file(REAL_NODES);
    let path = path.to_str().unwrap();
    let away = Said::by(&mut command("http://127.0.0.1:1", &["import", path, "--patience=0s"])).await;
    assert_eq!(away.code, 6, "{away:?}");
    assert!(away.out.starts_with("0 lines") && away.err.contains("run it again"), "{away:?}");
    let missing = Said::by(&mut command("http://127.0.0.1:1", &["import", "/missing"])).await;
    assert_eq!(missing.code, 1, "{missing:?}");
    assert_eq!(Said::by(&mut command("http://127.0.0.1:1", &["import"])).await.code, 2);

    let keys = KeyFile::usual();
    let server = keys.serve(Backend::Sqlite, &[]).await;
    let as_key = async |name: &str, content: &str| {
        let (_folder, path) = file(content);
        let mut command = command(&server.url, &["import", path.to_str().unwrap()]);
        Said::by(command.env("ONEX_REGISTRY_API_KEY", secret(name))).await
    };
    assert_eq!(ask(&server, &["import", path]).await.code, 4);
    let billing = fleet([1]) + "{\"node_id\":\"billing-1\",\"node_type\":\"effect\"}\n";
    let said = as_key("billing", &billing).await;
    assert_eq!(
        (said.code, said.out.as_str()),
        (1, "2 lines: 1 registered, 0 updated, 0 unchanged, 1 failed\n")
    );
    assert!(said.err.starts_with("line 1 (n000001): ") && said.err.contains("(403)"), "{}", said.err);
    assert_eq!(as_key("reader", &billing).await.code, 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_replaced_once_all_is_there_and_else_stays() {
    let server = TestServer::start(Backend::Sqlite).await;
    import(&server, REAL_NODES, &[]).await.done();
    import(&server, fleet(0..1_500), &[]).await.done();
    let (folder, path) = file("before");
    let flag = format!("--file={}", path.display());
    let away = Said::by(&mut command("http://127.0.0.1:1", &["export", &flag, "--patience=0s"])).await;
    assert_eq!(away.code, 6, "{away:?}");
    let is_alone = |folder: &Path| std::fs::read_dir(folder).unwrap().count() == 1;
    assert!(is_alone(folder.path()) && std::fs::read_to_string(&path).unwrap() == "before");
    assert_eq!(ask(&server, &["export", &flag, "--type=effect"]).await.done(), "");
    let lines = std::fs::read_to_string(&path).unwrap();
    let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let effects = ask(&server, &["nodes", "list", "--type=effect", "--output=json"]).await.json();
    assert_eq!(ids_of(&json!({"nodes": found})), ids_of(&json!({"nodes": effects})));
    assert!(found.len() > 1_500 && is_alone(folder.path()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_a_bar_on_a_terminal_only_and_only_for_those_who_want_it() {
    let server = TestServer::start(Backend::Sqlite).await;
    let (_folder, path) = file(fleet(0..3_000));
    let on_terminal = async |flags: &str| {
        let program = env!("CARGO_BIN_EXE_onex-registry");
        let line = format!("{program} import {} {flags}", path.display());
        let mut command = tokio::process::Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
        command.env("SHELL", "/bin/sh").env("TERM", "xterm").env("ONEX_REGISTRY_URL", &server.url);
        Said::by(&mut command).await
    };
    let shown = on_terminal("").await;
    assert!(
        shown.code == 0 && shown.out.contains('\u{1b}') && shown.out.contains("3000 lines: "),
        "{shown:?}"
    );
    let quiet = on_terminal("--quiet").await;
    assert!(quiet.code == 0 && !quiet.out.contains('\u{1b}'), "{quiet:?}");
    assert_eq!(ask(&server, &["import", path.to_str().unwrap()]).await.err, "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_file_is_replaced_by_an_export() {
    let server = TestServer::start(Backend::Sqlite).await;
    let (folder, file) = file("kept");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for place in [folder.path(), &link] {
        let said = ask(&server, &["export", "--file", place.to_str().unwrap()]).await;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains("no regular file"), "{said:?}");
    }
    let beside = folder.path().join("new.jsonl.new");
    std::fs::write(&beside, "mine").unwrap();
    let said = ask(&server, &["export", "--file", folder.path().join("new.jsonl").to_str().unwrap()]).await;
    assert!(said.code == 2 && said.err.contains("is in the way"), "{said:?}");
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "mine");
    assert!(link.is_symlink() && std::fs::read_to_string(&file).unwrap() == "kept");
    server.stop().await;
}
