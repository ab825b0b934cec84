//! What holds of probes: on real sockets, but for the schedule, which needs none.

mod bad_targets;
mod lanes;
mod names;
mod schedule;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::rustls::RootCertStore;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// A test that has not seen what it waits for by then has failed.
const LIMIT: Duration = Duration::from_mins(1);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn node(id: &str) -> NodeKey {
    NodeKey::new(id).unwrap()
}

/// Its TTL is so long that the interval is the configured one.
fn target(id: &str, url: impl Into<String>) -> Target {
    Target { node_id: node(id), health_endpoint: url.into(), ttl: Ttl::from_seconds(86_400) }
}

/// No probe is cut off by its time-out, nor repeated, as long as the test runs.
fn patient() -> ProbeSettings {
    ProbeSettings { interval: 10 * LIMIT, timeout: 10 * LIMIT, ..settings() }
}

fn settings() -> ProbeSettings {
    ProbeSettings {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        concurrency: 256,
        idle_connections: 1_000,
        addresses: AddressPolicy::default(),
    }
}

/// All that was reported.
#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    alive: BTreeMap<String, usize>,
    outcomes: BTreeMap<&'static str, usize>,
}

impl Seen {
    fn alive(&self, id: &str) -> usize {
        self.alive.get(id).copied().unwrap_or(0)
    }

    fn outcomes(&self, outcome: Outcome) -> usize {
        self.outcomes.get(outcome.as_str()).copied().unwrap_or(0)
    }
}

struct Recorder(watch::Sender<Seen>);

impl ProbeSink for Recorder {
    fn alive(&self, node: &NodeKey) {
        self.0.send_modify(|seen| *seen.alive.entry(node.to_string()).or_default() += 1);
    }

    fn observed(&self, outcome: Outcome, _took: Duration) {
        self.0.send_modify(|seen| *seen.outcomes.entry(outcome.as_str()).or_default() += 1);
    }

    fn late(&self, _lane: Lane, _by: Duration) {}
}

/// A prober, and what it has reported.
struct Probing {
    prober: Prober,
    seen: watch::Receiver<Seen>,
}

impl Probing {
    fn with(settings: ProbeSettings, names: impl Resolve, roots: RootCertStore) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let prober = Prober::with(settings, Arc::new(Recorder(sender)), Box::new(names), roots).unwrap();
        Self { prober, seen }
    }

    fn new(settings: ProbeSettings) -> Self {
        Self::with(settings, Names::default(), RootCertStore::empty())
    }

    fn set(&self, id: &str, url: impl Into<String>) {
        self.prober.set(target(id, url));
    }

    fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until this holds of what was reported.
    async fn until(&mut self, what: &str, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let found = timeout(LIMIT, self.seen.wait_for(holds)).await.map(|seen| seen.unwrap().clone());
        found.unwrap_or_else(|_| panic!("waited for {what}, saw {:?}", self.seen()))
    }

    /// The outcome of the first probe of this URL.
    async fn outcome_of(&mut self, url: impl Into<String>) -> Outcome {
        let before = self.seen();
        self.set("a", url);
        let after = self.until("an outcome", |seen| seen.outcomes != before.outcomes).await;
        self.prober.forget(&node("a"));
        let changed = |outcome: &Outcome| after.outcomes(*outcome) > before.outcomes(*outcome);
        Outcome::ALL.into_iter().find(changed).unwrap()
    }
}

/// A resolver for tests: each look-up takes the next answer of its name, and repeats the last one.
#[derive(Default, Clone)]
struct Names(Arc<Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>>);

impl Names {
    fn of(names: &[(&str, &[&[&str]])]) -> Self {
        let addresses = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        let answers = names
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), answers.iter().rev().map(addresses).collect()));
        Self(Arc::new(Mutex::new(answers.collect())))
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if name.starts_with("hang") {
            std::future::pending::<()>().await;
        }
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(name).ok_or("no such name")?;
        let last = answers.last().cloned().ok_or("no answer")?;
        if answers.len() > 1 {
            answers.pop();
        }
        Ok(last)
    }
}

/// A listener whose connections are each served by a task; all end with it.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _tasks: AbortOnDropHandle<()>,
}

impl Server {
    async fn new<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", serve).await
    }

    async fn at<F>(address: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let tasks = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepted, _tasks: AbortOnDropHandle::new(tasks) }
    }

    /// Answers every request with these bytes.
    async fn answering(answer: &'static [u8]) -> Self {
        Self::new(move |mut stream| async move {
            while read_head(&mut stream).await.is_some() {
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// Reads, and never answers.
    async fn hanging() -> Self {
        Self::new(|mut stream| async move { while read_head(&mut stream).await.is_some() {} }).await
    }

    fn url(&self) -> String {
        format!("http://{}/health", self.address)
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The head of the next request, up to the empty line; `None` at the end of the connection.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
