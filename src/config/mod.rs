//! The settings: read from flags, the environment and `.env`, and checked all at once.

mod door;
mod read;
mod value;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::registry::BreakerSettings;
use crate::registry::prober::{AddressPolicy, ProbeSettings};

use self::door::RawDoor;
pub use self::door::{ClientAuth, ConnectionLimits, RateLimit, TlsSettings};
pub use self::value::{CorsOrigins, DatabaseUrl, LogFormat, Public};
use crate::secret::Secret;

/// The settings as they were given. Text: what is wrong with them is said of all at once, by [`RawSettings::check`].
#[derive(Debug, Clone, Default, Args)]
pub struct RawSettings {
    /// Database: `sqlite://FILE` (made if missing) or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; several `HOST:PORT`
    /// are separated by commas
    #[arg(
        long,
        env = "DATABASE_URL",
        global = true,
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite://onex-registry.db"
    )]
    database_url: Secret,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(
        long,
        env = "ONEX_REGISTRY_LISTEN",
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    listen: String,
    #[command(flatten)]
    door: RawDoor,
    /// File of the API keys, as `onex-registry key new` prints them; read again when it changes. Empty: there are none
    #[arg(long, env = "ONEX_REGISTRY_API_KEYS_FILE", global = true, value_name = "FILE", default_value = "")]
    api_keys_file: String,
    /// Serve everybody who reaches the server, without keys: on or off
    #[arg(
        long,
        env = "ONEX_REGISTRY_INSECURE_NO_AUTH",
        global = true,
        value_name = "ON|OFF",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        default_value = "off"
    )]
    insecure_no_auth: String,
    /// What is open without a key, separated by commas, out of metrics, docs, read
    #[arg(long, env = "ONEX_REGISTRY_PUBLIC", global = true, value_name = "WHAT", default_value = "")]
    public: String,
    /// How long a node counts as alive after a sign of life, unless it says otherwise
    #[arg(long, env = "ONEX_REGISTRY_TTL", global = true, value_name = "DURATION", default_value = "90s")]
    ttl: String,
    /// How long after it became stale a node is deregistered: a duration, or never
    #[arg(
        long,
        env = "ONEX_REGISTRY_EXPIRE_AFTER",
        global = true,
        value_name = "DURATION",
        default_value = "never"
    )]
    expire_after: String,
    /// Expiry pauses if more than so many percent of those that were healthy one TTL ago are stale; 100: it never does
    #[arg(
        long,
        env = "ONEX_REGISTRY_SELF_PRESERVATION_PERCENT",
        global = true,
        value_name = "PERCENT",
        default_value = "15"
    )]
    self_preservation_percent: String,
    /// How often each health endpoint is probed; 0: never. At most a third of a node's TTL, and at least 1s
    #[arg(
        long,
        env = "ONEX_REGISTRY_PROBE_INTERVAL",
        global = true,
        value_name = "DURATION",
        default_value = "30s"
    )]
    probe_interval: String,
    /// How long a probe may take; no longer than the interval
    #[arg(
        long,
        env = "ONEX_REGISTRY_PROBE_TIMEOUT",
        global = true,
        value_name = "DURATION",
        default_value = "10s"
    )]
    probe_timeout: String,
    /// How many probes may be under way at once; a quarter of them is for targets that fail
    #[arg(
        long,
        env = "ONEX_REGISTRY_PROBE_CONCURRENCY",
        global = true,
        value_name = "NUMBER",
        default_value = "256"
    )]
    probe_concurrency: String,
    /// Networks that are not probed, separated by commas, besides link-local and cloud metadata addresses
    #[arg(
        long,
        env = "ONEX_REGISTRY_PROBE_DENY",
        global = true,
        value_name = "NETWORKS",
        default_value = ""
    )]
    probe_deny: String,
    /// Networks that are probed in spite of all that, separated by commas
    #[arg(
        long,
        env = "ONEX_REGISTRY_PROBE_ALLOW",
        global = true,
        value_name = "NETWORKS",
        default_value = ""
    )]
    probe_allow: String,
    /// How long events are kept in the audit trail, or `forever`
    #[arg(
        long,
        env = "ONEX_REGISTRY_EVENT_RETENTION",
        global = true,
        value_name = "DURATION",
        default_value = "7d"
    )]
    event_retention: String,
    /// How often table and catalog are compared, or `never`
    #[arg(
        long,
        env = "ONEX_REGISTRY_COMPARE_INTERVAL",
        global = true,
        value_name = "DURATION",
        default_value = "60s"
    )]
    compare_interval: String,
    /// How long a request may take before it is answered with 504
    #[arg(
        long,
        env = "ONEX_REGISTRY_REQUEST_TIMEOUT",
        global = true,
        value_name = "DURATION",
        default_value = "30s"
    )]
    request_timeout: String,
    /// How long a client may take to send a body before it is answered with 408
    #[arg(
        long,
        env = "ONEX_REGISTRY_BODY_TIMEOUT",
        global = true,
        value_name = "DURATION",
        default_value = "10s"
    )]
    body_timeout: String,
    /// How long requests in flight may take to finish after SIGTERM or SIGINT
    #[arg(
        long,
        env = "ONEX_REGISTRY_SHUTDOWN_TIMEOUT",
        global = true,
        value_name = "DURATION",
        default_value = "30s"
    )]
    shutdown_timeout: String,
    /// Requests and database operations that take longer are logged as warnings
    #[arg(long, env = "ONEX_REGISTRY_SLOW", global = true, value_name = "DURATION", default_value = "1s")]
    slow: String,
    /// How many connections to PostgreSQL are kept at most
    #[arg(
        long,
        env = "ONEX_REGISTRY_DATABASE_CONNECTIONS",
        global = true,
        value_name = "NUMBER",
        default_value = "10"
    )]
    database_connections: String,
    /// How long the database may answer nobody anything before it is given up, and calls to it with it
    #[arg(
        long,
        env = "ONEX_REGISTRY_DATABASE_SILENCE",
        global = true,
        value_name = "DURATION",
        default_value = "900ms"
    )]
    database_silence: String,
    /// So many failures of the database in a row open the breaker: clients' calls are refused at once
    #[arg(
        long,
        env = "ONEX_REGISTRY_BREAKER_FAILURES",
        global = true,
        value_name = "NUMBER",
        default_value = "5"
    )]
    breaker_failures: String,
    /// The pause before a call of a client tries whether the database is back
    #[arg(
        long,
        env = "ONEX_REGISTRY_BREAKER_PAUSE",
        global = true,
        value_name = "DURATION",
        default_value = "500ms"
    )]
    breaker_pause: String,
    /// File in which the last known fleet is kept, to be served if PostgreSQL is away at the start; empty: none
    #[arg(long, env = "ONEX_REGISTRY_SNAPSHOT", global = true, value_name = "FILE", default_value = "")]
    snapshot: String,
    /// Whether to apply migrations at start: on or off
    #[arg(long, env = "ONEX_REGISTRY_MIGRATE", global = true, value_name = "ON|OFF", default_value = "on")]
    migrate: String,
    /// Origins that browsers may call from, separated by commas, or *; empty: none
    #[arg(
        long,
        env = "ONEX_REGISTRY_CORS_ORIGINS",
        global = true,
        value_name = "ORIGINS",
        default_value = ""
    )]
    cors_origins: String,
    /// Log format: pretty, json, or auto (pretty on a terminal, else json)
    #[arg(
        long,
        env = "ONEX_REGISTRY_LOG_FORMAT",
        global = true,
        value_name = "FORMAT",
        default_value = "auto"
    )]
    log_format: String,
    /// What to log: a level or a list of target=level
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// The settings, all valid.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which database.
    pub database: DatabaseUrl,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How connections are encrypted; `None`: they are not.
    pub tls: Option<TlsSettings>,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// How many requests a client may send; `None`: as many as it likes.
    pub rate_limit: Option<RateLimit>,
    /// Where the keys are; `None`: there are none.
    pub api_keys_file: Option<PathBuf>,
    /// Whether to listen to the network without keys.
    pub insecure_no_auth: bool,
    /// What is open without a key.
    pub public: Public,
    /// The server's TTL.
    pub ttl: Duration,
    /// How long after it became stale a node is deregistered; `None`: never.
    pub expire_after: Option<Duration>,
    /// What share of the fleet turns stale at once before expiry pauses.
    pub self_preservation_percent: u8,
    /// How health endpoints are probed; `None`: not at all.
    pub probing: Option<ProbeSettings>,
    /// How long events are kept; `None`: for ever.
    pub event_retention: Option<Duration>,
    /// How often table and catalog are compared; `None`: never.
    pub compare_interval: Option<Duration>,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
    /// What is slow.
    pub slow: Duration,
    /// Connections to PostgreSQL.
    pub database_connections: u32,
    /// When the database is taken for away.
    pub breaker: BreakerSettings,
    /// Where the last known fleet is kept; `None`: nowhere.
    pub snapshot: Option<PathBuf>,
    /// Whether to apply migrations at start.
    pub migrate: bool,
    /// Who may call from a browser.
    pub cors: CorsOrigins,
    /// How logs look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
}

