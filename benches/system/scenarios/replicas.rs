//! A change that one replica takes, and another shows.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::time::Instant;

use super::FLEET;
use crate::client::{Connection, request};
use crate::event_stream::EventStream;
use crate::fleet::Fleet;
use crate::measure::Latency;
use crate::server::Log;
use crate::stage::Stage;
use crate::table::{Row, time};

const P99: Duration = Duration::from_millis(50);
/// In each round.
const CHANGES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(20);
/// How long a change may take to be seen. Longer is never.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who looks at the other replica.
enum Observer {
    Watching(EventStream),
    /// Asks for the node, and to be answered when the replica has the revision. Says so if the replica can wait.
    Asking(Connection, bool),
}

impl Observer {
    async fn of(address: SocketAddr) -> anyhow::Result<Self> {
        if let Some(stream) = EventStream::open(address).await? {
            return Ok(Self::Watching(stream));
        }
        let mut connection = Connection::open(address).await?;
        let (status, _) = connection.ask(request(Method::GET, &target("?min_revision=0"), "")).await?;
        Ok(Self::Asking(connection, status == StatusCode::OK))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Watching(_) => "a watcher",
            Self::Asking(_, true) => "a read with `min_revision`",
            Self::Asking(_, false) => "reads, again and again",
        }
    }

    /// Waits until the other replica shows a change.
    async fn sees(&mut self, marker: &str, revision: i64) -> anyhow::Result<Instant> {
        let (connection, query) = match self {
            Self::Watching(stream) => return stream.has(marker).await,
            Self::Asking(connection, true) => (connection, format!("?min_revision={revision}")),
            Self::Asking(connection, false) => (connection, String::new()),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let node = connection.json(Method::GET, &target(&query), String::new()).await?;
            if node["revision"].as_i64().is_some_and(|shown| shown >= revision) {
                return Ok(Instant::now());
            }
            anyhow::ensure!(Instant::now() < deadline, "the other replica never shows the change");
        }
    }
}

/// From the sending of the registration to one replica, so that its own time is in it, until the other shows it.
pub(super) async fn change(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(FLEET).await?;
    let one = stage.serve(&database, Log::Warn).await?;
    let other = stage.serve(&database, Log::Warn).await?;
    let mut writer = Connection::open(one.address).await?;
    let mut observer = Observer::of(other.address).await?;
    let registration = database.fleet.halves(0)?;
    let begin = u64::from(stage.next_run()) * 1_000_000;
    let mut delays = Vec::new();
    for number in 0..u64::from(CHANGES) * stage.pace.rounds as u64 {
        let sent = Instant::now();
        let counter = begin + number;
        let node = writer.json(Method::PUT, &target(""), registration.with(counter)).await?;
        let revision = node["revision"].as_i64().unwrap_or_default();
        delays.push(observer.sees(&format!("{counter:012}"), revision).await? - sent);
        tokio::time::sleep(PAUSE).await;
    }
    let work = format!("change on one replica, seen on another by {}", observer.name());
    let latency = Latency::of(delays);
    let row = Row::of_figure(&work, time(latency.p99), "p99 50 ms", latency.p99 <= P99);
    Ok(vec![row.with_latency(latency)])
}

fn target(query: &str) -> String {
    format!("/v1/nodes/{}{query}", Fleet::id(0))
}
