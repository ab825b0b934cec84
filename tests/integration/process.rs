//! The program: how it starts, what it says, and how it stops.

use std::path::Path;

use clap::{Args as _, Command as Clap};
use onex_registry::config::RawSettings;
use serde_json::Value;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::TestDatabase;
use crate::harness::process::{Process, program, run};
use crate::harness::sql::eventually;

const ANY_PORT: &str = "ONEX_REGISTRY_LISTEN";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

async fn start(folder: &Path) -> Process {
    Process::start(program(folder).env(ANY_PORT, "127.0.0.1:0")).await
}

async fn put(process: &Process, id: &str) -> u16 {
    let request = reqwest::Client::new()
        .put(process.url(&format!("/v1/nodes/{id}")))
        .header("content-type", "application/json")
        .body(r#"{"node_type":"effect"}"#);
    request.send().await.unwrap().status().as_u16()
}

async fn status(process: &Process, path: &str) -> u16 {
    reqwest::get(process.url(path)).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn with_nothing_configured_it_serves_on_sqlite_and_says_where() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "ONEX_REGISTRY_LISTEN=127.0.0.1:0\n").unwrap();
    let mut process = Process::start(&mut program(folder.path())).await;
    let log = process.lines.join("\n");
    let file = folder.path().canonicalize().unwrap().join("onex-registry.db");
    assert!(log.contains(&format!("http://{}/swagger-ui/", process.address)), "{log}");
    assert!(log.contains(file.to_str().unwrap()), "{log}");
    assert!(file.exists());
    assert_eq!(status(&process, "/readyz").await, 200);
    process.signal("INT").await;
    assert!(process.wait().await.success());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    for number in 0..20 {
        assert_eq!(put(&process, &format!("n{number}")).await, 201);
    }
    process.signal("KILL").await;
    assert!(!process.wait().await.success());

    let mut again = start(folder.path()).await;
    let page: Value =
        serde_json::from_str(&reqwest::get(again.url("/v1/nodes")).await.unwrap().text().await.unwrap())
            .unwrap();
    assert_eq!(page["nodes"].as_array().unwrap().len(), 20);
    again.signal("TERM").await;
    assert!(again.wait().await.success());
}

#[tokio::test]
async fn sighup_ends_nothing_where_there_is_nothing_to_read_again() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    process.signal("HUP").await;
    // What comes after it comes to its end, too.
    assert_eq!(put(&process, "n").await, 201);
    assert_eq!(status(&process, "/livez").await, 200);
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nobody() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_mins(1)).build().unwrap();
    // Far more lines than a pipe takes.
    for _ in 0..1_000 {
        let answer = client.get(process.url("/v1/nodes")).send().await.expect("it is answered");
        assert_eq!(answer.status(), 200);
    }
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let requests = process.lines.iter().filter(|line| line.contains(r#""message":"request""#)).count();
    assert_eq!(requests, 1_000, "who reads late finds them all, if they are not too many");
}

#[tokio::test]
async fn lines_of_the_log_that_find_no_room_are_lost_and_counted() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    // More lines than may wait, and as many as a pipe takes.
    let asking = (0..16).map(|_| async {
        let client = reqwest::Client::new();
        for _ in 0..600 {
            assert_eq!(client.get(process.url("/v1/nodes")).send().await.unwrap().status(), 200);
        }
    });
    futures_util::future::join_all(asking).await;
    let metrics = reqwest::get(process.url("/metrics")).await.unwrap().text().await.unwrap();
    let lost = metrics.lines().find_map(|line| line.strip_prefix("onex_registry_log_lines_lost_total "));
    let lost: u64 = lost.expect("it is counted").parse().unwrap();
    assert!((1..1_400).contains(&lost), "{lost}");
    assert_eq!(put(&process, "n").await, 201);
    process.signal("TERM").await;
    assert!(process.wait_without_reading().await.success(), "the end waits for no reader either");
}

