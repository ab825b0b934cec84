//! Applying migrations to PostgreSQL.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::begin;
use super::pool::Pool;
use crate::store::migration::{Migration, POSTGRES};

/// How long migrations wait in all for readers and writers to let them at the table.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause before the next attempt. Between attempts, everybody else gets through.
const PAUSE: Duration = Duration::from_millis(500);

/// Any number that nobody else is likely to use for `pg_advisory_xact_lock(bigint)`; all versions use the same.
const LOCK: i64 = 0x6F6E_6578_2D72_6567;

/// `ALTER TABLE` behind an idle reader blocks everybody who comes after it, so it gives up soon. Who has waited for
/// another server to migrate must see what it did, whatever the default of the database is. That something was
/// there already is no news.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '1s'; \
                     SET LOCAL client_min_messages = 'warning'";

const BOOKKEEPING: &str = "CREATE TABLE IF NOT EXISTS onex_registry_migrations (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
)";

/// A table that is there already may be in another schema than the one in which new tables are made. All of ours go
/// where it is.
const FOLLOW_THE_TABLE: &str = "
SELECT set_config('search_path', quote_ident(n.nspname) || ', ' || current_setting('search_path'), true)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = to_regclass('node_registrations') AND n.nspname <> current_schema()";

/// Why migrations could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Somebody holds locks on the tables for longer than is waited.
    #[error("the tables were in use for {} seconds; look for idle transactions in pg_stat_activity", PATIENCE.as_secs())]
    Busy(#[source] sqlx::Error),
    /// The database refused a migration.
    #[error("migration {version} ({name}) failed")]
    Failed {
        /// Its number.
        version: i64,
        /// Its name.
        name: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The database failed, or we lack the right to create our table of migrations.
    #[error("the migrations could not be applied")]
    Database(#[from] sqlx::Error),
}

/// Applies all migrations that the database hasn't had yet, all or none, and returns their versions.
///
/// Several servers may do this at once: an advisory lock of the transaction lets one of them do it. Migrations that
/// are newer than this program are no error: they only add.
///
/// # Errors
/// See [`MigrateError`].
pub(super) async fn run(pool: &Pool) -> Result<Vec<i64>, MigrateError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // First without any lock or right but to read: mostly there is nothing to do.
        let mut tx = pool.begin_with(begin::READ).await?;
        let applied = applied(&mut tx).await?;
        tx.commit().await?;
        if pending(&applied).next().is_none() {
            return Ok(Vec::new());
        }
        match attempt(pool).await {
            Ok(versions) => return Ok(versions),
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                tracing::warn!("waiting to migrate: the tables are in use, or another server migrates");
                tokio::time::sleep(PAUSE).await;
            }
            Err(MigrateError::Database(error) | MigrateError::Failed { source: error, .. })
                if lock_not_available(&error) =>
            {
                return Err(MigrateError::Busy(error));
            }
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(pool: &Pool) -> Result<Vec<i64>, MigrateError> {
    let mut tx = pool.begin_with(BEGIN).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").persistent(false).bind(LOCK).execute(&mut *tx).await?;
    sqlx::query(FOLLOW_THE_TABLE).persistent(false).execute(&mut *tx).await?;
    sqlx::raw_sql(BOOKKEEPING).execute(&mut *tx).await?;
    let applied = applied(&mut tx).await?;
    let mut versions = Vec::new();
    for migration in pending(&applied) {
        let Migration { version, name, sql } = *migration;
        sqlx::raw_sql(sql).execute(&mut *tx).await.map_err(|source| MigrateError::Failed {
            version,
            name,
            source,
        })?;
        sqlx::query("INSERT INTO onex_registry_migrations (version, name) VALUES ($1, $2)")
            .persistent(false)
            .bind(version)
            .bind(name)
            .execute(&mut *tx)
            .await?;
        versions.push(version);
    }
    tx.commit().await?;
    Ok(versions)
}

fn pending(applied: &[i64]) -> impl Iterator<Item = &'static Migration> {
    POSTGRES.iter().filter(|migration| !applied.contains(&migration.version))
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let readable: Option<bool> = sqlx::query_scalar(
        "SELECT has_table_privilege(to_regclass('onex_registry_migrations')::oid, 'SELECT')",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    match readable {
        None => Ok(Vec::new()),
        Some(true) => {
            sqlx::query_scalar("SELECT version FROM onex_registry_migrations")
                .persistent(false)
                .fetch_all(connection)
                .await
        }
        // Somebody migrated, and did not let us see how far. What is missing is found out before serving.
        Some(false) => {
            tracing::warn!(
                "the table onex_registry_migrations can't be read: its migrations are taken as applied"
            );
            Ok(POSTGRES.iter().map(|migration| migration.version).collect())
        }
    }
}

fn is_busy(error: &MigrateError) -> bool {
    match error {
        MigrateError::Busy(_) => true,
        MigrateError::Database(source) | MigrateError::Failed { source, .. } => lock_not_available(source),
    }
}

fn lock_not_available(error: &sqlx::Error) -> bool {
    // lock_not_available, deadlock_detected; unique_violation: two servers made the same table at once.
    let busy = |code: &str| matches!(code, "55P03" | "40P01" | "23505");
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| busy(&code))
}

/// All migrations as one script for a database administrator.
#[must_use]
pub fn script() -> String {
    let statements = POSTGRES.iter().map(|m| format!("-- Migration {}: {}\n{}\n", m.version, m.name, m.sql));
    let marks = POSTGRES.iter().map(|m| {
        let Migration { version, name, .. } = m;
        format!("INSERT INTO onex_registry_migrations (version, name) VALUES ({version}, '{name}') ON CONFLICT DO NOTHING;\n")
    });
    [
        "-- The tables of onex-registry. Run as their future owner, for example with psql -f.\n\
         BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n"
            .to_owned(),
        format!("{FOLLOW_THE_TABLE};\n\n"),
        statements.collect(),
        format!("{BOOKKEEPING};\n"),
        marks.collect(),
        "\nCOMMIT;\n".to_owned(),
    ]
    .concat()
}
