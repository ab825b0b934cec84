//! Faults under load: a primary with a synchronous standby, servers on both stores, clients that write down what they asked
//! and were told, and a judge of all that. `scripts/chaos` installs what it needs and runs it; `docs/resilience.md` says
//! how to read the table.
//!
//! 1. [`stage`] sets up what faults happen to: [`pair`], [`servers`], [`disk`], [`link`].
//! 2. [`load`] is who asks meanwhile; each [`client`] writes into a [`book`].
//! 3. [`faults`] are what happens; [`run`] has them happen, one by one, then two at once.
//! 4. [`verdict`] applies the [`checker`] and the [`rules`] to the books, and [`table`] shows what came of it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it reports to a terminal")]

mod book;
#[expect(clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../../tests/integration/histories/checker.rs"]
mod checker;
mod client;
#[expect(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "shared with the tests")]
#[path = "../../tests/integration/harness/cluster.rs"]
mod cluster;
#[expect(clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../../tests/integration/histories/dice.rs"]
mod dice;
mod disk;
mod faults;
#[path = "../system/guarded.rs"]
mod guarded;
mod link;
mod load;
#[expect(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "shared with the tests")]
#[path = "../../tests/integration/harness/mortal.rs"]
mod mortal;
mod pair;
mod rules;
mod run;
mod servers;
mod stage;
mod table;
mod tool;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use faults::Fault;
use stage::Stage;

/// Has faults happen under load, and judges what clients saw.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long faults go on, in seconds: each once, then by chance, also two at once
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Which faults happen when; without it another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults there may be, separated by commas; without it all of them
    #[arg(long, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Cargo says that this is a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        // What is dropped here is gone: processes, disks, networks, files.
        tokio::select! {
            ended = run(&arguments) => ended,
            _ = interrupted.recv() => anyhow::bail!("interrupted"),
            _ = terminated.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let by_chance =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() % 1_000_000);
    let seed = arguments.seed.unwrap_or_else(by_chance);
    eprintln!("== seed {seed}");
    let stage = Stage::set().await?;
    for missing in &stage.missing {
        eprintln!("== skipped: {missing}");
    }
    let ran = run::run(&stage, seed, Duration::from_secs(arguments.seconds), &arguments.only).await?;
    let verdict = verdict::judge(&stage, ran)?;
    print!("{}", table::Table { verdict: &verdict, seed });
    verdict.show();
    if !verdict.is_good() {
        eprintln!("the servers' logs are in {}", stage.keep_logs()?.display());
    }
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