/// Sends one request after the other, each after the answer to the one before, until nobody takes any. Whether connections
/// are kept is up to the server, or each is used once.
async fn ask_until_gone(address: String, once: bool) -> u32 {
    let close = if once { "Connection: close\r\n" } else { "" };
    let request = format!("GET /v1/nodes HTTP/1.1\r\nHost: h\r\n{close}\r\n");
    let mut answered = 0;
    // Refused: it is known that nothing was asked.
    while let Ok(mut connection) = TcpStream::connect(&address).await {
        loop {
            connection.write_all(request.as_bytes()).await.expect("it is taken");
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                let bytes = connection.read_buf(&mut answer).await.expect("it is answered");
                assert_ne!(bytes, 0, "it is answered to the end: {}", String::from_utf8_lossy(&answer));
            }
            answered += 1;
            let head = String::from_utf8_lossy(&answer).to_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            if once || head.contains("connection: close") {
                break;
            }
        }
    }
    answered
}

#[tokio::test]
async fn a_stop_under_load_loses_no_request() {
    let folder = folder();
    let mut command = program(folder.path());
    // Nobody reads the log meanwhile.
    command.env(ANY_PORT, "127.0.0.1:0").env("RUST_LOG", "info,onex_registry::http::observe=warn");
    let mut process = Process::start(&mut command).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..12 {
        clients.spawn(ask_until_gone(process.address.clone(), number % 2 == 0));
    }
    eventually("they are at it", async || {
        let metrics = reqwest::get(process.url("/metrics")).await.unwrap().text().await.unwrap();
        let count = metrics.lines().find_map(|line| {
            let labels = line.strip_prefix("onex_registry_http_request_duration_seconds_count{")?;
            labels.contains("route=\"/v1/nodes\"").then(|| labels.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        count.is_some_and(|count| count > 100.0)
    })
    .await;
    process.signal("TERM").await;
    let answered = clients.join_all().await;
    assert!(answered.iter().all(|answered| *answered > 0), "{answered:?}");
    assert!(process.wait().await.success());
}

#[tokio::test]
async fn a_request_in_flight_finishes_after_sigterm() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    let body = r#"{"node_type":"effect"}"#;
    let (first, rest) = body.split_at(5);
    let mut client = TcpStream::connect(&process.address).await.unwrap();
    let head = format!(
        "PUT /v1/nodes/late HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{first}",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    // Another request on another connection is answered: the server has had time to take the first one in.
    assert_eq!(status(&process, "/livez").await, 200);
    process.signal("TERM").await;
    process.line_with("stopping").await;
    client.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(process.wait().await.success());
    assert!(process.lines.last().unwrap().contains("stopped"));

    let mut again = start(folder.path()).await;
    assert_eq!(status(&again, "/v1/nodes/late").await, 200);
    again.signal("TERM").await;
    again.wait().await;
}

#[tokio::test]
async fn a_client_that_never_finishes_does_not_hold_up_the_stop() {
    let folder = folder();
    let mut command = program(folder.path());
    command.env(ANY_PORT, "127.0.0.1:0").args(["--shutdown-timeout=100ms", "--body-timeout=10m"]);
    command.arg("--request-timeout=10m");
    let mut process = Process::start(&mut command).await;
    let mut client = TcpStream::connect(&process.address).await.unwrap();
    let head = "PUT /v1/nodes/n HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(status(&process, "/livez").await, 200);
    process.signal("TERM").await;
    assert!(!process.wait().await.success(), "a request was cut off, and the exit code says so");
    assert!(process.lines.last().unwrap().contains("ONEX_REGISTRY_SHUTDOWN_TIMEOUT"), "{:?}", process.lines);
}

#[tokio::test]
async fn all_bad_settings_are_named_at_once() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "ONEX_REGISTRY_TTL=soon\n").unwrap();
    let mut command = program(folder.path());
    command.env(ANY_PORT, "here").env("DATABASE_URL", "mysql://ada:hunter2@h/db");
    let output = run(&mut command).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for name in ["DATABASE_URL", "ONEX_REGISTRY_LISTEN", "ONEX_REGISTRY_TTL"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_bad_line_in_the_env_file_is_not_repeated() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "DATABASE_URL postgres://ada:hunter2@h/db\n").unwrap();
    let output = run(&mut program(folder.path())).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains(".env") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn an_sqlite_file_belongs_to_one_process() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    std::os::unix::fs::symlink(folder.path().join("onex-registry.db"), folder.path().join("alias.db"))
        .unwrap();
    for url in ["sqlite://onex-registry.db", "sqlite://./onex-registry.db", "sqlite://alias.db"] {
        let mut second = program(folder.path());
        second.env(ANY_PORT, "127.0.0.1:0").env("DATABASE_URL", url);
        let output = run(&mut second).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("belongs to another server process"),
            "{url}: {said}"
        );
    }
    process.signal("TERM").await;
    process.wait().await;
    let mut again = start(folder.path()).await;
    again.signal("TERM").await;
    assert!(again.wait().await.success(), "a lock file that was left behind is no lock");
}

