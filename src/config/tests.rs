//! What is taken, what is refused, and how that is said.

use std::time::Duration;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    settings: RawSettings,
}

fn given(arguments: &[&str]) -> RawSettings {
    Cli::parse_from(std::iter::once("test").chain(arguments.iter().copied())).settings
}

/// The settings, or all that is wrong with them.
pub(super) fn check(arguments: &[&str]) -> Result<Settings, Vec<String>> {
    given(arguments).check().map_err(|BadSettings(wrong)| wrong)
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_no_secret_with_it() {
    let wrong = check(&[
        "--database-url=mysql://root:hunter2@h/db",
        "--listen=localhost",
        "--insecure-no-auth=maybe",
        "--public=metrics,write",
        "--ttl=soon",
        "--expire-after=0s",
        "--self-preservation-percent=101",
        "--probe-interval=1ms",
        "--probe-timeout=x",
        "--probe-concurrency=1",
        "--probe-deny=10.0.0.0/33",
        "--probe-allow=localhost",
        "--event-retention=never",
        "--request-timeout=0s",
        "--database-connections=0",
        "--migrate=maybe",
        "--cors-origins=example.org",
        "--log-format=xml",
        "--log=a=b=c",
    ])
    .unwrap_err();
    let names: Vec<&str> = wrong.iter().filter_map(|line| line.split(':').next()).collect();
    let expected = [
        "DATABASE_URL",
        "ONEX_REGISTRY_LISTEN",
        "ONEX_REGISTRY_INSECURE_NO_AUTH",
        "ONEX_REGISTRY_PUBLIC",
        "ONEX_REGISTRY_TTL",
        "ONEX_REGISTRY_EXPIRE_AFTER",
        "ONEX_REGISTRY_SELF_PRESERVATION_PERCENT",
        "ONEX_REGISTRY_PROBE_INTERVAL",
        "ONEX_REGISTRY_PROBE_TIMEOUT",
        "ONEX_REGISTRY_PROBE_CONCURRENCY",
        "ONEX_REGISTRY_PROBE_DENY",
        "ONEX_REGISTRY_PROBE_ALLOW",
        "ONEX_REGISTRY_EVENT_RETENTION",
        "ONEX_REGISTRY_REQUEST_TIMEOUT",
        "ONEX_REGISTRY_DATABASE_CONNECTIONS",
        "ONEX_REGISTRY_MIGRATE",
        "ONEX_REGISTRY_CORS_ORIGINS",
        "ONEX_REGISTRY_LOG_FORMAT",
        "RUST_LOG",
    ];
    assert_eq!(names, expected);
    assert!(!wrong.concat().contains("hunter2"));
}

#[test]
fn events_are_kept_for_a_while_or_for_ever() {
    let retention = |text: &str| {
        let argument = format!("--event-retention={text}");
        check(&[argument.as_str()]).map(|settings| settings.event_retention)
    };
    let day = Duration::from_hours(24);
    assert_eq!(check(&[]).unwrap().event_retention, Some(7 * day));
    assert_eq!(retention("30d"), Ok(Some(30 * day)));
    assert_eq!(retention("forever"), Ok(None));
    for wrong in ["0", "0s", "off", "101years", "999ms"] {
        assert!(retention(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_database_url_never_shows_who_we_are() {
    let settings =
        check(&["--database-url=postgres://ada:hunter2@db.example:5433/onex?sslmode=require"]).unwrap();
    assert_eq!(settings.database.to_string(), "postgres://db.example:5433/onex");
    assert!(!format!("{settings:?}").contains("hunter2"));
    for wrong in [
        "postgres://ada:hunter2@h:notaport/db",
        // What is not percent-encoded ends the host, and the rest would be shown as a database.
        "postgres://ada:123/hunter2@h/db",
        "postgres://ada:123?hunter2@h/db",
        "postgres://ada:123#hunter2@h/db",
    ] {
        let said = check(&[&format!("--database-url={wrong}")]).unwrap_err();
        assert!(!said.concat().contains("hunter2") && !said.concat().contains("123"), "{said:?}");
    }
    let raw = given(&["--database-url=postgres://ada:hunter2@h/db"]);
    assert!(!format!("{raw:?}").contains("hunter2"), "before they are checked, too");
}

#[test]
fn without_keys_only_this_machine_is_served_unless_somebody_says_so() {
    let serve = |arguments: &[&str]| given(arguments).check_to_serve().map_err(|BadSettings(wrong)| wrong);
    for local in ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(serve(&["--listen", local]).is_ok(), "{local}");
    }
    for open in ["0.0.0.0:80", "[::]:80", "192.168.0.1:80", "[::ffff:10.0.0.1]:80", "8.8.8.8:80"] {
        let said = serve(&["--listen", open]).unwrap_err().concat();
        for to_do in ["key new", "ONEX_REGISTRY_API_KEYS_FILE", "127.0.0.1", "--insecure-no-auth"] {
            assert!(said.contains(to_do), "{said}");
        }
        assert!(serve(&["--listen", open, "--insecure-no-auth"]).is_ok());
        assert!(serve(&["--listen", open, "--insecure-no-auth=on"]).is_ok());
        assert!(serve(&["--listen", open, "--insecure-no-auth=off"]).is_err());
        assert!(serve(&["--listen", open, "--api-keys-file=keys.toml"]).is_ok());
        assert!(check(&["--listen", open]).is_ok(), "a command that serves nobody asks for no keys");
    }
    assert!(serve(&["--api-keys-file=keys.toml", "--insecure-no-auth"]).is_err(), "which of the two?");
    let all = serve(&["--listen=0.0.0.0:80", "--ttl=soon"]).unwrap_err();
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn misspelled_variables_are_found() {
    let names = ["ONEX_REGISTRY_TLL", "ONEX_REGISTRY_TTL", "PATH", "DATABASE_URL"].map(str::to_owned);
    assert_eq!(unknown_variables(names.into_iter()), ["ONEX_REGISTRY_TLL"]);
}
