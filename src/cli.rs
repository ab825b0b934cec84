//! The command line.

use std::process::ExitCode;

use anyhow::Context as _;
use std::time::Duration;

use clap::{Parser, Subcommand};

use time::OffsetDateTime;

use crate::config::{self, DatabaseUrl, RawSettings, Settings};
use crate::keys::{KeyName, NewKey, Pattern, Role, expiry};
use crate::store::postgres::{PostgresStore, migrate};
use crate::{healthcheck, http, server, telemetry};

/// A node registry and service-discovery server.
///
/// Without a command, it serves. Every setting is a flag and an environment variable, also from the file .env.
#[derive(Debug, Parser)]
#[command(name = "onex-registry", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: RawSettings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Serve,
    /// Apply the migrations to PostgreSQL and exit
    Migrate {
        /// Print them as one SQL script instead, for a database administrator
        #[arg(long)]
        print: bool,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Ask the server on this machine whether it is ready; exit code 0 if it is. For containers
    Healthcheck,
    /// API keys
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key: prints its secret, once, to the standard error, and what the file of keys needs to the standard output
    New {
        /// What the key is called in logs and events
        #[arg(long, value_parser = |text: &str| KeyName::parse(text))]
        name: KeyName,
        /// What it may do: read, write, which has read, or admin, which has both
        #[arg(long = "role", value_name = "ROLE", default_value = "read", value_parser = |text: &str| Role::from_name(text))]
        roles: Vec<Role>,
        /// Which nodes a key with the role write may change, such as billing-*; none: all
        #[arg(long, value_name = "PATTERN", value_parser = |text: &str| Pattern::parse(text))]
        node_ids: Vec<Pattern>,
        /// When it ends: an instant such as 2030-01-31T12:00:00Z, or a duration from now such as 90d
        #[arg(long, value_name = "WHEN", value_parser = |text: &str| expiry(text, OffsetDateTime::now_utc()))]
        expires: Option<OffsetDateTime>,
    },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// The one place that writes to the terminal without the logger: what is wrong may be why there is none.
#[allow(clippy::print_stderr)]
fn report(error: &anyhow::Error) {
    eprintln!("onex-registry: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

fn run() -> anyhow::Result<()> {
    // Before any other thread runs: it changes the environment of the process.
    load_dotenv()?;
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Openapi) => return print(http::openapi::document_json()),
        Some(Command::Migrate { print: true }) => return print(&migrate::script()),
        Some(Command::Key { command: KeyCommand::New { name, roles, node_ids, expires } }) => {
            return show(&NewKey::make(&name, &roles, &node_ids, expires)?);
        }
        _ => {}
    }
    let settings = match cli.command {
        None | Some(Command::Serve) => cli.settings.check_to_serve(),
        Some(_) => cli.settings.check(),
    };
    let settings = settings.context("the settings are wrong")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            None | Some(Command::Serve) => serve(settings).await,
            Some(Command::Migrate { .. }) => apply_migrations(settings).await,
            Some(Command::Healthcheck) => healthcheck::check(&settings).await,
            Some(Command::Openapi | Command::Key { .. }) => Ok(()),
        }
    });
    // A thread that waits for a file system that doesn't answer holds up nobody.
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

/// What blocking work may take when all else has ended.
const LAST_WORK: Duration = Duration::from_secs(2);

fn load_dotenv() -> anyhow::Result<()> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        // The error repeats the line, and with it perhaps a secret.
        Err(dotenvy::Error::LineParse(..)) => {
            anyhow::bail!("the file .env has a line that is not NAME=value")
        }
        Err(error) => Err(error).context("the file .env can't be read"),
    }
}

/// The secret goes another way than the lines for the file, so that it does not end up in there with them.
#[allow(clippy::print_stderr)]
fn show(key: &NewKey) -> anyhow::Result<()> {
    eprintln!("The secret of the key. It is shown only now, and kept nowhere:\n\n{}\n", key.secret.expose());
    print(&key.entry)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("can't write to the standard output"),
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    server::survive_hangup()?;
    let _log = telemetry::init(settings.log_format, &settings.log)?;
    for name in
        config::unknown_variables(std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()))
    {
        tracing::warn!(name, "there is no such setting; is it misspelled?");
    }
    let mut stop = Box::pin(server::stop_signal().context("signals can't be handled")?);
    let server = tokio::select! {
        server = server::Server::start(settings) => server?,
        () = &mut stop => return Ok(()),
    };
    server.run_until(stop).await
}

async fn apply_migrations(settings: Settings) -> anyhow::Result<()> {
    let _log = telemetry::init(settings.log_format, &settings.log)?;
    let DatabaseUrl::Postgres(url) = &settings.database else {
        anyhow::bail!("migrate is for PostgreSQL; an SQLite file is migrated when the server opens it");
    };
    let store = PostgresStore::connect(url.expose(), 1, settings.ttl.into())
        .await
        .context("PostgreSQL can't be reached")?;
    let versions = store.migrate().await?;
    tracing::info!(applied = ?versions, database = %settings.database, "the database is up to date");
    Ok(())
}