/// Whoever is told that a write is done would find it in a file that nobody can open any more.
#[tokio::test]
async fn nothing_is_written_to_a_file_that_was_removed_or_replaced() {
    for gone in ["onex-registry.db", "onex-registry.db-wal", "onex-registry.db.lock"] {
        let folder = folder();
        let mut process = start(folder.path()).await;
        assert_eq!(put(&process, "before").await, 201);
        let (file, aside) = (folder.path().join(gone), folder.path().join("aside"));
        std::fs::rename(&file, &aside).unwrap();
        assert_eq!(put(&process, "lost").await, 503, "{gone}");
        std::fs::copy(&aside, &file).unwrap();
        assert_eq!(put(&process, "lost").await, 503, "it is another one");
        assert_eq!(status(&process, "/v1/nodes/before").await, 200, "what is in memory is read");
        let mut said = process.line_with("was removed or replaced").await;
        assert_eq!(said["level"].take(), "WARN");
        eventually("it is said", async || {
            put(&process, "lost").await;
            let ready = reqwest::get(process.url("/readyz")).await.unwrap().text().await.unwrap();
            ready.contains(r#""status":"degraded""#)
        })
        .await;
        std::fs::rename(&aside, &file).unwrap();
        eventually("it goes on", async || put(&process, "after").await == 201).await;
        assert_eq!(status(&process, "/v1/nodes/lost").await, 404);
        process.signal("TERM").await;
        assert!(process.wait().await.success());
    }
}

#[tokio::test]
async fn a_database_in_memory_is_refused() {
    let folder = folder();
    for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://x?mode=memory"] {
        let output = run(program(folder.path()).env("DATABASE_URL", url)).await;
        assert!(String::from_utf8(output.stderr).unwrap().contains("must name a file"), "{url}");
    }
}

