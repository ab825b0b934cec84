//! The command line.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::{self, DatabaseUrl, RawSettings, Settings};
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
        _ => {}
    }
    let settings = cli.settings.check().context("the settings are wrong")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            None | Some(Command::Serve) => serve(settings).await,
            Some(Command::Migrate { .. }) => apply_migrations(settings).await,
            Some(Command::Healthcheck) => healthcheck::check(&settings).await,
            Some(Command::Openapi) => Ok(()),
        }
    })
}

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

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("can't write to the standard output"),
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    telemetry::init(settings.log_format, &settings.log)?;
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
    telemetry::init(settings.log_format, &settings.log)?;
    let DatabaseUrl::Postgres(url) = &settings.database else {
        anyhow::bail!("migrate is for PostgreSQL; an SQLite file is migrated when the server opens it");
    };
    let store =
        PostgresStore::connect(url, 1, settings.ttl.into()).await.context("PostgreSQL can't be reached")?;
    let versions = store.migrate().await?;
    tracing::info!(applied = ?versions, database = %settings.database, "the database is up to date");
    Ok(())
}
