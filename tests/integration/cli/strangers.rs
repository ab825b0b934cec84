//! What answers is no registry, or not at all, or lies.

use super::{Said, answer, command, stranger};

const COMMANDS: [&[&str]; 5] =
    [&["nodes", "list"], &["nodes", "get", "a"], &["summary"], &["events"], &["watch"]];

#[tokio::test]
async fn what_is_no_registry_is_called_so() {
    let html = "<html><script>alert(1)</script></html>";
    let other = r#"{"status":"ok"}"#;
    let json = "Content-Type: application/json\r\n";
    for (bytes, said) in [
        (answer("200 OK", "Content-Type: text/html\r\n", html), "it sends text/html"),
        (answer("404 Not Found", "Content-Type: text/html\r\n", html), "404"),
        (answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ""), "redirects are not followed"),
        (answer("401 Unauthorized", json, other), "401"),
        (answer("200 OK", json, "{\"nodes\":7"), "not "),
        (answer("200 OK", "", ""), "it sends something of no type"),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "not HTTP"),
        ("\u{0}\u{1b}[2J\u{7}garbage".to_owned(), "not HTTP"),
        (answer("200 OK\u{1b}[31m", "Content-Type: text/\u{1b}[31mhtml\r\n", html), "not "),
    ] {
        let url = stranger(bytes.clone()).await;
        for arguments in COMMANDS {
            let seen = Said::by(&mut command(&url, arguments)).await;
            assert_eq!(seen.code, 1, "{bytes:?} {arguments:?}: {seen:?}");
            assert!(
                seen.err.contains("not a registry") && seen.err.contains(said),
                "{bytes:?}: {}",
                seen.err
            );
            assert!(!seen.err.contains('\u{1b}') && !seen.err.contains("<script>"), "{}", seen.err);
        }
    }
    // JSON, but not ours: all commands look at what is in it.
    let url = stranger(answer("200 OK", json, other)).await;
    for arguments in COMMANDS {
        assert_eq!(Said::by(&mut command(&url, arguments)).await.code, 1, "{arguments:?}");
    }
}

#[tokio::test]
async fn what_stands_before_a_registry_may_say_that_it_is_away() {
    let url = stranger(answer("502 Bad Gateway", "Content-Type: text/html\r\n", "<html>")).await;
    for arguments in COMMANDS {
        let said = Said::by(&mut command(&url, arguments)).await;
        assert!(said.code == 6 && said.err.contains("502"), "{said:?}");
    }
    let url = stranger("").await;
    let said = Said::by(&mut command(&url, &["summary"])).await;
    assert!(said.code == 6 && said.err.contains("without an answer"), "{said:?}");
}

#[tokio::test]
async fn what_never_answers_is_not_waited_for_for_ever() {
    // The system accepts connections, and nobody reads them.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for arguments in COMMANDS {
        let said = Said::by(command(&url, arguments).env("ONEX_REGISTRY_TIMEOUT", "300ms")).await;
        assert!(said.code == 6 && said.err.contains("no answer within 300ms"), "{said:?}");
    }
    // One that begins an answer and doesn't end it.
    let begun = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let said = Said::by(&mut command(&stranger(begun).await, &["summary"])).await;
    assert!(said.code == 6 && said.err.contains("broke off"), "{said:?}");
}

#[tokio::test]
async fn a_problem_is_shown_without_what_would_change_the_terminal() {
    let problem = r#"{"type":"/problems/x","title":"\u001b[31mred","status":422,"detail":"a\rb\u202e","errors":[{"pointer":"/\u0007","detail":"\u009b2J"}]}"#;
    let url = stranger(answer("422 X", "Content-Type: application/problem+json\r\n", problem)).await;
    let said = Said::by(&mut command(&url, &["summary"])).await;
    assert_eq!(said.code, 1);
    assert!(said.err.chars().all(|character| character == '\n' || !character.is_control()), "{:?}", said.err);
    assert!(
        said.err.contains(r"\u{1b}[31mred (422): a\u{d}b\u{202e}") && said.err.contains(r"/\u{7}: \u{9b}2J"),
        "{}",
        said.err
    );
}

/// The clock of this machine is five hours ahead of the registry's.
#[tokio::test]
async fn times_are_told_by_the_clock_of_the_server() {
    let record = r#"{"node_id":"a","node_type":"effect","node_version":"1.0.0","capabilities":{},"endpoints":{},"metadata":{},"health_endpoint":null,"last_heartbeat":"2020-01-01T11:59:48.000000Z","registered_at":"2020-01-01T09:00:00.000000Z","updated_at":"infinity","ttl_seconds":null,"maintenance":null,"status":"healthy","revision":1}"#;
    let fields = "Content-Type: application/json\r\nDate: Wed, 01 Jan 2020 12:00:00 GMT\r\n";
    let page = format!(r#"{{"nodes":[{record}],"revision":1,"next_cursor":null}}"#);
    let table =
        Said::by(&mut command(&stranger(answer("200 OK", fields, &page)).await, &["nodes", "list"])).await;
    let row = &table.words()[1][4..];
    // Whoever is slow asks a second later.
    assert!(
        matches!(row, [seen, _, registered, _] if seen.starts_with('1') && registered == "3h"),
        "{row:?}"
    );
    let shown =
        Said::by(&mut command(&stranger(answer("200 OK", fields, record)).await, &["nodes", "get", "a"]))
            .await;
    let shown = shown.done();
    assert!(shown.contains("updated_at       infinity\n"), "{shown}");
}

#[tokio::test]
async fn pages_without_end_are_not_read_for_ever() {
    let json = "Content-Type: application/json\r\n";
    let page = r#"{"nodes":[],"revision":1,"next_cursor":"again"}"#;
    let said =
        Said::by(&mut command(&stranger(answer("200 OK", json, page)).await, &["nodes", "list"])).await;
    assert!(said.code == 1 && said.err.contains("no end"), "{said:?}");
    let page = r#"{"events":[{"revision":7,"node_id":"a","kind":"updated","changed":[],"actor":"x","correlation_id":null,"occurred_at":"x"}],"next_after":7}"#;
    let said = Said::by(&mut command(&stranger(answer("200 OK", json, page)).await, &["events"])).await;
    assert!(said.code == 1 && said.err.contains("no end"), "{said:?}");
}