/// All that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadSettings(Vec<String>);

impl RawSettings {
    /// Checks all settings.
    ///
    /// # Errors
    /// Everything that is wrong, each with the name of its variable. Values of secrets are not repeated.
    pub fn check(&self) -> Result<Settings, BadSettings> {
        let mut wrong = Wrong(Vec::new());
        let settings = self.read(&mut wrong);
        wrong.none_or(settings)
    }

    /// Checks all settings, and that nobody serves the whole network without keys who has not said so.
    ///
    /// # Errors
    /// As [`RawSettings::check`].
    pub fn check_to_serve(&self) -> Result<Settings, BadSettings> {
        let mut wrong = Wrong(Vec::new());
        let settings = self.read(&mut wrong);
        wrong.0.extend(settings.exposure());
        wrong.none_or(settings)
    }

    fn read(&self, wrong: &mut Wrong) -> Settings {
        let ms = Duration::from_millis(1);
        let minute = Duration::from_mins(1);
        let day = 24 * 60 * minute;
        Settings {
            database: wrong.or(
                "DATABASE_URL",
                read::database(self.database_url.expose()),
                DatabaseUrl::Sqlite(String::new()),
            ),
            listen: wrong.or(
                "ONEX_REGISTRY_LISTEN",
                read::listen(&self.listen),
                SocketAddr::from(([127, 0, 0, 1], 0)),
            ),
            tls: self.door.tls(wrong),
            connections: self.door.connections(wrong),
            rate_limit: self.door.rate_limit(wrong),
            api_keys_file: read::api_keys_file(&self.api_keys_file),
            insecure_no_auth: self.insecure_no_auth(wrong),
            public: wrong.or("ONEX_REGISTRY_PUBLIC", read::public(&self.public), Public::default()),
            ttl: wrong.duration("ONEX_REGISTRY_TTL", &self.ttl, Duration::from_secs(1), day),
            expire_after: match self.expire_after.as_str() {
                "never" => None,
                text => Some(wrong.duration(
                    "ONEX_REGISTRY_EXPIRE_AFTER",
                    text,
                    Duration::from_secs(1),
                    365 * day,
                )),
            },
            self_preservation_percent: wrong.or(
                "ONEX_REGISTRY_SELF_PRESERVATION_PERCENT",
                read::percent(&self.self_preservation_percent),
                15,
            ),
            probing: self.probing(wrong),
            event_retention: match self.event_retention.as_str() {
                "forever" => None,
                text => Some(wrong.duration(
                    "ONEX_REGISTRY_EVENT_RETENTION",
                    text,
                    Duration::from_secs(1),
                    LONGEST_RETENTION,
                )),
            },
            compare_interval: match self.compare_interval.as_str() {
                "never" => None,
                text => {
                    Some(wrong.duration("ONEX_REGISTRY_COMPARE_INTERVAL", text, Duration::from_secs(1), day))
                }
            },
            request_timeout: wrong.duration(
                "ONEX_REGISTRY_REQUEST_TIMEOUT",
                &self.request_timeout,
                100 * ms,
                60 * minute,
            ),
            body_timeout: wrong.duration(
                "ONEX_REGISTRY_BODY_TIMEOUT",
                &self.body_timeout,
                100 * ms,
                60 * minute,
            ),
            shutdown_timeout: wrong.duration(
                "ONEX_REGISTRY_SHUTDOWN_TIMEOUT",
                &self.shutdown_timeout,
                ms,
                60 * minute,
            ),
            slow: wrong.duration("ONEX_REGISTRY_SLOW", &self.slow, ms, 60 * minute),
            database_connections: wrong.or(
                "ONEX_REGISTRY_DATABASE_CONNECTIONS",
                read::number(&self.database_connections, 2..=1_000),
                2,
            ),
            breaker: BreakerSettings {
                failures: wrong.or(
                    "ONEX_REGISTRY_BREAKER_FAILURES",
                    read::number(&self.breaker_failures, 1..=1_000),
                    1,
                ),
                pause: wrong.duration("ONEX_REGISTRY_BREAKER_PAUSE", &self.breaker_pause, 10 * ms, minute),
                silence: wrong.duration(
                    "ONEX_REGISTRY_DATABASE_SILENCE",
                    &self.database_silence,
                    100 * ms,
                    minute,
                ),
            },
            snapshot: wrong.or("ONEX_REGISTRY_SNAPSHOT", read::file(&self.snapshot), None),
            migrate: wrong.or("ONEX_REGISTRY_MIGRATE", read::on_or_off(&self.migrate), true),
            cors: wrong.or("ONEX_REGISTRY_CORS_ORIGINS", read::cors(&self.cors_origins), CorsOrigins::None),
            log_format: wrong.or(
                "ONEX_REGISTRY_LOG_FORMAT",
                read::log_format(&self.log_format),
                LogFormat::Auto,
            ),
            log: wrong.or("RUST_LOG", read::log_filter(&self.log), String::new()),
        }
    }

