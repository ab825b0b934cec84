//! Load over HTTP, by wrk.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use crate::measure::{Latency, Sample};

/// The server has two cores, and shares them.
const THREADS: u32 = 2;
/// Runs this long first, unmeasured.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is sent.
pub(crate) enum Load<'a> {
    /// The request that the URL names, again and again.
    Plain,
    /// What this is of nodes of a file, chosen at random.
    Of(&'static str, &'a Path),
}

impl Load<'_> {
    pub(crate) const GET: &'static str = "get";
    pub(crate) const PUT: &'static str = "put";
    pub(crate) const HEARTBEAT: &'static str = "heartbeat";
}

/// Warms up, and measures. `runs` are two numbers that no other run has.
///
/// # Errors
/// If there was no answer to a request, or none that was a success.
pub(crate) async fn run(
    url: &str,
    load: &Load<'_>,
    connections: u32,
    time: Duration,
    runs: [u32; 2],
) -> anyhow::Result<Sample> {
    once(url, load, connections, WARM_UP, runs[0]).await?;
    once(url, load, connections, time, runs[1]).await
}

async fn once(
    url: &str,
    load: &Load<'_>,
    connections: u32,
    time: Duration,
    run: u32,
) -> anyhow::Result<Sample> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/wrk/load.lua");
    let mut command = Command::new("wrk");
    command
        .args(["-t", &THREADS.min(connections).to_string(), "-c", &connections.to_string()])
        .args(["-d", &format!("{}s", time.as_secs()), "--timeout", "10s", "-s"])
        .arg(script)
        .args([url, "--"])
        .kill_on_drop(true);
    match load {
        Load::Plain => command.arg("plain"),
        Load::Of(what, file) => command.arg(what).arg(file).arg(run.to_string()),
    };
    let output = command.output().await.context("wrk can't be run; scripts/bench installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).with_context(|| format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The line that `done` in `load.lua` writes.
fn read(output: &str) -> anyhow::Result<Sample> {
    let line = output.lines().find_map(|line| line.strip_prefix("result ")).context("no result")?;
    let number = |name: &str| -> anyhow::Result<u32> {
        let fields = line.split(' ').filter_map(|field| field.split_once('='));
        let (_, value) =
            fields.into_iter().find(|(field, _)| *field == name).context("a field is missing")?;
        Ok(value.parse()?)
    };
    let (requests, refused) = (number("requests")?, number("refused")?);
    anyhow::ensure!(number("broken")? == 0, "requests had no answer");
    anyhow::ensure!(requests > refused, "all requests were refused");
    let micros = |name| Ok::<_, anyhow::Error>(Duration::from_micros(number(name)?.into()));
    Ok(Sample {
        rate: f64::from(requests - refused) / micros("duration")?.as_secs_f64(),
        refused: f64::from(refused) / f64::from(requests),
        latency: Latency { p50: micros("p50")?, p99: micros("p99")? },
    })
}
