//! What goes over the wire, and what comes back.

use std::sync::atomic::AtomicU64;

use futures_util::future::join_all;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

#[tokio::test]
async fn the_status_alone_decides() {
    let cases: [(&[u8], Outcome); 11] = [
        (OK, Outcome::Success),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome::Success),
        (b"HTTP/1.1 299 Odd\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Outcome::Success),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Outcome::Success),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\ncut", Outcome::Success),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n", Outcome::Status),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Outcome::Status),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", Outcome::Status),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", Outcome::Status),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Outcome::Connect),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Outcome::Connect),
    ];
    join_all(cases.map(|(answer, expected)| async move {
        let server = Server::answering(answer).await;
        let outcome = Probing::new(settings()).outcome_of(server.url()).await;
        assert_eq!(outcome, expected, "{}", String::from_utf8_lossy(answer));
    }))
    .await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = Probing::new(settings()).outcome_of(format!("http://{nobody}/")).await;
    assert_eq!(outcome, Outcome::Connect);
}

#[tokio::test]
async fn a_request_has_our_headers_and_no_others() {
    let (heads, mut received) = mpsc::channel(1);
    let server = Server::new(move |mut stream| {
        let heads = heads.clone();
        async move {
            let head = read_head(&mut stream).await.unwrap();
            stream.write_all(OK).await.unwrap();
            let _ = heads.send(head).await;
        }
    })
    .await;
    let probing = Probing::new(settings());
    probing.set("a", format!("http://{}/live?deep=1#part", server.address));
    let head = timeout(LIMIT, received.recv()).await.unwrap().unwrap();
    let expected = format!(
        "GET /live?deep=1 HTTP/1.1\r\nhost: {}\r\nuser-agent: onex-registry/{} (health check)\r\naccept: */*\r\n\r\n",
        server.address,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(head, expected);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::answering(OK).await;
    let location = elsewhere.url();
    let server = Server::new(move |mut stream| {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        async move {
            while read_head(&mut stream).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let mut probing = Probing::new(settings());
    probing.set("a", server.url());
    probing.until("two probes", |seen| seen.outcomes(Outcome::Status) == 2).await;
    assert_eq!(elsewhere.accepted(), 0);
}

#[tokio::test]
async fn connections_are_reused() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let servers = [Server::answering(OK).await, Server::answering(chunked).await];
    let mut probing = Probing::new(settings());
    for (server, id) in servers.iter().zip(["a", "b"]) {
        probing.set(id, server.url());
    }
    let thrice = |seen: &Seen| seen.alive("a") >= 3 && seen.alive("b") >= 3;
    probing.until("three successes of each", thrice).await;
    assert_eq!(servers.each_ref().map(Server::accepted), [1, 1]);
}

#[tokio::test]
async fn a_connection_that_the_other_side_has_closed_is_no_failure() {
    // It doesn't say that it will.
    let server = Server::new(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(OK).await.unwrap();
    })
    .await;
    // This one waits for the next request before it closes, as a server that stops just then.
    let rude = Server::new(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(OK).await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    // And this one closes it while it is kept for the next probe.
    let (close, closing) = watch::channel(false);
    let short = Server::new(move |mut stream| {
        let mut closing = closing.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(OK).await.unwrap();
            closing.wait_for(|closing| *closing).await.unwrap();
        }
    })
    .await;
    let mut probing = Probing::new(settings());
    let servers = [("a", &server), ("b", &rude), ("c", &short)];
    for (id, server) in servers {
        probing.set(id, server.url());
    }
    probing.until("an answer on a connection that is kept", |seen| seen.alive("c") == 1).await;
    close.send(true).unwrap();
    let thrice = |seen: &Seen| servers.iter().all(|(id, _)| seen.alive(id) >= 3);
    let seen = probing.until("three successes of each", thrice).await;
    assert_eq!(seen.outcomes.len(), 1, "{seen:?}");
    assert!(servers.iter().all(|(_, server)| server.accepted() >= 3));
}

#[tokio::test]
async fn no_more_connections_are_kept_than_may_be() {
    let server = Server::answering(OK).await;
    let mut probing = Probing::new(ProbeSettings { idle_connections: 0, ..settings() });
    probing.set("a", server.url());
    probing.until("three successes", |seen| seen.alive("a") == 3).await;
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn of_a_huge_answer_little_is_read() {
    let (sent, mut all_sent) = mpsc::channel(1);
    let server = Server::new(move |mut stream| {
        let sent = sent.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await.unwrap();
            let written = AtomicU64::new(0);
            while let Ok(bytes) = stream.write(&[b'x'; 16 * 1024]).await {
                written.fetch_add(bytes as u64, Ordering::SeqCst);
            }
            let _ = sent.send(written.into_inner()).await;
        }
    })
    .await;
    let mut probing = Probing::new(settings());
    assert_eq!(probing.outcome_of(server.url()).await, Outcome::Success);
    let sent = timeout(LIMIT, all_sent.recv()).await.unwrap().unwrap();
    // Mostly what the kernel holds for the sender.
    assert!(sent < 16 * 1024 * 1024, "{sent} bytes were taken");
}

#[tokio::test]
async fn an_endless_head_is_not_read_for_ever() {
    let server = Server::new(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-filler: and so on and so on and so on\r\n").await.is_ok() {}
    })
    .await;
    let outcome = Probing::new(settings()).outcome_of(server.url()).await;
    assert_eq!(outcome, Outcome::Connect);
}

/// A server with a certificate for `localhost`, and the certificate.
pub(super) async fn tls_server() -> (Server, RootCertStore) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = [0; 1024];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (server, roots)
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_of_the_right_name() {
    let (server, roots) = tls_server().await;
    let names = Names::of(&[("localhost", &[&["127.0.0.1"]]), ("other", &[&["127.0.0.1"]])]);
    let url = |host: &str| format!("https://{host}:{}/", server.address.port());

    let mut trusting = Probing::with(settings(), names.clone(), roots);
    assert_eq!(trusting.outcome_of(url("localhost")).await, Outcome::Success);
    assert_eq!(trusting.outcome_of(url("other")).await, Outcome::Tls);
    assert_eq!(trusting.outcome_of(url("127.0.0.1")).await, Outcome::Tls);
    let plain = Server::new(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        while read_head(&mut stream).await.is_some() {}
    })
    .await;
    assert_eq!(trusting.outcome_of(plain.url().replace("http", "https")).await, Outcome::Tls);

    let mut distrusting = Probing::with(settings(), names, RootCertStore::empty());
    assert_eq!(distrusting.outcome_of(url("localhost")).await, Outcome::Tls);
}

#[tokio::test]
async fn connections_by_tls_are_reused() {
    let (server, roots) = tls_server().await;
    let names = Names::of(&[("localhost", &[&["127.0.0.1"]])]);
    let mut probing = Probing::with(settings(), names, roots);
    probing.set("a", format!("https://localhost:{}/", server.address.port()));
    probing.until("three successes", |seen| seen.alive("a") == 3).await;
    assert_eq!(server.accepted(), 1);
}
