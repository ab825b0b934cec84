//! The command line. A command has a file of its own here.
//!
//! Those of the server read the server's settings; those of a client ask a server anywhere, read the client's, and don't
//! look at the others.

mod agent;
mod asking;
mod events;
mod export;
mod import;
mod key;
mod nodes;
mod outcome;
mod serve;
mod summary;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::outcome::print;
use crate::config::{RawSettings, Settings};
use crate::store::postgres::migrate;
use crate::{healthcheck, http};

const EXAMPLES: &str = "\
Examples:
  onex-registry                                    serve on this machine, with an SQLite file
  onex-registry nodes list --type effect           ask a server, that of ONEX_REGISTRY_URL
  onex-registry watch --url https://registry.example
  onex-registry completions bash >/etc/bash_completion.d/onex-registry";

/// A node registry and service-discovery server.
///
/// Without a command, it serves. Every setting is a flag and an environment variable, also from the file .env.
#[derive(Debug, Parser)]
#[command(name = "onex-registry", version, max_term_width = 100, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: RawSettings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Serve {
        #[command(flatten)]
        settings: RawSettings,
    },
    /// Apply the migrations to PostgreSQL and exit
    Migrate {
        /// Print them as one SQL script instead, for a database administrator
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        settings: RawSettings,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Ask the server on this machine whether it is ready; exit code 0 if it is. For containers
    Healthcheck {
        #[command(flatten)]
        settings: RawSettings,
    },
    /// API keys
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Ask a server for nodes: find, show, register and deregister them
    Nodes(nodes::NodesArgs),
    /// Ask a server for its audit trail
    Events(events::EventsArgs),
    /// Watch changes as they happen
    Watch(watch::WatchArgs),
    /// Ask a server how many nodes there are
    Summary(summary::SummaryArgs),
    /// Register nodes from a file of JSON Lines
    Import(import::ImportArgs),
    /// Write all registrations as JSON Lines
    Export(export::ExportArgs),
    /// Run a command as a node: register it, keep it alive while the command runs, deregister it
    Agent(agent::AgentArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // Before any other thread runs: it changes the environment of the process.
    match load_dotenv().and_then(|()| run(Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => outcome::report(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command.unwrap_or(Command::Serve { settings: cli.settings }) {
        Command::Serve { settings } => {
            let settings = settings.check_to_serve().context(WRONG_SETTINGS)?;
            in_runtime(serve::serve(settings))
        }
        Command::Migrate { print: true, .. } => print(&migrate::script()),
        Command::Migrate { settings, .. } => in_runtime(serve::apply_migrations(checked(&settings)?)),
        Command::Openapi => print(http::openapi::document_json()),
        Command::Healthcheck { settings } => {
            let settings = checked(&settings)?;
            in_runtime(async move { healthcheck::check(&settings).await })
        }
        Command::Key { command } => key::run(command),
        Command::Nodes(args) => nodes::run(args),
        Command::Events(args) => events::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "onex-registry", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

const WRONG_SETTINGS: &str = "the settings are wrong";

fn checked(settings: &RawSettings) -> anyhow::Result<Settings> {
    settings.check().context(WRONG_SETTINGS)
}

/// What blocking work may take when all else has ended.
const LAST_WORK: Duration = Duration::from_secs(2);

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A thread that waits for a file system that doesn't answer holds up nobody.
    runtime.shutdown_timeout(LAST_WORK);
    outcome
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
