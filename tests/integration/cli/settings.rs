//! Which server is asked, and what is not looked at for that.

use super::{Said, command};
use crate::harness::process::{Process, program, run};
use crate::harness::tls::Authority;
use crate::harness::{Backend, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_that_of_the_env_file_and_its_other_settings_are_not_looked_at() {
    let server = TestServer::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file =
        format!("DATABASE_URL=mysql://broken\nONEX_REGISTRY_TTL=soon\nONEX_REGISTRY_URL={}/\n", server.url);
    std::fs::write(folder.path().join(".env"), file).unwrap();
    let said = Said::by(program(folder.path()).args(["nodes", "list", "--output=json"])).await;
    assert_eq!(said.json(), serde_json::json!([]));
    let refused = Said::by(program(folder.path()).arg("migrate")).await;
    assert!(refused.code == 1 && refused.err.contains("DATABASE_URL"), "{refused:?}");
    let elsewhere =
        Said::by(program(folder.path()).args(["nodes", "--url=http://127.0.0.1:1", "list"])).await;
    assert_eq!(elsewhere.code, 6, "a flag wins: {elsewhere:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    server.stop().await;
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once_and_no_password_with_it() {
    let mut wrong = command("http://ada:hunter2@h", &["summary", "--timeout=soon"]);
    let said = Said::by(wrong.env("ONEX_REGISTRY_API_KEY", "hunter2 x")).await;
    assert_eq!(said.code, 2);
    for name in ["ONEX_REGISTRY_URL", "ONEX_REGISTRY_TIMEOUT", "ONEX_REGISTRY_API_KEY"] {
        assert!(said.err.contains(name), "{}", said.err);
    }
    assert!(!said.err.contains("hunter2"), "{}", said.err);
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_it_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let files = authority.server().write(folder.path());
    let mut serve = program(folder.path());
    let mut process = Process::start(serve.env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0").args(&files)).await;
    let url = format!("https://{}", process.address);
    let trusting = async |pem: &str| {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, pem).unwrap();
        Said::by(command(&url, &["summary"]).env("ONEX_REGISTRY_CA_FILE", &file)).await
    };
    assert_eq!(trusting(&authority.pem()).await.code, 0);
    let said = trusting(&other.pem()).await;
    assert!(said.code == 1 && said.err.contains("not trusted"), "{said:?}");
    let said = Said::by(&mut command(&url, &["summary"])).await;
    assert!(said.code == 1 && said.err.contains("not trusted"), "the system doesn't know it: {said:?}");
    for wrong in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let said = trusting(wrong).await;
        assert!(said.code == 2 && said.err.contains("ONEX_REGISTRY_CA_FILE"), "{said:?}");
    }
    // The other scheme, at both.
    let said = Said::by(&mut command(&url.replace("https", "http"), &["summary"])).await;
    assert!(said.code == 1 && said.err.contains("https"), "{said:?}");
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let server = TestServer::start(Backend::Sqlite).await;
    let said = Said::by(&mut command(&server.url.replace("http", "https"), &["summary"])).await;
    assert!(said.code == 1 && said.err.contains("http://"), "{said:?}");
    server.stop().await;
}

#[tokio::test]
async fn variables_of_clients_are_not_called_misspelled_by_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = program(folder.path());
    serve
        .env("ONEX_REGISTRY_LISTEN", "127.0.0.1:0")
        .env("ONEX_REGISTRY_URL", "x")
        .env("ONEX_REGISTRY_ULR", "x");
    let mut process = Process::start(&mut serve).await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());
    let warned: Vec<&String> = process.lines.iter().filter(|line| line.contains("misspelled")).collect();
    assert!(warned.len() == 1 && warned[0].contains("ONEX_REGISTRY_ULR"), "{warned:?}");
    assert!(!run(program(folder.path()).args(["--url=http://h", "nodes"])).await.status.success());
}