#[tokio::test]
async fn the_logs_hold_no_body_no_query_and_no_secret() {
    let database = TestDatabase::create().await;
    let mut url = url::Url::parse(&database.url()).unwrap();
    if std::env::var_os("TEST_DATABASE_URL").is_none() {
        // The private cluster trusts everybody, whatever the password.
        url.set_password(Some("hunter2")).unwrap();
    }
    let folder = folder();
    let mut command = program(folder.path());
    command.env(ANY_PORT, "127.0.0.1:0").env("DATABASE_URL", url.as_str()).env("RUST_LOG", "debug");
    let mut process = Process::start(&mut command).await;
    let client = reqwest::Client::new();
    let secret = r#"{"node_type":"effect","metadata":{"token":"hunter2"}}"#;
    let put =
        client.put(process.url("/v1/nodes/hunter2")).header("content-type", "application/json").body(secret);
    let answer =
        put.header("authorization", "Bearer hunter2").header("x-correlation-id", "order-17").send().await;
    assert_eq!(answer.unwrap().status(), 201);
    assert_eq!(status(&process, "/v1/nodes?metadata=%7B%22token%22:%22hunter2%22%7D").await, 200);
    assert_eq!(status(&process, "/v1/nodes?limit=hunter2").await, 400);
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let request =
        process.lines.iter().find(|line| line.contains("order-17")).expect("a line for the request");
    let request: Value = serde_json::from_str(request).unwrap();
    assert_eq!(request["span"]["method"], "PUT");
    assert_eq!(request["span"]["route"], "/v1/nodes/{node_id}");
    assert_eq!(request["status"], 201);
    assert!(request["latency_ms"].is_number());
    let leaks: Vec<&String> = process.lines.iter().filter(|line| line.contains("hunter2")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[tokio::test]
async fn slow_requests_and_operations_are_warned_of() {
    let database = TestDatabase::create().await;
    let folder = folder();
    let mut command = program(folder.path());
    command.env(ANY_PORT, "127.0.0.1:0").env("DATABASE_URL", database.url()).arg("--slow=1s");
    let mut process = Process::start(&mut command).await;
    assert_eq!(put(&process, "held").await, 201);
    // A row that another transaction holds is waited for longer than that.
    let mut foreign = database.connect().await;
    let mut held = foreign.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM node_registrations FOR UPDATE").execute(&mut *held).await.unwrap();
    assert_eq!(put(&process, "held").await, 503);
    held.rollback().await.unwrap();
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let warned = |text: &str| {
        process
            .lines
            .iter()
            .any(|line| line.contains("WARN") && line.contains(text) && line.contains("correlation_id"))
    };
    assert!(warned("the database was slow") && warned("slow request"), "{:#?}", process.lines);
}

#[tokio::test]
async fn healthcheck_tells_by_its_exit_code_whether_the_server_is_ready() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    let mut check = program(folder.path());
    let output = run(check.arg("healthcheck").env(ANY_PORT, &process.address)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let port = process.address.split_once(':').unwrap().1;
    let mut check = program(folder.path());
    let output = run(check.arg("healthcheck").env(ANY_PORT, format!("0.0.0.0:{port}"))).await;
    assert!(output.status.success(), "all addresses are this machine's too");
    process.signal("TERM").await;
    process.wait().await;
    let output = run(&mut check).await;
    assert!(!output.status.success());
}

#[tokio::test]
async fn the_document_and_the_migrations_are_printed() {
    let folder = folder();
    let output = run(program(folder.path()).arg("openapi")).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), onex_registry::http::openapi::document_json());
    let output = run(program(folder.path()).args(["migrate", "--print"])).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), onex_registry::store::postgres::migrate::script());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "printing leaves nothing behind");
}

#[test]
fn the_example_of_an_env_file_names_every_setting_and_its_default() {
    let example = include_str!("../../.env.example");
    let settings = RawSettings::augment_args(Clap::new("settings"));
    for setting in settings.get_arguments() {
        let name = setting.get_env().unwrap().to_str().unwrap();
        let default = setting.get_default_values()[0].to_str().unwrap();
        let line = format!("#{name}={default}");
        assert!(example.lines().any(|found| found.trim_end() == line.trim_end()), "{line}");
    }
}

#[tokio::test]
async fn half_a_head_does_not_spoil_the_stop() {
    let folder = folder();
    let mut command = program(folder.path());
    let mut process =
        Process::start(command.env(ANY_PORT, "127.0.0.1:0").arg("--shutdown-timeout=300ms")).await;
    let mut client = TcpStream::connect(&process.address).await.unwrap();
    client.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n").await.unwrap();
    assert_eq!(status(&process, "/livez").await, 200);
    process.signal("TERM").await;
    assert!(process.wait().await.success(), "{:?}", process.lines);
}

#[tokio::test]
async fn a_client_that_has_sent_all_and_says_so_gets_its_answer() {
    let folder = folder();
    let mut process = start(folder.path()).await;
    let mut client = TcpStream::connect(&process.address).await.unwrap();
    let body = r#"{"node_type":"effect"}"#;
    let request = format!(
        "PUT /v1/nodes/n HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}
