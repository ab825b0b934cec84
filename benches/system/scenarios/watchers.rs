//! Many who watch, and one change.

use std::time::Duration;

use anyhow::Context as _;
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::FLEET;
use crate::client::Connection;
use crate::event_stream::EventStream;
use crate::fleet::Fleet;
use crate::measure::median;
use crate::server::Log;
use crate::stage::Stage;
use crate::table::{Row, spread, time};

const WATCHERS: u32 = 2_000;
const ALL_TOLD: Duration = Duration::from_millis(500);
const BYTES_PER_WATCHER: f64 = 20_000.0;
/// Until memory is what it is when nothing happens.
const SETTLE: Duration = Duration::from_secs(2);

const WORK: &str = "2,000 watchers, one change: until all have it, from the sending of the registration";

pub(super) async fn change(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(FLEET).await?;
    let server = stage.serve(&database, Log::Warn).await?;
    tokio::time::sleep(SETTLE).await;
    let before = server.resident_bytes()?;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        match EventStream::open(server.address).await? {
            Some(watcher) => watchers.push(watcher),
            None => return Ok(vec![Row::without_figures(WORK, "this server has no `/v1/watch`")]),
        }
    }
    tokio::time::sleep(SETTLE).await;
    let grown = server.resident_bytes()?.saturating_sub(before);
    let each = f64::from(u32::try_from(grown).unwrap_or(u32::MAX)) / f64::from(WATCHERS);

    let mut writer = Connection::open(server.address).await?;
    let registration = database.fleet.halves(0)?;
    let mut seconds = Vec::new();
    for _ in 0..stage.pace.rounds {
        let counter = u64::from(stage.next_run());
        let marker = format!("{counter:012}");
        let mut watching = JoinSet::new();
        for mut watcher in watchers.drain(..) {
            let marker = marker.clone();
            watching.spawn(async move { watcher.has(&marker).await.map(|at| (watcher, at)) });
        }
        let sent = Instant::now();
        let target = format!("/v1/nodes/{}", Fleet::id(0));
        writer.json(Method::PUT, &target, registration.with(counter)).await?;
        let mut last = sent;
        while let Some(ended) = watching.join_next().await {
            let (watcher, at) = ended?.context("not all watchers have the change")?;
            last = last.max(at);
            watchers.push(watcher);
        }
        seconds.push((last - sent).as_secs_f64());
    }
    let took = Duration::from_secs_f64(median(seconds.iter().copied()));
    Ok(vec![
        Row::of_figure(WORK, time(took), "500 ms", took <= ALL_TOLD)
            .with_spread(format!("{} s", spread(&seconds))),
        Row::of_figure(
            "memory per idle watcher",
            format!("{:.1} kB", each / 1e3),
            "20 kB",
            each <= BYTES_PER_WATCHER,
        ),
    ])
}
