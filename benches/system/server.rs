//! The server to be measured, as a process of its own, and what it takes of the machine.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::{Method, StatusCode};

use crate::client::{Connection, request};
use crate::guarded::Guarded;

/// How long a server may take to be ready.
const START_TIME: Duration = Duration::from_mins(2);
/// How often it is asked whether it is.
const START_PAUSE: Duration = Duration::from_millis(2);

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// What is unusual, into a file that is shown when something fails.
    Warn,
    /// A line per request, thrown away.
    Info,
}

impl Log {
    pub(crate) fn level(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }

    /// Where it goes.
    pub(crate) fn stream(self, file: &Path) -> anyhow::Result<Stdio> {
        match self {
            Self::Warn => Ok(File::create(file)?.into()),
            Self::Info => Ok(Stdio::null()),
        }
    }
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    process: Guarded,
    pub(crate) address: SocketAddr,
    /// From the start of the process until it said that it is ready.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Nodes stay alive for a day without a heartbeat, and are not probed: a fleet that nobody keeps alive would turn
    /// stale in the middle of a run, and probes would ask ports that nobody listens on. All else is as it is by default.
    pub(crate) async fn start(database: &str, log: Log, folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let log_file = folder.join(format!("server-{}.log", address.port()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_onex-registry"));
        command
            .current_dir(folder)
            .env_clear()
            .env("DATABASE_URL", database)
            .env("ONEX_REGISTRY_LISTEN", address.to_string())
            .env("ONEX_REGISTRY_LOG_FORMAT", "json")
            .env("ONEX_REGISTRY_TTL", "1d")
            .env("ONEX_REGISTRY_PROBE_INTERVAL", "0")
            .env("RUST_LOG", log.level())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.stream(&log_file)?);
        let begun = Instant::now();
        let mut process = Guarded::spawn(&mut command)?;
        while !is_ready(address).await {
            let ended = process.child.try_wait()?;
            let said = || std::fs::read_to_string(&log_file).unwrap_or_default();
            anyhow::ensure!(ended.is_none(), "the server ended: {}", said());
            anyhow::ensure!(begun.elapsed() < START_TIME, "the server doesn't get ready: {}", said());
            tokio::time::sleep(START_PAUSE).await;
        }
        Ok(Self { process, address, ready_after: begun.elapsed() })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Memory that is in RAM, in bytes: `VmRSS` of `proc_pid_status(5)`, which is in kibibytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1_024)
    }

    /// CPU time so far, user's and kernel's: fields 14 and 15 of `proc_pid_stat(5)`, in hundredths of a second.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.child.id()))?;
        // The name in field 2 may have spaces and parentheses in it.
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks: Vec<u64> =
            fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
    }
}

/// An address that is free now. Whoever takes it before the server does makes the start fail, loudly.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut server) = Connection::open(address).await else { return false };
    matches!(server.ask(request(Method::GET, "/readyz", "")).await, Ok((StatusCode::OK, _)))
}
