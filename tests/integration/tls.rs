//! TLS: what it takes to be let in, and what certificates say.

use std::path::Path;

use axum::extract::Request;
use axum::routing::get;
use onex_registry::http::CertifiedName;
use onex_registry::server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{SupportedProtocolVersion, version};

use crate::harness::keys::KeyFile;
use crate::harness::process::{Process, program, run};
use crate::harness::server::settings;
use crate::harness::sql::eventually;
use crate::harness::tls::{Authority, Caller, Identity, Served};

static EACH_VERSION: [&[&SupportedProtocolVersion]; 2] = [&[&version::TLS13], &[&version::TLS12]];

/// Answers with the name in the client's certificate.
fn names() -> axum::Router {
    let name = |request: Request| async move {
        let name = request.extensions().get::<CertifiedName>();
        name.map_or("nobody".to_owned(), |name| name.as_str().to_owned())
    };
    axum::Router::new().route("/", get(name))
}

/// Serves [`names`] as `identity`, with further arguments.
async fn serve(identity: &Identity, folder: &Path, more: &[&str]) -> Served {
    let files = identity.write(folder);
    let arguments: Vec<&str> = files.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Served::start(names(), &arguments).await
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn both_protocols_are_spoken_over_both_versions() {
    let (authority, folder) = (Authority::new(), folder());
    let served = serve(&authority.server(), folder.path(), &[]).await;
    let all = Caller::trusting(&authority);
    for versions in EACH_VERSION {
        for alpn in [&["h2", "http/1.1"][..], &["h2"], &["http/1.1"], &[]] {
            let caller = Caller { alpn, versions, ..all.clone() };
            let stream = caller.connect(served.address).await.unwrap();
            let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(agreed.as_deref(), alpn.first().map(|name| name.as_bytes()));
            drop(stream);
            let (status, body) = caller.get(served.address, "/").await.unwrap();
            assert_eq!((status, body.as_str()), (200, "nobody"), "{alpn:?}");
        }
    }
    assert!(served.stop().await);
}

#[tokio::test]
async fn who_does_not_trust_the_authority_does_not_connect() {
    let (authority, folder) = (Authority::new(), folder());
    let served = serve(&authority.server(), folder.path(), &[]).await;
    assert!(Caller::trusting(&Authority::new()).get(served.address, "/").await.is_err());
    eventually("it is counted", async || served.metric("tls_handshake_failures_total") == Some(1.0)).await;
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_client_without_tls_is_told_so() {
    let (authority, folder) = (Authority::new(), folder());
    let served = serve(&authority.server(), folder.path(), &[]).await;
    let ask = async |request: &[u8]| {
        let mut client = served.connect().await;
        let _ = client.write_all(request).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        // It may be hung up on before all was read.
        let _ = client.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    for request in [&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("/problems/tls-expected"), "{answer}");
    }
    for junk in [&b""[..], b"\0", b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello", &[0xFF; 10_000]] {
        assert!(!ask(junk).await.contains("HTTP"), "{junk:?}");
    }
    let fine = Caller::trusting(&authority).get(served.address, "/").await.unwrap();
    assert_eq!(fine.0, 200, "nothing has broken");
    assert!(served.stop().await);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_ten_seconds() {
    let (authority, folder) = (Authority::new(), folder());
    let served = serve(&authority.server(), folder.path(), &[]).await;
    let begun = tokio::time::Instant::now();
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut client = served.connect().await;
        client.write_all(sent).await.unwrap();
        assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap_or_default(), 0);
    }
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_certificate_is_asked_for_and_its_name_is_known() {
    let (authority, clients, folder) = (Authority::new(), Authority::new(), folder());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, clients.pem()).unwrap();
    let ca = format!("--tls-client-ca={}", ca.display());
    let (named, by_dns) =
        (clients.client(Some("deployer"), &["d.example"]), clients.client(None, &["d.example"]));
    let (nameless, stranger) = (clients.client(None, &[]), Authority::new().client(Some("deployer"), &[]));
    for (auth, anonymous) in [("optional", Some("nobody")), ("required", None)] {
        let served =
            serve(&authority.server(), folder.path(), &[&ca, &format!("--tls-client-auth={auth}")]).await;
        for (identity, expected) in [
            (Some(&named), Some("deployer")),
            (Some(&by_dns), Some("d.example")),
            (Some(&nameless), Some("nobody")),
            (Some(&stranger), None),
            (None, anonymous),
        ] {
            for alpn in [&["h2"][..], &["http/1.1"]] {
                for versions in EACH_VERSION {
                    let caller = Caller { identity, alpn, versions, ..Caller::trusting(&authority) };
                    let answer = caller.get(served.address, "/").await.ok().map(|(_, body)| body);
                    assert_eq!(answer.as_deref(), expected, "{auth} {alpn:?}");
                }
            }
        }
        assert!(served.stop().await);
    }
}

/// The certificate that a server shows.
async fn shown(address: std::net::SocketAddr, authority: &Authority) -> Option<Vec<u8>> {
    let stream = Caller::trusting(authority).connect(address).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test]
async fn what_is_in_the_files_is_taken_when_it_changes() {
    let (authority, folder) = (Authority::new(), folder());
    let served = serve(&authority.server_until(2090), folder.path(), &[]).await;
    let expiry = || served.metric("tls_certificate_expiry_timestamp_seconds").unwrap();
    let first = shown(served.address, &authority).await.unwrap();
    let until_2090 = expiry();
    assert!((until_2090 - 3_786_912_000.0).abs() < 1.0, "{until_2090}");

    // A key that isn't the certificate's is not taken, and what was there stays.
    std::fs::write(folder.path().join("key.pem"), authority.server().key).unwrap();
    eventually("it is counted", async || served.metric("tls_reload_failures_total") == Some(1.0)).await;
    assert_eq!(shown(served.address, &authority).await.unwrap(), first);
    assert!((expiry() - until_2090).abs() < 1.0);

    let other = Authority::new();
    other.server_until(2091).write(folder.path());
    eventually("new connections have it", async || shown(served.address, &other).await.is_some()).await;
    assert!(shown(served.address, &authority).await.is_none());
    assert!(expiry() > until_2090);

    std::fs::remove_file(folder.path().join("cert.pem")).unwrap();
    eventually("it is counted", async || served.metric("tls_reload_failures_total") == Some(2.0)).await;
    assert!(shown(served.address, &other).await.is_some());
    assert!(served.stop().await);
}

#[tokio::test]
async fn a_folder_that_a_symbolic_link_is_turned_to_is_seen() {
    let (first, second, folder) = (Authority::new(), Authority::new(), folder());
    for (name, authority) in [("1", &first), ("2", &second)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        authority.server().write(&folder.path().join(name));
    }
    // As Kubernetes does it: the files are links into a folder that is a link, which is replaced.
    std::os::unix::fs::symlink("1", folder.path().join("data")).unwrap();
    let data = folder.path().join("data");
    let files = [
        format!("--tls-cert={}", data.join("cert.pem").display()),
        format!("--tls-key={}", data.join("key.pem").display()),
    ];
    let served = Served::start(names(), &[&files[0], &files[1]]).await;
    assert!(shown(served.address, &first).await.is_some());
    std::os::unix::fs::symlink("2", folder.path().join("next")).unwrap();
    std::fs::rename(folder.path().join("next"), &data).unwrap();
    eventually("it is seen", async || shown(served.address, &second).await.is_some()).await;
    assert_eq!(served.metric("tls_reload_failures_total"), Some(0.0));
    assert!(served.stop().await);
}

#[tokio::test]
async fn authorities_of_clients_are_taken_when_they_change() {
    let (authority, old, new, folder) = (Authority::new(), Authority::new(), Authority::new(), folder());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, old.pem()).unwrap();
    let auth = [&format!("--tls-client-ca={}", ca.display())[..], "--tls-client-auth=required"];
    let served = serve(&authority.server(), folder.path(), &auth).await;
    let (of_old, of_new) = (old.client(Some("a"), &[]), new.client(Some("a"), &[]));
    let may_come_in = async |identity: &Identity| {
        let caller = Caller { identity: Some(identity), ..Caller::trusting(&authority) };
        caller.get(served.address, "/").await.is_ok()
    };
    assert!(may_come_in(&of_old).await && !may_come_in(&of_new).await);
    std::fs::write(&ca, new.pem()).unwrap();
    eventually("the new one counts", async || may_come_in(&of_new).await).await;
    assert!(!may_come_in(&of_old).await);
    assert!(served.stop().await);
}

