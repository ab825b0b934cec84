//! Keys come, change and go while the server runs.

use std::time::{Duration, Instant, SystemTime};

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::EFFECT;
use crate::harness::keys::{KeyFile, entry, secret};
use crate::harness::sql::eventually;
use crate::harness::{Backend, TestServer, node};

async fn status(server: &TestServer, name: &str) -> u16 {
    server.get_as(name, "/v1/summary").await.status
}

/// The value of a series without labels, or with them as they stand there.
async fn metric(server: &TestServer, reader: &str, series: &str) -> String {
    let text = server.get_as(reader, "/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("onex_registry_{series} ")));
    line.unwrap_or_else(|| panic!("{series}: {text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing() {
    let file = KeyFile::of(&[entry("a", "read", "")]);
    let server = file.serve(Backend::Sqlite, &[]).await;
    assert_eq!((status(&server, "a").await, status(&server, "b").await), (200, 401));
    assert_eq!(metric(&server, "a", "api_keys").await, "1");

    file.write(&(entry("a", "write", "") + &entry("b", "read", "")));
    eventually("the new key is known", async || status(&server, "b").await == 200).await;
    assert_eq!(
        server.ask_as(Some("a"), Method::PUT, &node("n"), EFFECT).await.status,
        201,
        "it has more rights"
    );
    assert_eq!(metric(&server, "a", "api_keys").await, "2");
    assert_eq!(metric(&server, "a", "api_keys_outdated").await, "0");

    for broken in ["", "[[keys]]\nname =", "[[keys]]\nname = 'c'\n", "\u{0}"] {
        file.write(broken);
        eventually("it is seen", async || metric(&server, "a", "api_keys_outdated").await == "1").await;
        assert_eq!((status(&server, "a").await, status(&server, "b").await), (200, 200), "{broken}");
        file.write(&(entry("a", "write", "") + &entry("b", "read", "")));
        eventually("it is mended", async || metric(&server, "a", "api_keys_outdated").await == "0").await;
    }
    assert_eq!(metric(&server, "a", "api_keys_reloads_total{outcome=\"refused\"}").await, "4");
    std::fs::remove_file(file.path()).unwrap();
    eventually("it is missed", async || metric(&server, "a", "api_keys_outdated").await == "1").await;
    assert_eq!(status(&server, "a").await, 200);

    file.write(&entry("b", "read", ""));
    eventually("the old key is gone", async || status(&server, "a").await == 401).await;
    assert_eq!(status(&server, "b").await, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_put_in_the_place_of_another_is_followed() {
    // As Kubernetes mounts a secret: keys.toml -> ..data/keys.toml, ..data -> a folder, and ..data is renamed over.
    let file = KeyFile::of(&[]);
    let folder = file.folder();
    std::fs::remove_file(file.path()).unwrap();
    let link = |version: &str, content: &str| {
        std::fs::create_dir(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join("keys.toml"), content).unwrap();
        std::os::unix::fs::symlink(version, folder.join("..tmp")).unwrap();
        std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    };
    link("..1", &entry("a", "read", ""));
    std::os::unix::fs::symlink("..data/keys.toml", file.path()).unwrap();
    let server = file.serve(Backend::Sqlite, &[]).await;
    assert_eq!(status(&server, "a").await, 200);
    link("..2", &entry("b", "read", ""));
    eventually("the new key is known", async || status(&server, "b").await == 200).await;
    assert_eq!(status(&server, "a").await, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_away_ends_its_watches_and_no_others() {
    let file = KeyFile::of(&[entry("a", "read", ""), entry("b", "admin", "")]);
    let mut server = file.serve(Backend::Sqlite, &[]).await;
    server.key = Some(secret("a"));
    let mut of_a = server.watch("").await;
    server.key = Some(secret("b"));
    let mut of_b = server.watch("").await;
    file.write(&entry("b", "admin", ""));
    let rest = of_a.rest().await;
    let [closing] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!((closing.name.as_str(), &closing.data["reason"]), ("closing", &"key_revoked".into()));
    assert_eq!(status(server_without_key(&mut server), "a").await, 401);
    assert_eq!(server.ask_as(Some("b"), Method::PUT, &node("n"), EFFECT).await.status, 201);
    assert_eq!(of_b.next().await.gist(), ("change", "registered", "n"));
    drop((of_a, of_b));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_away_ends_its_long_polls() {
    let file = KeyFile::of(&[entry("a", "read", ""), entry("b", "admin", "")]);
    let server = file.serve(Backend::Sqlite, &[]).await;
    let begun = Instant::now();
    let poll = server.get_as("a", "/v1/nodes?since=0&wait=60s");
    let take_away = async {
        eventually("it waits", async || metric(&server, "b", "long_polls").await == "1").await;
        file.write(&entry("b", "admin", ""));
    };
    let (answer, ()) = futures_util::future::join(poll, take_away).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    assert!(begun.elapsed() < Duration::from_mins(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_away_while_the_body_is_on_its_way_writes_nothing() {
    let file = KeyFile::of(&[entry("a", "write", ""), entry("b", "admin", "")]);
    let server = file.serve(Backend::Sqlite, &[]).await;
    let mut late = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "PUT /v1/nodes/late HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        secret("a"),
        EFFECT.len()
    );
    let (first, rest) = EFFECT.split_at(5);
    late.write_all((head + first).as_bytes()).await.unwrap();
    eventually("it is being read", async || metric(&server, "b", "http_requests_in_flight").await == "2")
        .await;
    file.write(&entry("b", "admin", ""));
    eventually("it is gone", async || status(&server, "a").await == 401).await;
    late.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(server.get_as("b", &node("late")).await.status, 404);
    server.stop().await;
}

fn server_without_key(server: &mut TestServer) -> &TestServer {
    server.key = None;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_ends_when_it_expires_and_so_do_its_watches() {
    let until = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(15));
    let file = KeyFile::of(&[entry("a", "read", &format!("expires = \"{until}\""))]);
    let mut server = file.serve(Backend::Sqlite, &[]).await;
    server.key = Some(secret("a"));
    let mut watch = server.watch("").await;
    let rest = watch.rest().await;
    assert_eq!(rest.last().map(|last| last.data["reason"].clone()), Some("key_revoked".into()));
    assert!(SystemTime::now() >= humantime::parse_rfc3339(&until.to_string()).unwrap(), "and not before");
    assert_eq!(status(server_without_key(&mut server), "a").await, 401);
    server.stop().await;
}
