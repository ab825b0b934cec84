//! The settings: read from flags, the environment and `.env`, and checked all at once.

mod access;
mod database;
mod door;
mod liveness;
mod read;
#[cfg(test)]
mod tests;
mod value;
mod wrong;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::registry::BreakerSettings;
use crate::registry::prober::ProbeSettings;
use crate::secret::Secret;

use self::access::RawAccess;
use self::database::RawDatabase;
use self::door::RawDoor;
pub use self::door::{ClientAuth, ConnectionLimits, RateLimit, TlsSettings};
use self::liveness::RawLiveness;
pub use self::value::{CorsOrigins, DatabaseUrl, LogFormat, Public};
pub use self::wrong::BadSettings;
use self::wrong::Wrong;

/// The settings as they were given. Text: what is wrong with them is said of all at once, by [`RawSettings::check`].
#[derive(Debug, Clone, Default, Args)]
pub struct RawSettings {
    /// Database: `sqlite://FILE` (made if missing) or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; several `HOST:PORT`
    /// are separated by commas
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite://onex-registry.db"
    )]
    database_url: Secret,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, env = "ONEX_REGISTRY_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    #[command(flatten)]
    door: RawDoor,
    #[command(flatten)]
    access: RawAccess,
    #[command(flatten)]
    liveness: RawLiveness,
    /// How long events are kept in the audit trail, or `forever`
    #[arg(long, env = "ONEX_REGISTRY_EVENT_RETENTION", value_name = "DURATION", default_value = "7d")]
    event_retention: String,
    /// How often table and catalog are compared, or `never`
    #[arg(long, env = "ONEX_REGISTRY_COMPARE_INTERVAL", value_name = "DURATION", default_value = "60s")]
    compare_interval: String,
    /// How long a request may take before it is answered with 504
    #[arg(long, env = "ONEX_REGISTRY_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    request_timeout: String,
    /// How long a client may take to send a body before it is answered with 408
    #[arg(long, env = "ONEX_REGISTRY_BODY_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    body_timeout: String,
    /// How long requests in flight may take to finish after SIGTERM or SIGINT
    #[arg(long, env = "ONEX_REGISTRY_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    shutdown_timeout: String,
    /// Requests and database operations that take longer are logged as warnings
    #[arg(long, env = "ONEX_REGISTRY_SLOW", value_name = "DURATION", default_value = "1s")]
    slow: String,
    #[command(flatten)]
    database: RawDatabase,
    /// Origins that browsers may call from, separated by commas, or *; empty: none
    #[arg(long, env = "ONEX_REGISTRY_CORS_ORIGINS", value_name = "ORIGINS", default_value = "")]
    cors_origins: String,
    /// Log format: pretty, json, or auto (pretty on a terminal, else json)
    #[arg(long, env = "ONEX_REGISTRY_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    log_format: String,
    /// What to log: a level or a list of target=level
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
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
    /// How many watches and long polls there may be.
    pub max_watchers: usize,
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

impl RawSettings {
    /// Checks all settings.
    ///
    /// # Errors
    /// Everything that is wrong, each with the name of its variable. Values of secrets are not repeated.
    pub fn check(&self) -> Result<Settings, BadSettings> {
        let mut wrong = Wrong::default();
        let settings = self.read(&mut wrong);
        wrong.none_or(settings)
    }

    /// Checks all settings, and that nobody serves the whole network without keys who has not said so.
    ///
    /// # Errors
    /// As [`RawSettings::check`].
    pub fn check_to_serve(&self) -> Result<Settings, BadSettings> {
        let mut wrong = Wrong::default();
        let settings = self.read(&mut wrong);
        wrong.add(settings.exposure());
        wrong.none_or(settings)
    }

    fn read(&self, wrong: &mut Wrong) -> Settings {
        let patience = MILLISECOND..=HOUR;
        let listen = read::listen(&self.listen);
        let nowhere = DatabaseUrl::Sqlite(String::new());
        Settings {
            database: wrong.or("DATABASE_URL", read::database(self.database_url.expose()), nowhere),
            listen: wrong.or("ONEX_REGISTRY_LISTEN", listen, SocketAddr::from(([127, 0, 0, 1], 0))),
            tls: self.door.tls(wrong),
            connections: self.door.connections(wrong),
            max_watchers: self.door.max_watchers(wrong),
            rate_limit: self.door.rate_limit(wrong),
            api_keys_file: self.access.api_keys_file(),
            insecure_no_auth: self.access.insecure_no_auth(wrong),
            public: self.access.public(wrong),
            ttl: self.liveness.ttl(wrong),
            expire_after: self.liveness.expire_after(wrong),
            self_preservation_percent: self.liveness.self_preservation_percent(wrong),
            probing: self.liveness.probing(wrong),
            event_retention: wrong.duration_or(
                "forever",
                "ONEX_REGISTRY_EVENT_RETENTION",
                &self.event_retention,
                SECOND..=LONGEST_RETENTION,
            ),
            compare_interval: wrong.duration_or(
                "never",
                "ONEX_REGISTRY_COMPARE_INTERVAL",
                &self.compare_interval,
                SECOND..=DAY,
            ),
            request_timeout: wrong.duration(
                "ONEX_REGISTRY_REQUEST_TIMEOUT",
                &self.request_timeout,
                100 * MILLISECOND..=HOUR,
            ),
            body_timeout: wrong.duration(
                "ONEX_REGISTRY_BODY_TIMEOUT",
                &self.body_timeout,
                100 * MILLISECOND..=HOUR,
            ),
            shutdown_timeout: wrong.duration(
                "ONEX_REGISTRY_SHUTDOWN_TIMEOUT",
                &self.shutdown_timeout,
                patience.clone(),
            ),
            slow: wrong.duration("ONEX_REGISTRY_SLOW", &self.slow, patience),
            database_connections: self.database.connections(wrong),
            breaker: self.database.breaker(wrong),
            snapshot: self.database.snapshot(wrong),
            migrate: self.database.migrate(wrong),
            cors: wrong.or("ONEX_REGISTRY_CORS_ORIGINS", read::cors(&self.cors_origins), CorsOrigins::None),
            log_format: wrong.or(
                "ONEX_REGISTRY_LOG_FORMAT",
                read::log_format(&self.log_format),
                LogFormat::Auto,
            ),
            log: wrong.or("RUST_LOG", read::log_filter(&self.log), String::new()),
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A hundred years. Who means longer says `forever`.
const LONGEST_RETENTION: Duration = Duration::from_hours(876_600);

impl Settings {
    /// Whether only programs on this machine reach the server.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

/// Variables that look like ours and are not: most likely misspelled. Those of clients may stand in the same `.env`.
#[must_use]
pub fn unknown_variables(environment: impl Iterator<Item = String>) -> Vec<String> {
    use clap::{Args as _, Command};
    let command = RawSettings::augment_args(Command::new("settings"));
    let known: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    environment
        .filter(|name| {
            name.starts_with("ONEX_REGISTRY_")
                && !known.contains(name)
                && !crate::client::VARIABLES.contains(&name.as_str())
        })
        .collect()
}
