//! Keys and the program: how it starts, what it prints, and what it never says.

use onex_registry::keys::Fingerprint;
use reqwest::Client;

use crate::harness::TestDatabase;
use crate::harness::keys::{KeyFile, entry, secret};
use crate::harness::process::{Process, program, run};

const LISTEN: &str = "ONEX_REGISTRY_LISTEN";
const KEYS: &str = "ONEX_REGISTRY_API_KEYS_FILE";

async fn get(process: &Process, path: &str, shown: Option<&str>) -> (u16, String) {
    let mut request = Client::new().get(process.url(path));
    if let Some(shown) = shown {
        request = request.header("authorization", shown);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn without_keys_the_network_is_not_served_unless_somebody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(program(folder.path()).env(LISTEN, "0.0.0.0:0")).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for to_do in ["0.0.0.0:0", "onex-registry key new", KEYS, "127.0.0.1", "--insecure-no-auth"] {
        assert!(said.contains(to_do), "{to_do}: {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was touched");

    for (setting, value) in [("ONEX_REGISTRY_INSECURE_NO_AUTH", "on"), ("RUST_LOG", "info")] {
        let mut command = program(folder.path());
        command.env(LISTEN, "0.0.0.0:0").env(setting, value);
        if setting == "RUST_LOG" {
            command.arg("--insecure-no-auth");
        }
        let mut process = Process::start(&mut command).await;
        assert!(process.lines.iter().any(|line| line.contains("WARN") && line.contains("no API keys")));
        process.signal("TERM").await;
        assert!(process.wait().await.success());
    }
    let file = KeyFile::usual();
    let mut process =
        Process::start(program(folder.path()).env(LISTEN, "0.0.0.0:0").env(KEYS, file.path())).await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}

#[tokio::test]
async fn a_broken_file_stops_the_start_with_all_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::of(&[]);
    let start = async || {
        let output = run(program(folder.path()).env(LISTEN, "127.0.0.1:0").env(KEYS, file.path())).await;
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    file.write("[[keys]]\nname = \"a\"\nsha256 = \"hunter2\"\nroles = [\"root\"]\n[[keys]]\nname = \"b\"\ncolour = 1\n");
    let said = start().await;
    for wrong in
        ["line 3, key 'a': sha256", "line 4, key 'a': roles", "line 5, key 'b': sha256", "'colour'", KEYS]
    {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    std::fs::remove_file(file.path()).unwrap();
    assert!(start().await.contains("can't be read"));
}

#[tokio::test]
async fn a_key_that_is_made_and_put_into_the_file_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    let mut made = program(folder.path());
    made.args([
        "key",
        "new",
        "--name",
        "billing",
        "--role",
        "write",
        "--node-ids",
        "billing-*",
        "--expires",
        "90d",
    ]);
    let output = run(&mut made).await;
    assert!(output.status.success());
    let (entry, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let secrets: Vec<&str> = said.split_whitespace().filter(|word| word.starts_with("onex_")).collect();
    let [secret] = secrets[..] else { panic!("it is said once: {said}") };
    assert!(
        !entry.contains(secret) && entry.contains(&Fingerprint::of(secret.as_bytes()).to_hex()),
        "{entry}"
    );
    std::fs::write(&path, &entry).unwrap();
    let mut process =
        Process::start(program(folder.path()).env(LISTEN, "127.0.0.1:0").env(KEYS, &path)).await;
    let shown = format!("Bearer {secret}");
    assert_eq!(get(&process, "/v1/nodes", Some(&shown)).await.0, 200);
    assert_eq!(get(&process, "/v1/nodes", None).await.0, 401);
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    for wrong in [
        &["--name", "registry"][..],
        &["--name", "a", "--role", "root"],
        &["--name", "a", "--node-ids", "x*"],
        &["--name", "a", "--expires", "soon"],
        &[],
    ] {
        let mut command = program(folder.path());
        let output = run(command.args(["key", "new"]).args(wrong)).await;
        assert!(!output.status.success() && output.stdout.is_empty(), "{wrong:?}");
    }
}

#[tokio::test]
async fn sighup_reads_the_keys_again_and_a_file_for_all_eyes_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::usual();
    let mode =
        |mode: u32| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o600);
    let mut process =
        Process::start(program(folder.path()).env(LISTEN, "127.0.0.1:0").env(KEYS, file.path())).await;
    assert!(!process.lines.concat().contains("can read the file"), "{:?}", process.lines);
    mode(0o604);
    // The content is as it was: only who is told reads it again.
    process.signal("HUP").await;
    process.line_with("every user of this machine can read the file of API keys").await;
    let again = process.line_with("API keys are in use").await;
    assert_eq!(again["keys"], 4);
    file.write("[[keys]]\nname = 7\n");
    process.signal("HUP").await;
    let said = process.line_with("the file of API keys is wrong").await;
    assert!(said["level"] == "ERROR" && said["error"].as_str().unwrap().contains("line 2"), "{said}");
    let shown = format!("Bearer {}", secret("reader"));
    assert_eq!(get(&process, "/v1/nodes", Some(&shown)).await.0, 200, "the keys are as they were");
    process.signal("TERM").await;
    assert!(process.wait().await.success());
}

#[tokio::test]
async fn no_secret_is_in_anything_that_the_server_says() {
    let database = TestDatabase::create().await;
    let mut url = url::Url::parse(&database.url()).unwrap();
    if std::env::var_os("TEST_DATABASE_URL").is_none() {
        // The private cluster trusts everybody, whatever the password.
        url.set_password(Some("hunter2")).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let old = entry("old", "admin", "expires = \"2001-01-01T00:00:00Z\"");
    let file =
        KeyFile::of(&[entry("reader", "read", ""), entry("billing", "write", "node_ids = [\"b-*\"]"), old]);
    let mut command = program(folder.path());
    command.env(LISTEN, "127.0.0.1:0").env(KEYS, file.path()).env("DATABASE_URL", url.as_str());
    command.env("RUST_LOG", "debug");
    let mut process = Process::start(&mut command).await;
    let mut said = Vec::new();
    let bearer = |name: &str| format!("Bearer {}", secret(name));
    let (reader, old, never) = (bearer("reader"), bearer("old"), bearer("never"));
    let malformed = format!("Bearer {} x", secret("reader"));
    let basic = format!("Basic {}", secret("reader"));
    for shown in [&reader, &old, &never, &malformed, &basic] {
        for path in
            ["/v1/nodes", "/v1/nodes?limit=x", "/v1/nodes/nobody", "/metrics", "/nothing", "/openapi.json"]
        {
            said.push(get(&process, path, Some(shown)).await.1);
        }
        let put = Client::new().put(process.url("/v1/nodes/n")).header("content-type", "application/json");
        let put = put.header("authorization", shown).header("x-correlation-id", "order-17").body("{}");
        said.push(put.send().await.unwrap().text().await.unwrap());
    }
    let put = Client::new().put(process.url("/v1/nodes/b-1")).header("content-type", "application/json");
    let put = put.header("authorization", bearer("billing")).header("x-correlation-id", "order-18");
    assert_eq!(put.body(r#"{"node_type":"effect"}"#).send().await.unwrap().status(), 201);
    let broken = entry("reader", "root", "") + &entry("reader", "read", "secret = \"onex_secret-of-reader\"");
    file.write(&broken);
    process.line_with("the file of API keys is wrong").await;
    process.signal("TERM").await;
    assert!(process.wait().await.success());

    let request =
        process.lines.iter().find(|line| line.contains("order-18") && line.contains("\"status\"")).unwrap();
    let request: serde_json::Value = serde_json::from_str(request).unwrap();
    assert_eq!(request["span"]["key"], "billing", "the log says who it was");
    said.append(&mut process.lines);
    said.push(process.standard_output().await);
    let digest = |name: &str| Fingerprint::of(secret(name).as_bytes()).to_hex();
    let hidden = [
        "onex_secret",
        "secret-of",
        &digest("reader"),
        &digest("old"),
        &digest("billing"),
        &digest("never"),
        "hunter2",
    ];
    for hidden in hidden {
        let leaks: Vec<&String> = said.iter().filter(|text| text.contains(hidden)).collect();
        assert!(leaks.is_empty(), "{hidden}: {leaks:#?}");
    }
}
