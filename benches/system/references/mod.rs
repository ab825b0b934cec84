//! What the server is compared with over HTTP. Each is a process of its own, and this program too.

mod bare;
mod per_request_sql;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use axum::Router;
use axum::serve::ListenerExt as _;
use onex_registry::config::LogFormat;
use tokio::net::TcpListener;

use crate::guarded::Guarded;
use crate::server::{Log, Server};

pub(crate) use bare::Captured;

const BARE: &str = "bare";
const PER_REQUEST_SQL: &str = "per-request-sql";

/// A running reference. Killed when dropped.
pub(crate) struct Reference {
    _process: Guarded,
    pub(crate) address: SocketAddr,
}

impl Reference {
    /// A handler that gives the answer that the server gave, whatever it is asked.
    pub(crate) async fn bare(server: &Server, target: &str, log: Log, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("captured.json");
        Captured::of(server.address, target).await?.write(&file)?;
        Self::start(BARE, file.to_str().context("a path in UTF-8")?, log, folder)
    }

    /// A server that writes each registration and each heartbeat by a statement of its own.
    pub(crate) fn per_request_sql(database: &str, folder: &Path) -> anyhow::Result<Self> {
        Self::start(PER_REQUEST_SQL, database, Log::Warn, folder)
    }

    fn start(kind: &str, argument: &str, log: Log, folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([kind, argument, log.level()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(log.stream(&folder.join(kind).with_extension("log"))?);
        let mut process = Guarded::spawn(&mut command)?;
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().context("no output")?).read_line(&mut line)?;
        let said = || std::fs::read_to_string(folder.join(kind).with_extension("log")).unwrap_or_default();
        let address = line.trim().parse().with_context(|| format!("{kind} doesn't start: {}", said()))?;
        Ok(Self { _process: process, address })
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }
}

/// Is the reference that the arguments name, until the standard input ends. `None` if they name none.
pub(crate) fn run_if_named(arguments: &[String]) -> Option<anyhow::Result<()>> {
    let [kind, argument, level] = arguments else { return None };
    let router = async || match kind.as_str() {
        BARE => Some(bare::router(Path::new(argument))),
        PER_REQUEST_SQL => Some(per_request_sql::router(argument).await),
        _ => None,
    };
    let run = async {
        let router = router().await?;
        Some(serve(router, level).await)
    };
    // As many threads as the server has.
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => Some(Err(error.into())),
    }
}

/// As axum serves, with the server's one setting of connections.
#[expect(clippy::print_stdout, reason = "says where it listens")]
async fn serve(router: anyhow::Result<Router>, level: &str) -> anyhow::Result<()> {
    let _log = onex_registry::telemetry::init(LogFormat::Json, level)?;
    let router = router?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let listener = listener.tap_io(|stream| {
        // Without it, the answers are late and not wrong.
        let _ = stream.set_nodelay(true);
    });
    let parent_ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = axum::serve(listener, router) => served.context("can't serve"),
        ended = parent_ended => ended?.map(drop).context("can't wait"),
    }
}