    fn insecure_no_auth(&self, wrong: &mut Wrong) -> bool {
        wrong.or("ONEX_REGISTRY_INSECURE_NO_AUTH", read::on_or_off(&self.insecure_no_auth), false)
    }

    fn probing(&self, wrong: &mut Wrong) -> Option<ProbeSettings> {
        let second = Duration::from_secs(1);
        let day = 24 * 3_600 * second;
        let is_off = humantime::parse_duration(&self.probe_interval).is_ok_and(|interval| interval.is_zero());
        let interval = if is_off {
            Duration::ZERO
        } else {
            wrong.duration("ONEX_REGISTRY_PROBE_INTERVAL", &self.probe_interval, second, day)
        };
        let settings = ProbeSettings {
            interval,
            timeout: wrong.duration("ONEX_REGISTRY_PROBE_TIMEOUT", &self.probe_timeout, second / 10, day),
            concurrency: wrong.or(
                "ONEX_REGISTRY_PROBE_CONCURRENCY",
                read::number(&self.probe_concurrency, 2..=10_000),
                256,
            ),
            idle_connections: MOST_IDLE_CONNECTIONS,
            addresses: AddressPolicy::new(
                wrong.or("ONEX_REGISTRY_PROBE_DENY", read::networks(&self.probe_deny), Vec::new()),
                wrong.or("ONEX_REGISTRY_PROBE_ALLOW", read::networks(&self.probe_allow), Vec::new()),
            ),
        };
        (!is_off).then_some(settings)
    }
}

