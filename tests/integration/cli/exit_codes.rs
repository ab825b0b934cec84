//! What scripts rely on.

use super::{Said, ask, command, server_with_real_nodes};
use crate::harness::keys::{KeyFile, secret};
use crate::harness::{Backend, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_ends_with_1_and_names_all_that_is_wrong() {
    let server = TestServer::start(Backend::Sqlite).await;
    let flags = ["nodes", "register", "--id", "a", "--type", "robot", "--version", "one"];
    let said = ask(&server, &flags).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    for place in ["422", "/node_type: ", "/node_version: ", "correlation id: "] {
        assert!(said.err.contains(place), "{place}: {}", said.err);
    }
    let said = ask(&server, &["nodes", "list", "--status", "fine", "--version-req", ">>1"]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("status: ") && said.err.contains("version_req: "), "{}", said.err);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_meant_ends_with_2_before_anything_is_asked() {
    for arguments in [
        &["nodes"][..],
        &["nodes", "list", "--limit=0"],
        &["nodes", "list", "--output=xml"],
        &["nodes", "list", "--metadata=a=b", "--metadata={}"],
        &["nodes", "list", "--metadata=a"],
        &["nodes", "list", "--ttl=5s"],
        &["nodes", "get"],
        &["nodes", "register"],
        &["nodes", "register", "x.json", "--type=effect"],
        &["nodes", "register", "x.json", "--if-match=1", "--create-only"],
        &["nodes", "deregister"],
        &["nodes", "deregister", "a", "--if-match=new"],
        &["nodes", "deregister", "a", "b", "--if-match=7"],
        &["watch", "--output=json"],
        &["events", "--follow", "--output=json"],
        &["summary", "--timeout=never"],
        &["summary", "--url=registry.example"],
        &["completions", "tcl"],
        &["--ttl=5s", "summary"],
    ] {
        let said = Said::by(&mut command("http://127.0.0.1:1", arguments)).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {}", said.err);
        assert!(!said.err.is_empty());
    }
}

/// A path that the server doesn't have is no node that isn't registered, and nothing was deregistered there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_path_of_the_server_ends_with_1() {
    let server = TestServer::start(Backend::Sqlite).await;
    let url = format!("{}/wrong", server.url);
    for arguments in [
        &["nodes", "list"][..],
        &["nodes", "get", "a"],
        &["nodes", "deregister", "a", "--ignore-missing"],
        &["nodes", "deregister", "a", "b", "--ignore-missing"],
    ] {
        let said = Said::by(&mut command(&url, arguments)).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{arguments:?}: {}", said.err);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_ends_with_3() {
    let server = TestServer::start(Backend::Sqlite).await;
    for arguments in [["nodes", "get", "nobody"], ["nodes", "deregister", "nobody"]] {
        let said = ask(&server, &arguments).await;
        assert_eq!((said.code, said.out.as_str()), (3, ""), "{arguments:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_missing_or_has_no_rights_ends_with_4_and_is_never_said() {
    let keys = KeyFile::usual();
    let server = keys.serve(Backend::Sqlite, &[]).await;
    let with = async |key: &str, arguments: &[&str]| {
        let said = Said::by(command(&server.url, arguments).env("ONEX_REGISTRY_API_KEY", key)).await;
        assert!(key.is_empty() || !format!("{said:?}").contains(key), "{said:?}");
        said.code
    };
    let register = ["nodes", "register", "--id", "other-1", "--type", "effect"];
    assert_eq!(with("", &["summary"]).await, 4);
    assert_eq!(with("onex_nobody", &["summary"]).await, 4);
    assert_eq!(with("onex_nobody", &["watch"]).await, 4);
    assert_eq!(with("onex_nobody", &["events"]).await, 4);
    assert_eq!(with(&secret("reader"), &["summary"]).await, 0);
    assert_eq!(with(&secret("reader"), &register).await, 4);
    assert_eq!(with(&secret("billing"), &register).await, 4);
    assert_eq!(with(&secret("admin"), &register).await, 0);
    assert_eq!(with(&secret("reader"), &["nodes", "deregister", "other-1"]).await, 4);

    let file = keys.folder().join("secret");
    std::fs::write(&file, format!("{}\n", secret("reader"))).unwrap();
    let by_file = ["summary", "--api-key-file", file.to_str().unwrap()];
    assert_eq!(ask(&server, &by_file).await.code, 0);
    assert_eq!(with(&secret("reader"), &by_file).await, 2, "which of the two?");
    std::fs::write(&file, "hunter2 hunter2\n").unwrap();
    let said = ask(&server, &by_file).await;
    assert!(said.code == 2 && !said.err.contains("hunter2"), "{said:?}");
    let said = Said::by(&mut command(&server.url, &["summary", "--api-key", "hunter2"])).await;
    assert_eq!(said.code, 2, "it would be in the list of processes");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_does_not_hold_ends_with_5() {
    let server = server_with_real_nodes().await;
    let register = |condition: &'static str, version: &'static str| {
        ["nodes", "register", "--id=a", "--type=effect", condition, version, "--output=json"]
    };
    assert_eq!(ask(&server, &register("--if-match=*", "--version=1.0.0")).await.code, 5, "it isn't there");
    let first = ask(&server, &register("--create-only", "--version=1.0.0")).await.json();
    assert_eq!(ask(&server, &register("--create-only", "--version=1.0.0")).await.code, 5);
    let at = first["revision"].to_string();
    let said = ask(&server, &["nodes", "deregister", "a", "--if-match", "1"]).await;
    assert!(said.code == 5 && said.err.contains(&at), "it says what the revision is: {}", said.err);
    let tag = server.get("/v1/nodes/a").await.header("etag").unwrap().to_owned();
    assert_eq!(ask(&server, &["nodes", "deregister", "a", "--if-match", &tag]).await.code, 0);
    ask(&server, &register("--create-only", "--version=1.0.0")).await.done();
    let at = server.get("/v1/nodes/a").await.json()["revision"].to_string();
    assert_eq!(ask(&server, &["nodes", "deregister", "a", "--if-match", &at]).await.code, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_or_busy_ends_with_6() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for arguments in [&["summary"][..], &["nodes", "list"], &["events"], &["events", "-f"], &["watch"]] {
        let said = Said::by(&mut command(&format!("http://{free}"), arguments)).await;
        assert_eq!((said.code, said.out.lines().count() <= 1), (6, true), "{arguments:?}: {said:?}");
        assert!(said.err.contains(&free.to_string()) && said.err.contains("away"), "{}", said.err);
    }
    let server = TestServer::start_with(Backend::Sqlite, &["--rate-limit=1", "--rate-burst=1"]).await;
    let mut codes = Vec::new();
    for _ in 0..50 {
        codes.push(ask(&server, &["summary"]).await.code);
        if codes.contains(&6) {
            break;
        }
    }
    assert_eq!(codes.last(), Some(&6), "{codes:?}");
    server.stop().await;
}
