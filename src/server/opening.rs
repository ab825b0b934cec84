//! From a database that may be away to one that can be served: reached, migrated, checked.
//!
//! At first contact, what won't get better by itself ends the start, with what is to be done: a password or a role that
//! is refused, a database that isn't there, a migration that fails, a right that is missing. A database that can't be
//! reached, or is starting, does not: the server starts without it, and tries again until it is there. What is found
//! wrong then is logged, and tried again too: whoever is served from a snapshot should not lose that.

use std::sync::Arc;
use std::time::Duration;

use sqlx::error::DatabaseError;
use tokio_util::sync::CancellationToken;

use crate::going::jittered;
use crate::registry::Registry;
use crate::store::StoreError;
use crate::store::postgres::migrate::MigrateError;
use crate::store::postgres::{NotReady, PostgresStore};

/// The server waits so long for the first contact, before it listens.
const FIRST_CONTACT: Duration = Duration::from_secs(2);
/// The same for later ones.
const CONTACT: Duration = Duration::from_secs(10);
/// All of it takes this long at the most, migrations that wait for a table included.
const LONGEST: Duration = Duration::from_mins(10);
/// The pause before the next contact; doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A database to be made ready.
pub(super) struct Opening {
    pub(super) store: Arc<PostgresStore>,
    /// Where it is, without who we are there.
    pub(super) place: String,
    /// Whether migrations are applied.
    pub(super) migrates: bool,
}

/// Why it is not ready.
#[derive(Debug)]
pub(super) enum NotOpen {
    /// It is away: it may be there the next time.
    Away(anyhow::Error),
    /// Somebody has to do something about it.
    ForGood(anyhow::Error),
}

impl Opening {
    /// The first contact.
    pub(super) async fn begin(&self) -> Result<(), NotOpen> {
        self.open(FIRST_CONTACT).await
    }

    /// Tries until it is ready, and tells the registry.
    pub(super) async fn keep_trying(self, registry: Arc<Registry>, stop: CancellationToken) {
        let mut pause = SHORTEST_PAUSE;
        let mut told = String::new();
        let trying = async {
            loop {
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let (NotOpen::Away(error) | NotOpen::ForGood(error)) = match self.open(CONTACT).await {
                    Ok(()) => return registry.open(),
                    Err(not_open) => not_open,
                };
                let reason = format!("{error:#}");
                // It is told once, however often it is tried.
                if reason != told {
                    tracing::warn!(reason, "the database can't be served yet");
                    told = reason;
                }
            }
        };
        stop.run_until_cancelled(trying).await;
    }

    async fn open(&self, contact: Duration) -> Result<(), NotOpen> {
        let reached = self.store.reach(contact).await;
        reached.map_err(|error| {
            let is_for_good = is_refusal(&error);
            let error =
                anyhow::Error::new(error).context(format!("PostgreSQL can't be reached at {}", self.place));
            if is_for_good { NotOpen::ForGood(error) } else { NotOpen::Away(error) }
        })?;
        let prepared = tokio::time::timeout(LONGEST, self.prepare()).await;
        prepared.unwrap_or_else(|_| {
            Err(NotOpen::Away(anyhow::anyhow!("the database has not answered in time")))
        })?;
        tracing::info!(database = %self.place, "the data lies in PostgreSQL");
        Ok(())
    }

    async fn prepare(&self) -> Result<(), NotOpen> {
        if self.migrates {
            let versions = self.store.migrate().await.map_err(of_migrations)?;
            if !versions.is_empty() {
                tracing::info!(applied = ?versions, "migrated the database");
            }
        }
        self.store.preflight().await.map_err(|error| match error {
            NotReady::Unknown(error) => of_a_query(error, "the database could not be checked"),
            error @ NotReady::Missing(_) => NotOpen::ForGood(error.into()),
        })
    }
}

/// Whether the server says that we may not be there, or that what we want is not there (PostgreSQL manual, appendix A:
/// class 28, invalid authorization specification; 3D000, invalid catalog name), or what we are to do can't be done.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code.starts_with("28") || code == "3D000")
        || matches!(error, sqlx::Error::Configuration(_))
}

fn of_migrations(error: MigrateError) -> NotOpen {
    match error {
        MigrateError::Database(error) => of_a_query(error, "the migrations could not be applied"),
        MigrateError::Failed { source, version, name } => {
            of_a_query(source, &format!("migration {version} ({name}) failed"))
        }
        error @ MigrateError::Busy(_) => NotOpen::ForGood(error.into()),
    }
}

fn of_a_query(error: sqlx::Error, context: &str) -> NotOpen {
    let is_refusal = is_refusal(&error);
    match StoreError::from(error) {
        error if !is_refusal && error.is_unreachable(true) => NotOpen::Away(in_context(error, context)),
        error => NotOpen::ForGood(in_context(error, context)),
    }
}

fn in_context(error: StoreError, context: &str) -> anyhow::Error {
    anyhow::Error::new(error).context(context.to_owned())
}
