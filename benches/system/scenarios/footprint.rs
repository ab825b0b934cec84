//! What the server takes of the machine: memory, the time to start, CPU when nobody asks.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::{FLEET, LARGE_FLEET};
use crate::client::{Connection, request};
use crate::measure::median;
use crate::server::{Log, Server};
use crate::stage::Stage;
use crate::table::{Row, megabytes, spread};

/// So much memory goes without saying.
const FREE_BYTES: u64 = 50_000_000;
/// Beyond that, so many times the records' JSON.
const TIMES_JSON: f64 = 3.0;
const START: Duration = Duration::from_secs(3);
/// Percent of a core.
const IDLE_PERCENT: f64 = 0.5;
/// What a server does after its start is not what it does when idle.
const SETTLE: Duration = Duration::from_secs(3);

/// After all pages have been read: an answer needs memory too, and not all of it is given back.
pub(super) async fn memory(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(LARGE_FLEET).await?;
    let server = stage.serve(&database, Log::Warn).await?;
    let json = bytes_of_all_pages(&server).await?;
    tokio::time::sleep(SETTLE).await;
    let resident = server.resident_bytes()?;
    let times = megabytes(resident.saturating_sub(FREE_BYTES)) / megabytes(json);
    let row = Row::of_figure(
        "memory at 100,000 nodes: ratio of what is above 50 MB to the records' JSON",
        format!("{:.0} MB", megabytes(resident)),
        "≤ 3, above 50 MB",
        times <= TIMES_JSON,
    );
    Ok(vec![row.with_reference(format!("{:.0} MB of JSON", megabytes(json))).with_ratio(times)])
}

/// The bytes of all pages: of the records, and a few per page.
async fn bytes_of_all_pages(server: &Server) -> anyhow::Result<u64> {
    let mut connection = Connection::open(server.address).await?;
    let (mut bytes, mut nodes, mut cursor) = (0, 0, String::new());
    loop {
        let target = format!("/v1/nodes?limit=1000{cursor}");
        let (_, body) = connection.ask(request(Method::GET, &target, "")).await?;
        let page: Value = serde_json::from_slice(&body)?;
        bytes += body.len() as u64;
        nodes += page["nodes"].as_array().map_or(0, Vec::len);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    anyhow::ensure!(nodes == LARGE_FLEET, "{nodes} nodes are on the pages");
    Ok(bytes)
}

pub(super) async fn start(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(LARGE_FLEET).await?;
    let mut seconds = Vec::new();
    for _ in 0..stage.pace.rounds {
        let server = stage.serve(&database, Log::Warn).await?;
        seconds.push(server.ready_after.as_secs_f64());
        server.stop().await?;
    }
    let took = median(seconds.iter().copied());
    let work = "start with 100,000 nodes in PostgreSQL until `/readyz` is 200";
    let row = Row::of_figure(work, format!("{took:.2} s"), "3 s", took <= START.as_secs_f64());
    Ok(vec![row.with_spread(format!("{} s", spread(&seconds)))])
}

pub(super) async fn idle(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(FLEET).await?;
    let server = stage.serve(&database, Log::Warn).await?;
    // The first of what it does once a minute takes more than all later ones.
    tokio::time::sleep(SETTLE + stage.pace.idle).await;
    let before = server.cpu_time()?;
    tokio::time::sleep(stage.pace.idle).await;
    let used = server.cpu_time()?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / stage.pace.idle.as_secs_f64();
    let work = format!("an idle server with 20,000 nodes, over {} s", stage.pace.idle.as_secs());
    let ours = format!("{percent:.2} % of a core");
    Ok(vec![Row::of_figure(&work, ours, "< 0.5 %", percent < IDLE_PERCENT)])
}
