//! What health checks cost: 5,000 nodes at an interval of 1 s, and then 1,000 more that hang.
//!
//! `cargo bench --bench probing`. The nodes are served by a process of their own, each on its own loopback address, so
//! that each has its own connection. It wants room for 12,000 open files in each process (`ulimit -n`).

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use onex_registry::node::{NodeKey, Ttl};
use onex_registry::registry::prober::{
    AddressPolicy, Lane, Outcome, ProbeSettings, ProbeSink, Prober, Target,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEALTHY: usize = 5_000;
const HANGING: usize = 1_000;
const INTERVAL: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some("serve") {
        runtime.block_on(serve())
    } else {
        runtime.block_on(measure())
    }
}

/// The nodes: one port that answers and one that never does. Ends with its standard input.
async fn serve() -> anyhow::Result<()> {
    let healthy = TcpListener::bind("0.0.0.0:0").await?;
    let hanging = TcpListener::bind("0.0.0.0:0").await?;
    println!("{} {}", healthy.local_addr()?.port(), hanging.local_addr()?.port());
    std::io::stdout().flush()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = healthy.accept().await {
            tokio::spawn(answer(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}"));
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = hanging.accept().await {
            tokio::spawn(answer(stream, b""));
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

async fn answer(mut stream: TcpStream, answer: &[u8]) {
    let mut request = [0; 1024];
    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Sink {
    alive: AtomicUsize,
    failed: AtomicUsize,
    /// How late the probes of healthy targets began.
    late: Mutex<Vec<Duration>>,
}

impl ProbeSink for Sink {
    fn alive(&self, _node: &NodeKey) {
        self.alive.fetch_add(1, Ordering::Relaxed);
    }

    fn observed(&self, outcome: Outcome, _took: Duration) {
        if outcome != Outcome::Success {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn late(&self, lane: Lane, by: Duration) {
        if lane == Lane::Healthy {
            self.late.lock().unwrap_or_else(PoisonError::into_inner).push(by);
        }
    }
}

struct Nodes {
    process: Child,
    healthy_port: u16,
    hanging_port: u16,
}

impl Nodes {
    fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ports = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut ports)?;
        let (healthy, hanging) = ports.trim().split_once(' ').context("no ports")?;
        Ok(Self { healthy_port: healthy.parse()?, hanging_port: hanging.parse()?, process })
    }

    fn targets(&self, hanging: usize) -> Option<Vec<Target>> {
        let target = |kind: &str, number: usize, port: u16| {
            let (third, fourth) = (number / 250, number % 250 + 1);
            Some(Target {
                node_id: NodeKey::new(format!("{kind}-{number}"))?,
                health_endpoint: format!("http://127.1.{third}.{fourth}:{port}/health"),
                ttl: Ttl::from(Duration::from_secs(90)),
            })
        };
        let healthy = (0..HEALTHY).map(|number| target("healthy", number, self.healthy_port));
        let hanging = (0..hanging).map(|number| target("hanging", number, self.hanging_port));
        healthy.chain(hanging).collect()
    }
}

async fn measure() -> anyhow::Result<()> {
    let mut nodes = Nodes::start()?;
    let sink = Arc::new(Sink::default());
    let settings = ProbeSettings {
        interval: INTERVAL,
        timeout: INTERVAL,
        concurrency: 256,
        idle_connections: 10_000,
        addresses: AddressPolicy::default(),
    };
    let prober = Prober::new(settings, Arc::clone(&sink) as Arc<dyn ProbeSink>)?;
    for hanging in [0, HANGING] {
        prober.replace(nodes.targets(hanging).context("an id is too long")?);
        tokio::time::sleep(WARM_UP).await;
        println!("{HEALTHY} healthy and {hanging} hanging targets:");
        measure_once(&sink).await?;
    }
    prober.close().await;
    drop(nodes.process.stdin.take());
    nodes.process.wait()?;
    Ok(())
}

async fn measure_once(sink: &Sink) -> anyhow::Result<()> {
    let (cpu, begun) = (cpu_time()?, Instant::now());
    let (alive, failed) = (sink.alive.load(Ordering::Relaxed), sink.failed.load(Ordering::Relaxed));
    sink.late.lock().unwrap_or_else(PoisonError::into_inner).clear();
    tokio::time::sleep(MEASURED).await;
    let (cpu, took) = (cpu_time()?.saturating_sub(cpu), begun.elapsed());
    let alive = sink.alive.load(Ordering::Relaxed) - alive;
    let failed = sink.failed.load(Ordering::Relaxed) - failed;
    let mut late = std::mem::take(&mut *sink.late.lock().unwrap_or_else(PoisonError::into_inner));
    late.sort_unstable();
    let percentile = |part: usize| {
        let late = late.get((late.len() * part / 1000).min(late.len().saturating_sub(1)));
        late.copied().unwrap_or_default()
    };
    println!("  CPU: {:.2} of a core", cpu.as_secs_f64() / took.as_secs_f64());
    println!("  successes: {alive}, due {:.0}; failures: {failed}", 5_000.0 * took.as_secs_f64());
    println!("  lateness: p50 {:?}, p99 {:?}, max {:?}", percentile(500), percentile(990), percentile(1000));
    Ok(())
}

/// The CPU time of this process, in user and kernel: fields 14 and 15 of `proc_pid_stat(5)`, in hundredths of a second.
fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| -> anyhow::Result<u64> { Ok(fields.get(index).context("too short")?.parse()?) };
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
