//! The servers, as processes of their own, which can be killed and come back at the same address.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::guarded::Guarded;

/// So many processes of one server are told apart.
const PROCESSES: usize = 10_000;

/// A server at an address. What runs it changes.
pub(crate) struct Server {
    /// Of all servers.
    pub(crate) number: usize,
    pub(crate) address: SocketAddr,
    namespace: Option<String>,
    database: String,
    folder: PathBuf,
    /// `None` while none runs. Held for a start, a look or a kill, never over an await.
    process: Mutex<Option<Guarded>>,
    /// So many have been started.
    started: AtomicUsize,
    /// The most memory that one of them had, in bytes.
    worst_memory: AtomicU64,
}

impl Server {
    /// It doesn't run yet. In a network namespace, if one is named.
    pub(crate) fn new(
        number: usize,
        address: SocketAddr,
        namespace: Option<&str>,
        database: String,
        folder: &Path,
    ) -> Self {
        Self {
            number,
            address,
            namespace: namespace.map(ToOwned::to_owned),
            database,
            folder: folder.to_owned(),
            process: Mutex::new(None),
            started: AtomicUsize::new(0),
            worst_memory: AtomicU64::new(0),
        }
    }

    /// The process that answers now, of all processes of all servers.
    pub(crate) fn replica(&self) -> usize {
        self.number * PROCESSES + self.started.load(Ordering::SeqCst)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("server-{}.log", self.number))
    }

    /// Starts it, and doesn't wait for it to be ready. Nodes stay alive for a day without a heartbeat, and nobody listens
    /// where they could be probed.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let program = env!("CARGO_BIN_EXE_onex-registry");
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, program]);
                command
            }
            None => Command::new(program),
        };
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", path)
            .env("DATABASE_URL", &self.database)
            .env("ONEX_REGISTRY_LISTEN", self.address.to_string())
            // Namespaces have addresses that are not this machine's own, and nobody else reaches them.
            .env("ONEX_REGISTRY_INSECURE_NO_AUTH", "on")
            .env("ONEX_REGISTRY_LOG_FORMAT", "json")
            .env("ONEX_REGISTRY_TTL", "1d")
            .env("ONEX_REGISTRY_PROBE_INTERVAL", "0")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if self.database.starts_with("postgres") {
            command.env("ONEX_REGISTRY_SNAPSHOT", self.folder.join(format!("server-{}.fleet", self.number)));
        }
        let mut process = self.process();
        anyhow::ensure!(process.is_none(), "server {} runs already", self.number);
        // First the number: what the new process answers must not be taken for an answer of the old one.
        self.started.fetch_add(1, Ordering::SeqCst);
        *process = Some(Guarded::spawn(&mut command)?);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let mut process = self.process().take().context("a server that is to be killed runs")?;
        process.child.kill()?;
        process.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let process = self.process().take().context("a server that is to be stopped runs")?;
        process.stop().await
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> anyhow::Result<bool> {
        Ok(match self.process().as_mut() {
            Some(process) => process.child.try_wait()?.is_some(),
            None => false,
        })
    }

    /// Looks at its memory.
    pub(crate) fn weigh(&self) {
        let Some(pid) = self.process().as_ref().map(|process| process.child.id()) else { return };
        // It may be about to end.
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return };
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        self.worst_memory.fetch_max(kibibytes.unwrap_or(0) * 1_024, Ordering::Relaxed);
    }

    pub(crate) fn worst_memory(&self) -> u64 {
        self.worst_memory.load(Ordering::Relaxed)
    }

    fn process(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
