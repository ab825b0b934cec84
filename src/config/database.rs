//! How the database is used, and when it is taken for away.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{MILLISECOND, Wrong, read};
use crate::registry::BreakerSettings;

/// The settings of its use, as they were given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RawDatabase {
    /// How many connections to PostgreSQL are kept at most
    #[arg(long, env = "ONEX_REGISTRY_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "10")]
    database_connections: String,
    /// How long the database may answer nobody anything before it is given up, and calls to it with it
    #[arg(long, env = "ONEX_REGISTRY_DATABASE_SILENCE", value_name = "DURATION", default_value = "900ms")]
    database_silence: String,
    /// So many failures of the database in a row open the breaker: clients' calls are refused at once
    #[arg(long, env = "ONEX_REGISTRY_BREAKER_FAILURES", value_name = "NUMBER", default_value = "5")]
    breaker_failures: String,
    /// The pause before a call of a client tries whether the database is back
    #[arg(long, env = "ONEX_REGISTRY_BREAKER_PAUSE", value_name = "DURATION", default_value = "500ms")]
    breaker_pause: String,
    /// File in which the last known fleet is kept, to be served if PostgreSQL is away at the start; empty: none
    #[arg(long, env = "ONEX_REGISTRY_SNAPSHOT", value_name = "FILE", default_value = "")]
    snapshot: String,
    /// Whether to apply migrations at start: on or off
    #[arg(long, env = "ONEX_REGISTRY_MIGRATE", value_name = "ON|OFF", default_value = "on")]
    migrate: String,
}

impl RawDatabase {
    pub(super) fn connections(&self, wrong: &mut Wrong) -> u32 {
        let connections = read::number(&self.database_connections, 2..=1_000);
        wrong.or("ONEX_REGISTRY_DATABASE_CONNECTIONS", connections, 2)
    }

    pub(super) fn breaker(&self, wrong: &mut Wrong) -> BreakerSettings {
        let minute = Duration::from_mins(1);
        let failures = read::number(&self.breaker_failures, 1..=1_000);
        let (pause, silence) = (&self.breaker_pause, &self.database_silence);
        BreakerSettings {
            failures: wrong.or("ONEX_REGISTRY_BREAKER_FAILURES", failures, 1),
            pause: wrong.duration("ONEX_REGISTRY_BREAKER_PAUSE", pause, 10 * MILLISECOND..=minute),
            silence: wrong.duration("ONEX_REGISTRY_DATABASE_SILENCE", silence, 100 * MILLISECOND..=minute),
        }
    }

    pub(super) fn snapshot(&self, wrong: &mut Wrong) -> Option<PathBuf> {
        wrong.or("ONEX_REGISTRY_SNAPSHOT", read::file(&self.snapshot), None)
    }

    pub(super) fn migrate(&self, wrong: &mut Wrong) -> bool {
        wrong.or("ONEX_REGISTRY_MIGRATE", read::on_or_off(&self.migrate), true)
    }
}