/// So many connections to nodes are kept between probes, if the operating system lets us have so many open files.
const MOST_IDLE_CONNECTIONS: usize = 20_000;

/// A hundred years. Who means longer says `forever`.
const LONGEST_RETENTION: Duration = Duration::from_hours(876_600);

impl Settings {
    /// Whether only programs on this machine reach the server.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Why this may not be served: who may do what is not said, or said in two ways.
    fn exposure(&self) -> Option<String> {
        if self.api_keys_file.is_some() {
            return self.insecure_no_auth.then(|| {
                "ONEX_REGISTRY_INSECURE_NO_AUTH: is on, and ONEX_REGISTRY_API_KEYS_FILE names keys; set one of them".to_owned()
            });
        }
        (!self.is_local() && !self.insecure_no_auth).then(|| {
            format!(
                "ONEX_REGISTRY_LISTEN: {} is open to the network, and there are no API keys. \
                 Make one: onex-registry key new --name admin --role admin >>keys.toml, \
                 and set ONEX_REGISTRY_API_KEYS_FILE=keys.toml. Or listen on 127.0.0.1. \
                 Or, if everybody who reaches this address may change everything, set \
                 ONEX_REGISTRY_INSECURE_NO_AUTH=on, or give --insecure-no-auth",
                self.listen
            )
        })
    }
}

struct Wrong(Vec<String>);

impl Wrong {
    fn none_or(self, settings: Settings) -> Result<Settings, BadSettings> {
        if self.0.is_empty() { Ok(settings) } else { Err(BadSettings(self.0)) }
    }

    fn or<T>(&mut self, name: &str, value: Result<T, String>, stand_in: T) -> T {
        value.unwrap_or_else(|reason| {
            self.0.push(format!("{name}: {reason}"));
            stand_in
        })
    }

    fn duration(&mut self, name: &str, text: &str, least: Duration, most: Duration) -> Duration {
        let value = humantime::parse_duration(text)
            .map_err(|reason| format!("'{text}' is not a duration such as 500ms, 90s or 5m ({reason})"))
            .and_then(|value| {
                if (least..=most).contains(&value) {
                    Ok(value)
                } else {
                    let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
                    Err(format!("'{text}' is not between {least} and {most}"))
                }
            });
        self.or(name, value, least)
    }
}

/// Variables that look like ours and are not: most likely misspelled.
#[must_use]
pub fn unknown_variables(environment: impl Iterator<Item = String>) -> Vec<String> {
    use clap::{Args as _, Command};
    let command = RawSettings::augment_args(Command::new("settings"));
    let known: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    environment.filter(|name| name.starts_with("ONEX_REGISTRY_") && !known.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: RawSettings,
    }

    fn check(arguments: &[&str]) -> Result<Settings, Vec<String>> {
        let cli = Cli::parse_from(std::iter::once("test").chain(arguments.iter().copied()));
        cli.settings.check().map_err(|BadSettings(wrong)| wrong)
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
        let raw = Cli::parse_from(["test", "--database-url=postgres://ada:hunter2@h/db"]).settings;
        assert!(!format!("{raw:?}").contains("hunter2"), "before they are checked, too");
    }

    #[test]
    fn without_keys_only_this_machine_is_served_unless_somebody_says_so() {
        let serve = |arguments: &[&str]| {
            let cli = Cli::parse_from(std::iter::once("test").chain(arguments.iter().copied()));
            cli.settings.check_to_serve().map_err(|BadSettings(wrong)| wrong)
        };
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
}
