//! `nodes` and `summary`, on the real nodes.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{Said, ask, command, real_nodes, server_with_real_nodes};
use crate::harness::{Backend, TestServer, node};

const ID: &str = "node_auth_gate_compute";

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|node| node["node_id"].as_str().unwrap()).collect()
}

on_both_stores!(filters_find_what_the_api_finds);

async fn filters_find_what_the_api_finds(server: &TestServer) {
    real_nodes(server).await;
    for (flags, query) in [
        (&[][..], ""),
        (&["--type", "effect"], "node_type=effect"),
        (
            &["--node-type=effect", "--node-type=compute", "--version=1.0.0"],
            "node_type=effect&node_type=compute&node_version=1.0.0",
        ),
        (&["--id", ID, "--id", "nobody"], "node_id=node_auth_gate_compute&node_id=nobody"),
        (&["--prefix", "node_b"], "node_id_prefix=node_b"),
        (&["--status", "unknown", "--status", "stale"], "status=unknown&status=stale"),
        (&["--status", "healthy"], "status=healthy"),
        (&["--version-req", ">=1.1, <2.0"], "version_req=%3E%3D1.1%2C%20%3C2.0"),
        (
            &["--metadata", "environment=dev", "--metadata", r#"tags:=["postgresql"]"#],
            "metadata=%7B%22environment%22%3A%22dev%22%2C%22tags%22%3A%5B%22postgresql%22%5D%7D",
        ),
        (
            &["--capabilities", r#"{"capabilities": ["circuit_breaker_protection"]}"#],
            "capabilities=%7B%22capabilities%22%3A%5B%22circuit_breaker_protection%22%5D%7D",
        ),
    ] {
        let found = ask(server, &[&["nodes", "list", "--output", "jsonl"], flags].concat()).await.lines();
        let expected = server.ids(&format!("limit=1000&{query}")).await;
        assert_eq!(ids(&found), expected, "{flags:?}");
    }
    let strong = ask(server, &["nodes", "list", "--consistency", "strong", "-o", "json"]).await.json();
    assert_eq!(strong.as_array().unwrap().len(), 115);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_all_pages_or_as_many_nodes_as_are_wanted() {
    let server = TestServer::start(Backend::Sqlite).await;
    for batch in 0..3 {
        let nodes: Vec<Value> = (0..900)
            .map(|number| json!({"node_id": format!("n{batch}-{number:03}"), "node_type": "effect"}))
            .collect();
        assert_eq!(server.post("/v1/batch/nodes", json!({"nodes": nodes})).await.status, 200);
    }
    let all = ask(&server, &["nodes", "list", "--output=jsonl"]).await.lines();
    assert_eq!(all.len(), 2_700);
    assert!(ids(&all).is_sorted());
    let some = ask(&server, &["nodes", "list", "--output=json", "--limit=1500"]).await.json();
    assert_eq!(some.as_array().unwrap()[..], all[..1_500]);
    assert_eq!(ask(&server, &["nodes", "list", "--limit=1"]).await.words().len(), 2, "and the header");
    assert_eq!(ask(&server, &["nodes", "list", "--id=nobody", "--output=json"]).await.json(), json!([]));
    assert_eq!(ask(&server, &["nodes", "list", "--id=nobody", "--output=jsonl"]).await.done(), "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_tells_of_each_node() {
    let server = server_with_real_nodes().await;
    assert_eq!(server.post(&format!("{}/heartbeat", node(ID)), "").await.status, 200);
    let table = ask(&server, &["nodes", "list"]).await.words();
    assert_eq!(table.len(), 116);
    assert_eq!(table[0].join(" "), "NODE ID TYPE VERSION STATUS LAST SEEN REGISTERED");
    let of = |id: &str| table.iter().find(|row| row[0] == id).unwrap();
    assert_eq!(of(ID)[1..4], ["compute", "0.1.1", "healthy"]);
    assert_eq!(of("node_baseline_capture")[1..5], ["effect", "1.0.0", "unknown", "never"]);
    let text = ask(&server, &["nodes", "list", "--id", ID]).await.done();
    assert!(!text.contains('\t') && !text.contains('\u{1b}'), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_shown_as_it_was_served() {
    let server = TestServer::start(Backend::Sqlite).await;
    // Numbers that a double can't hold.
    let body =
        r#"{"node_type":"effect","metadata":{"n":1.10,"big":1234567890123456789012345678901234567890}}"#;
    server.register("a/b %é", body).await;
    let record = server.get(&node("a/b %é")).await.text;
    let shown = ask(&server, &["nodes", "get", "a/b %é", "--output", "json"]).await.done();
    assert_eq!(shown, format!("{record}\n"));

    let reason = r#"{"reason":"disk swap"}"#;
    assert_eq!(server.put(&format!("{}/maintenance", node("a/b %é")), reason).await.status, 200);
    let table = ask(&server, &["nodes", "get", "a/b %é"]).await.done();
    let record: Value = server.get(&node("a/b %é")).await.json();
    for name in record.as_object().unwrap().keys() {
        assert!(table.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {table}");
    }
    for shown in ["a/b %é", "disk swap", "1234567890123456789012345678901234567890", "never", "(now)"] {
        assert!(table.contains(shown), "{shown}: {table}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_clients_swallow_are_found() {
    let server = TestServer::start(Backend::Sqlite).await;
    for id in ["", ".", ".."] {
        let insert: &'static str = match id {
            "" => "INSERT INTO node_registrations (node_id, node_type) VALUES ('', 'effect')",
            "." => "INSERT INTO node_registrations (node_id, node_type) VALUES ('.', 'effect')",
            _ => "INSERT INTO node_registrations (node_id, node_type) VALUES ('..', 'effect')",
        };
        crate::harness::sql::run_on(&server, insert, insert).await;
        let found = ask(&server, &["nodes", "get", "--consistency=strong", "--output=json", "--", id]).await;
        assert_eq!(found.json()["node_id"], id);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_registered_by_flags_by_a_file_or_by_what_is_piped() {
    let server = TestServer::start(Backend::Sqlite).await;
    let flags = [
        "nodes",
        "register",
        "--node-id",
        "a",
        "--type",
        "effect",
        "--version",
        "1.2.0",
        "--endpoint",
        "http=http://127.0.0.1:1",
        "--metadata",
        "environment=dev",
        "--metadata",
        r#"n:=[1.10, {"x": null}]"#,
        "--capability",
        r#"{"publishes": ["x"]}"#,
        "--ttl-seconds",
        "60",
        "--health-endpoint",
        "http://127.0.0.1:1/h",
        "--alive",
    ];
    assert_eq!(ask(&server, &flags).await.done(), "registered a, revision 1\n");
    let record = server.get("/v1/nodes/a").await;
    assert!(record.text.contains("1.10"), "{}", record.text);
    let record = record.json();
    assert_eq!(record["metadata"]["environment"], "dev");
    assert_eq!(record["endpoints"], json!({"http": "http://127.0.0.1:1"}));
    assert_eq!((&record["capabilities"]["publishes"][0], &record["ttl_seconds"]), (&json!("x"), &json!(60)));
    assert_eq!((&record["status"], &record["node_version"]), (&json!("healthy"), &json!("1.2.0")));
    assert!(ask(&server, &flags).await.done().starts_with("registered again a, "));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.json");
    std::fs::write(&file, include_str!("../../data/onex_nodes.jsonl").lines().next().unwrap()).unwrap();
    let path = file.to_str().unwrap();
    let shown = ask(&server, &["nodes", "register", path, "--output", "json"]).await.json();
    assert_eq!(shown["node_id"], "node_architecture_validator");

    let mut piped = command(&server.url, &["nodes", "register", "-"]);
    piped.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(br#"{"node_id":"x","node_type":"effect","node_id":"piped"}"#).await.unwrap();
    drop(input);
    assert!(child.wait().await.unwrap().success());
    assert_eq!(server.get("/v1/nodes/piped").await.status, 200, "of duplicate keys the last wins");

    for (content, said) in [
        ("[]", "one JSON object"),
        ("{} {}", "one JSON object"),
        ("{\"node_type\":\"effect\"}", "no node_id"),
        ("{\"node_id\":7}", "no node_id"),
        ("", "one JSON object"),
    ] {
        std::fs::write(&file, content).unwrap();
        let refused = ask(&server, &["nodes", "register", path]).await;
        assert_eq!(refused.code, 1, "{content}");
        assert!(refused.err.contains(said), "{content}: {}", refused.err);
    }
    let refused = ask(&server, &["nodes", "register", "/nowhere.json"]).await;
    assert!(refused.code == 1 && refused.err.contains("/nowhere.json"), "{}", refused.err);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deregistering_is_told_per_node_and_may_be_repeated() {
    let server = server_with_real_nodes().await;
    assert_eq!(ask(&server, &["nodes", "deregister", ID]).await.done(), format!("deregistered {ID}\n"));
    let again = ask(&server, &["nodes", "deregister", ID, "node_baseline_capture"]).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (3, "deregistered node_baseline_capture\n"),
        "the others are"
    );
    assert!(again.err.contains(ID), "{}", again.err);
    let missing = ask(
        &server,
        &["nodes", "deregister", "--ignore-missing", "-o", "jsonl", ID, "node_loop_state_effect"],
    )
    .await;
    let lines = missing.lines();
    assert_eq!(lines[0], json!({"node_id": ID, "deregistered": false}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_counts_the_fleet_by_type_and_status() {
    let server = server_with_real_nodes().await;
    assert_eq!(server.post(&format!("{}/heartbeat", node(ID)), "").await.status, 200);
    let counts: Value = server.get("/v1/summary").await.json();
    let table = ask(&server, &["summary"]).await.words();
    assert_eq!(table[0], ["TYPE", "NODES", "HEALTHY", "STALE", "UNKNOWN", "MAINTENANCE"]);
    assert_eq!(table.last().unwrap(), &["all", "115", "1", "0", "114", "0"]);
    for entry in counts["by_type"].as_array().unwrap() {
        let row = table.iter().find(|row| row[0] == entry["node_type"].as_str().unwrap()).unwrap();
        assert_eq!(row[1], entry["nodes"].to_string());
    }
    let shown = ask(&server, &["summary", "--output=json"]).await.json();
    assert_eq!(shown["by_type_and_status"], counts["by_type_and_status"]);
    server.stop().await;
}

#[tokio::test]
async fn completions_and_examples_are_printed_without_a_server() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef onex-registry"),
        ("fish", "complete -c onex-registry"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = Said::by(&mut command("", &["completions", shell])).await.done();
        assert!(script.contains(sign) && script.contains("deregister"), "{shell}");
    }
    for help in [
        &["nodes", "list"][..],
        &["nodes", "get"],
        &["nodes", "register"],
        &["nodes", "deregister"],
        &["events"],
        &["watch"],
        &["summary"],
        &[],
    ] {
        let text = Said::by(&mut command("", &[help, &["--help"]].concat())).await.done();
        assert!(text.contains("Examples:\n  onex-registry"), "{help:?}: {text}");
        assert_eq!(
            text.contains("--probe-interval"),
            help.is_empty(),
            "{help:?}: the server's settings are the server's"
        );
    }
}
