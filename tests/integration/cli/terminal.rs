//! What a terminal is shown, and who reads less than is written.

use tokio::process::Command;

use super::{Said, ask, server_with_real_nodes};
use crate::harness::sql::{eventually, run_on};
use crate::harness::{Backend, TestServer};

/// Runs the program on a terminal of so many columns.
async fn on_terminal(
    server: &TestServer,
    columns: usize,
    environment: &[(&str, &str)],
    arguments: &str,
) -> String {
    let program = env!("CARGO_BIN_EXE_onex-registry");
    let line = format!("stty cols {columns} rows 24 -onlcr; exec {program} {arguments}");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(std::process::Stdio::null());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm");
    command.env("ONEX_REGISTRY_URL", &server.url).envs(environment.iter().copied()).kill_on_drop(true);
    let said = Said::by(&mut command).await;
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_fits_a_terminal_however_narrow_it_is() {
    let server = server_with_real_nodes().await;
    let plain = [("NO_COLOR", "1")];
    for columns in [1, 5, 20, 40, 80] {
        for arguments in ["nodes list", "summary", "events"] {
            let shown = on_terminal(&server, columns, &plain, arguments).await;
            let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= columns, "{arguments} {columns}: {widest}\n{shown}");
            assert!(shown.lines().count() > 4, "{shown}");
        }
    }
    let shown = on_terminal(&server, 20, &plain, "nodes list").await;
    assert!(shown.contains('…') && shown.lines().count() == 116, "{shown}");
    let wide = on_terminal(&server, 20, &[("COLUMNS", "400"), plain[0]], "nodes list").await;
    assert!(!wide.contains('…') && !wide.contains('\u{1b}'), "COLUMNS is believed: {wide}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_colour_on_a_terminal_only_and_only_for_those_who_want_it() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.put("/v1/nodes/a?alive=true", r#"{"node_type":"effect"}"#).await;
    let green = "\u{1b}[32mhealthy\u{1b}[0m";
    assert!(on_terminal(&server, 80, &[], "nodes list").await.contains(green));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_terminal(&server, 80, &[plain], "nodes list").await.contains('\u{1b}'), "{plain:?}");
    }
    assert!(!ask(&server, &["nodes", "list"]).await.done().contains('\u{1b}'));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_node_changes_no_terminal() {
    let server = TestServer::start(Backend::Sqlite).await;
    let rtl = "a\u{202e}evil\u{2066}";
    let body = r#"{"node_type":"effect","metadata":{"x":"\u001b[2J\u009b31m\u202e"}}"#;
    server.register(rtl, body).await;
    let insert = "INSERT INTO node_registrations (node_id, node_type) VALUES (char(27) || '[2J' || char(10) || char(155) || 'x', char(7))";
    run_on(&server, "", insert).await;
    eventually("the row is known", async || server.ids("").await.len() == 2).await;
    let arguments = format!("nodes get '{rtl}'");
    for arguments in [
        "nodes list",
        "events",
        "summary",
        "nodes list --output json",
        "nodes list --output jsonl",
        &arguments,
    ] {
        let shown = on_terminal(&server, 200, &[("NO_COLOR", "1")], arguments).await;
        let hostile = shown.chars().find(|character| {
            *character != '\n' && (character.is_control() || ('\u{202a}'..='\u{2069}').contains(character))
        });
        assert_eq!(hostile, None, "{arguments}: {shown:?}");
        assert!(shown.contains("202e") || arguments == "summary", "it is shown as what it is: {shown}");
    }
    let list = ask(&server, &["nodes", "list"]).await.done();
    assert_eq!(list.lines().count(), 3, "a line feed in an id begins no row: {list}");
    assert!(list.contains(r"\u{1b}[2J\u{a}\u{9b}x"), "{list}");
    // What a program reads is what was served.
    let read = ask(&server, &["nodes", "list", "--output=jsonl"]).await.lines();
    assert_eq!(read[1]["node_id"], rtl);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_no_further_ends_it_quietly() {
    let server = server_with_real_nodes().await;
    let program = env!("CARGO_BIN_EXE_onex-registry");
    for arguments in [
        "nodes list --output jsonl",
        "nodes list --output json",
        "nodes list",
        "events",
        "summary",
        "nodes --help",
        "completions bash",
    ] {
        for reader in ["head -n 1", "true"] {
            let line = format!("{{ {program} {arguments}; echo \"ended with $?\" >&2; }} | {reader}");
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).env("ONEX_REGISTRY_URL", &server.url);
            let said = Said::by(&mut shell).await;
            assert_eq!(said.err, "ended with 0\n", "{arguments} | {reader}");
        }
    }
    server.stop().await;
}
