//! Load in SQL, by pgbench: single-row statements, prepared, with everything that varies as a parameter.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use crate::cluster;
use crate::fleet::{Halves, ID_PREFIX};
use crate::measure::{Latency, Sample};
use crate::stage::{Database, Stage};

/// The statement of a plain SQL writer. Each row differs from the one it meets by the counter in its metadata.
const UPSERT: &str = r"
\set node random(0, :nodes - 1)
\set counter random(1, 999999999999)
INSERT INTO node_registrations (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, updated_at)
VALUES (:id_prefix || lpad(:node::text, 6, '0'), :node_type, :node_version, :capabilities::jsonb, :endpoints::jsonb,
        (:metadata_head || lpad(:counter::text, 12, '0') || :metadata_tail)::jsonb, nullif(:health_endpoint, ''), now())
ON CONFLICT (node_id) DO UPDATE
   SET node_type = EXCLUDED.node_type, node_version = EXCLUDED.node_version, capabilities = EXCLUDED.capabilities,
       endpoints = EXCLUDED.endpoints, metadata = EXCLUDED.metadata, health_endpoint = EXCLUDED.health_endpoint,
       updated_at = EXCLUDED.updated_at;
";

const HEARTBEAT: &str = r"
\set node random(0, :nodes - 1)
UPDATE node_registrations SET last_heartbeat = now() WHERE node_id = :id_prefix || lpad(:node::text, 6, '0');
";

/// What each transaction does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Statement {
    Upsert,
    Heartbeat,
}

impl Statement {
    fn script(self) -> &'static str {
        match self {
            Self::Upsert => UPSERT,
            Self::Heartbeat => HEARTBEAT,
        }
    }
}

/// Measures for as long as the pace says.
pub(crate) async fn run(
    stage: &Stage,
    database: &Database,
    statement: Statement,
    clients: u32,
) -> anyhow::Result<Sample> {
    let name = format!("pgbench-{}", stage.next_run());
    let script = stage.folder().join(format!("statement-of-{name}.sql"));
    std::fs::write(&script, statement.script())?;
    let mut command = Command::new(program());
    command
        .current_dir(stage.folder())
        .args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &clients.min(2).to_string()])
        .args(["-T", &stage.pace.run.as_secs().to_string()])
        // Latencies are of a part of the transactions: to write all of them down would slow pgbench.
        .args(["-l", "--log-prefix", &name, "--sampling-rate", if clients == 1 { "1" } else { "0.1" }])
        .arg("-f")
        .arg(&script)
        .kill_on_drop(true);
    for (name, value) in variables(database)? {
        command.arg("-D").arg(format!("{name}={value}"));
    }
    let output = command.arg(&database.url).output().await.context("pgbench can't be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "pgbench: {text}{errors}");
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    Ok(Sample {
        rate: rate.with_context(|| format!("pgbench gave no rate: {text}{errors}"))?,
        refused: 0.0,
        latency: latencies(stage.folder(), &name)?,
    })
}

fn variables(database: &Database) -> anyhow::Result<Vec<(&'static str, String)>> {
    let node = database.fleet.mean()?;
    let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let metadata = Halves::of(&node["metadata"])?;
    Ok(vec![
        ("nodes", database.fleet.nodes.to_string()),
        ("id_prefix", ID_PREFIX.to_owned()),
        ("node_type", text("node_type")),
        ("node_version", text("node_version")),
        ("capabilities", node["capabilities"].to_string()),
        ("endpoints", node["endpoints"].to_string()),
        ("metadata_head", metadata.head),
        ("metadata_tail", metadata.tail),
        ("health_endpoint", text("health_endpoint")),
    ])
}

/// Debian's pgbench on the PATH is not that of the server's version.
fn program() -> std::path::PathBuf {
    let beside = cluster::programs().join("pgbench");
    if beside.is_file() { beside } else { "pgbench".into() }
}

/// The third column of pgbench's log, in microseconds (PostgreSQL manual, pgbench, "Per-Transaction Logging").
fn latencies(folder: &Path, prefix: &str) -> anyhow::Result<Latency> {
    let mut times = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("{prefix}.")) {
            for line in std::fs::read_to_string(&path)?.lines() {
                let micros = line.split(' ').nth(2).context("a short line in pgbench's log")?;
                times.push(Duration::from_micros(micros.parse()?));
            }
            std::fs::remove_file(&path)?;
        }
    }
    Ok(Latency::of(times))
}