/// What is said of files that are no use.
async fn refused(folder: &Path, arguments: &[String]) -> String {
    let database = format!("sqlite://{}", folder.join("registry.db").display());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let error = Server::start(settings(&database, &arguments)).await.err().expect("it doesn't start");
    assert!(!folder.join("registry.db").exists(), "and touches no database");
    format!("{error:#}")
}

#[tokio::test]
async fn files_that_are_no_use_stop_the_start_and_all_is_said() {
    let (authority, folder) = (Authority::new(), folder());
    let folder = folder.path();
    let identity = authority.server();
    let good = identity.write(folder);
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let ca = format!("--tls-client-ca={}", folder.join("ca.pem").display());

    write("key.pem", &authority.server().key);
    let said = refused(folder, &good).await;
    assert!(said.contains("the key is not that of the certificate in ONEX_REGISTRY_TLS_CERT"), "{said}");

    write("key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    write("cert.pem", &identity.key);
    write("ca.pem", "junk");
    let said = refused(folder, &[&good[..], std::slice::from_ref(&ca)].concat()).await;
    for expected in [
        "ONEX_REGISTRY_TLS_CERT: the file has no certificate",
        "ONEX_REGISTRY_TLS_KEY: the key is encrypted",
        "ONEX_REGISTRY_TLS_CLIENT_CA: the file has no certificate",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }

    write("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    std::fs::remove_file(folder.join("ca.pem")).unwrap();
    let said = refused(folder, &[&good[..], &[ca]].concat()).await;
    for expected in ["_CERT: the first certificate is broken", "_CLIENT_CA: '", "can't be read"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    write("cert.pem", &identity.certificate);
    let said = refused(folder, &good).await;
    assert!(said.contains("_KEY: the key is broken") && !said.contains("AAAA"), "{said}");
}

#[tokio::test]
async fn a_process_reads_its_files_again_at_sighup_and_is_healthy() {
    let (first, second, folder) = (Authority::new(), Authority::new(), folder());
    let [cert, key] = first.server().write(folder.path());
    let mut command = program(folder.path());
    command.env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0").args([&cert, &key]);
    let mut process = Process::start(&mut command).await;
    assert!(process.lines.join("\n").contains(&format!("https://{}/swagger-ui/", process.address)));
    let address = process.address.parse().unwrap();
    assert_eq!(Caller::trusting(&first).get(address, "/livez").await.unwrap().0, 200);

    let mut check = program(folder.path());
    check.arg("healthcheck").env("ONEX_REGISTRY_LISTEN", &process.address).args([&cert, &key]);
    let output = run(&mut check).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Unchanged, or it would be read without the signal as well.
    process.signal("HUP").await;
    process.line_with("the TLS files were read again").await;
    second.server().write(folder.path());
    process.signal("HUP").await;
    process.line_with("the TLS files were read again").await;
    assert_eq!(Caller::trusting(&second).get(address, "/livez").await.unwrap().0, 200);
    std::fs::write(folder.path().join("cert.pem"), "").unwrap();
    process.signal("HUP").await;
    let said = process.line_with("can't be used").await;
    assert_eq!(said["level"], "ERROR");
    assert!(said["wrong"].as_str().unwrap().contains("ONEX_REGISTRY_TLS_CERT"), "{said}");
    assert_eq!(Caller::trusting(&second).get(address, "/livez").await.unwrap().0, 200);

    // Connections that are held open and have asked for nothing don't hold up the stop.
    let _idle = TcpStream::connect(address).await.unwrap();
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}

/// Who shows no key, and a certificate: has the rights of the key of its name.
#[tokio::test]
async fn a_certificate_has_the_rights_of_the_key_of_its_name() {
    let (authority, clients, folder) = (Authority::new(), Authority::new(), folder());
    let [cert, key] = authority.server().write(folder.path());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, clients.pem()).unwrap();
    let keys = KeyFile::usual();
    let mut command = program(folder.path());
    command.env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0").args([&cert, &key]);
    let authorities = format!("--tls-client-ca={}", ca.display());
    command.args([&authorities, "--public=metrics"]);
    command.arg(format!("--api-keys-file={}", keys.path().display()));
    let mut process = Process::start(&mut command).await;
    let address = process.address.parse().unwrap();
    let (known, unknown) = (clients.client(Some("reader"), &[]), clients.client(Some("nobody"), &[]));
    for (identity, expected) in [(Some(&known), 200), (Some(&unknown), 401), (None, 401)] {
        let caller = Caller { identity, ..Caller::trusting(&authority) };
        let (status, body) = caller.get(address, "/v1/nodes").await.unwrap();
        assert_eq!(status, expected, "{body}");
        for open in ["/livez", "/metrics"] {
            assert_eq!(caller.get(address, open).await.unwrap().0, 200, "{open} is open to all");
        }
    }
    // The authorities of clients don't vouch for the server's own certificate.
    let mut check = program(folder.path());
    check.arg("healthcheck").env("ONEX_REGISTRY_LISTEN", &process.address).args([&cert, &key, &authorities]);
    let output = run(&mut check).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}
