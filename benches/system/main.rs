//! The server beside what it could at best be, and beside what it replaces: each pair in turn, in one run, on one
//! machine. `scripts/bench` installs what it needs and runs it; `docs/performance.md` says how to read the table.
//!
//! 1. [`scenarios`] say what is measured and what has to come of it.
//! 2. [`stage`] gives them databases with a [`fleet`] in them, and a [`server`]; [`references`] are the other side.
//! 3. [`wrk`], [`pgbench`] and [`open_loop`] make load.
//! 4. [`measure`] and [`table`] make figures of it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark reports to a terminal")]

mod client;
#[expect(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "shared with the tests")]
#[path = "../../tests/integration/harness/cluster.rs"]
mod cluster;
mod event_stream;
mod fleet;
mod guarded;
mod measure;
mod open_loop;
mod pgbench;
mod references;
mod scenarios;
mod server;
mod stage;
mod table;
mod wrk;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum as _};

use scenarios::Scenario;
use stage::{Pace, Stage};
use table::{Row, Table};

/// That of the server, so that the references have it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the server beside its references, and prints a table in Markdown.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure; everything, if nothing is named
    scenarios: Vec<Scenario>,
    /// How long each run under load takes, in seconds: shorter than the usual ten, the spread is wider
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600), conflicts_with = "quick")]
    seconds: Option<u64>,
    /// One round of two seconds each, to see that it works. The figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Cargo says that this is a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(ended) = references::run_if_named(&given) {
        return ended.map(|()| ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    // Thousands of watchers are as many open files, here and in the server, which inherits the limit.
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    anyhow::ensure!(
        files >= 8_192,
        "a process may have {files} files open; ulimit -n: at least 8192 are needed"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let usual = if arguments.quick { Pace::QUICK } else { Pace::FULL };
    let run = arguments.seconds.map_or(usual.run, Duration::from_secs);
    let stage = Stage::set(Pace { run, ..usual });
    let chosen =
        |scenario: &Scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(scenario);
    let mut rows: Vec<Row> = Vec::new();
    let mut complete = true;
    for scenario in Scenario::value_variants().iter().filter(|scenario| chosen(scenario)) {
        eprintln!("== {}", scenario.name());
        match scenario.run(&stage).await {
            Ok(made) => rows.extend(made),
            // The others still have something to say.
            Err(error) => {
                eprintln!("{}: {error:#}", scenario.name());
                rows.push(Row::without_figures(&scenario.name(), &format!("failed: {error:#}")));
                complete = false;
            }
        }
        stage.clear().await?;
    }
    print!("{}", Table(&rows));
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
