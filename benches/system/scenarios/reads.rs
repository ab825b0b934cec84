//! Reads, beside a handler that has the answer already.

use super::{FLEET, LARGE_FLEET, SMALL_FLEET, TEN_NODES};
use crate::fleet::{Fleet, NEEDLE, NEEDLES};
use crate::measure::{Pairs, Sample, alternate, rate};
use crate::references::{Captured, Reference};
use crate::server::{Log, Server};
use crate::stage::Stage;
use crate::table::{Row, Target};
use crate::wrk::{self, Load};

const CONNECTIONS: u32 = 64;

pub(super) async fn discover(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (log, name) in [
        (Log::Warn, "discover 10 of 20,000 by type and version, 64 connections"),
        (Log::Info, "the same, a log line per request on both sides"),
    ] {
        let pairs = beside_bare(stage, FLEET, TEN_NODES, &Load::Plain, log).await?;
        let target = if log == Log::Warn { Target::AtLeast(0.8) } else { Target::None };
        rows.push(Row::of_pairs(name, "bare handler", &pairs, rate, target));
    }
    let database = stage.fleet(FLEET).await?;
    let server = stage.serve(&database, Log::Warn).await?;
    let (ours, strong) = (server.url(TEN_NODES), server.url(&format!("{TEN_NODES}&consistency=strong")));
    let pairs = alternate(
        stage.pace.rounds,
        async || load(stage, &ours, &Load::Plain).await,
        async || load(stage, &strong, &Load::Plain).await,
    )
    .await?;
    let work = "discover, beside the same server asking the database each time";
    rows.push(Row::of_pairs(work, "`consistency=strong`", &pairs, rate, Target::None));
    Ok(rows)
}

/// The bare handler answers with a record of about the mean size, whatever it is asked.
pub(super) async fn get(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let fleet = Fleet::of(FLEET)?;
    let file = fleet.write(stage.folder())?;
    let mean = fleet.mean()?;
    let target = format!("/v1/nodes/{}", mean["node_id"].as_str().unwrap_or_default());
    let load = Load::Of(Load::GET, &file);
    let pairs = beside_bare(stage, FLEET, &target, &load, Log::Warn).await?;
    let work = "get one of 20,000, 64 connections";
    Ok(vec![Row::of_pairs(work, "bare handler", &pairs, rate, Target::AtLeast(0.8))])
}

pub(super) async fn capability(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let target = format!("/v1/nodes?capabilities=%7B%22capabilities%22%3A%5B%22{NEEDLE}%22%5D%7D");
    let pairs = beside_bare(stage, LARGE_FLEET, &target, &Load::Plain, Log::Warn).await?;
    let work = "capability query, 10 matches of 100,000, 64 connections";
    Ok(vec![Row::of_pairs(work, "bare handler", &pairs, rate, Target::AtLeast(0.5))])
}

pub(super) async fn size(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let (large, small) = (stage.fleet(LARGE_FLEET).await?, stage.fleet(SMALL_FLEET).await?);
    let large = stage.serve(&large, Log::Warn).await?;
    let small = stage.serve(&small, Log::Warn).await?;
    let (large, small) = (large.url(TEN_NODES), small.url(TEN_NODES));
    let pairs = alternate(
        stage.pace.rounds,
        async || load(stage, &large, &Load::Plain).await,
        async || load(stage, &small, &Load::Plain).await,
    )
    .await?;
    let work = "the same discovery at 100,000 nodes against 1,000";
    Ok(vec![Row::of_pairs(work, "1,000 nodes", &pairs, rate, Target::AtLeast(0.8))])
}

/// The server with a fleet, and a bare handler that gives its answer to `target`.
async fn beside_bare(
    stage: &Stage,
    nodes: usize,
    target: &str,
    what: &Load<'_>,
    log: Log,
) -> anyhow::Result<Pairs> {
    let database = stage.fleet(nodes).await?;
    let server = stage.serve(&database, log).await?;
    check_page(&server, target).await?;
    let bare = Reference::bare(&server, target, log, stage.folder()).await?;
    let (ours, bare) = (server.url(target), bare.url(target));
    alternate(
        stage.pace.rounds,
        async || load(stage, &ours, what).await,
        async || load(stage, &bare, what).await,
    )
    .await
}

/// A page that is not what it should be would be a measurement of something else.
async fn check_page(server: &Server, target: &str) -> anyhow::Result<()> {
    if target.contains('?') {
        let nodes = Captured::of(server.address, target).await?.nodes()?;
        anyhow::ensure!(nodes == NEEDLES, "the page has {nodes} nodes, and not {NEEDLES}");
    }
    Ok(())
}

async fn load(stage: &Stage, url: &str, what: &Load<'_>) -> anyhow::Result<Sample> {
    wrk::run(url, what, CONNECTIONS, stage.pace.run, [stage.next_run(), stage.next_run()]).await
}
