//! Writes, beside pgbench with the same statement on a table without our triggers, and beside a server without a queue.

use std::path::PathBuf;

use super::FLEET;
use crate::measure::{Pairs, Sample, alternate, p50, rate};
use crate::pgbench::{self, Statement};
use crate::references::Reference;
use crate::server::{Log, Server};
use crate::stage::{Database, Stage};
use crate::table::{Row, Target};
use crate::wrk::{self, Load};

const CONNECTIONS: u32 = 512;
/// Of pgbench: what gives it the highest rate on two cores.
const CLIENTS: u32 = 16;

/// A server with a fleet, and pgbench's table with the same.
struct Sides {
    server: Server,
    plain: Database,
    file: PathBuf,
}

impl Sides {
    async fn make(stage: &Stage, log: Log) -> anyhow::Result<Self> {
        let database = stage.fleet(FLEET).await?;
        let server = stage.serve(&database, log).await?;
        let file = database.fleet.write(stage.folder())?;
        Ok(Self { server, plain: stage.plain(FLEET).await?, file })
    }

    async fn in_turn(
        &self,
        stage: &Stage,
        load: &'static str,
        connections: u32,
        statement: Statement,
        clients: u32,
    ) -> anyhow::Result<Pairs> {
        let (url, load) = (self.server.url("/"), Load::Of(load, &self.file));
        alternate(
            stage.pace.rounds,
            async || over_http(stage, &url, &load, connections).await,
            async || {
                stage.checkpoint().await?;
                pgbench::run(stage, &self.plain, statement, clients).await
            },
        )
        .await
    }
}

pub(super) async fn register(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (log, work) in [
        (Log::Warn, "register, 512 connections"),
        (Log::Info, "the same, our server with a log line per request"),
    ] {
        let sides = Sides::make(stage, log).await?;
        let pairs = sides.in_turn(stage, Load::PUT, CONNECTIONS, Statement::Upsert, CLIENTS).await?;
        let target = if log == Log::Warn { Target::AtLeast(2.0) } else { Target::None };
        rows.push(Row::of_pairs(work, "pgbench upsert, 16 clients", &pairs, rate, target));
    }
    rows.push(beside_per_request_sql(stage, "register", Load::PUT).await?);
    Ok(rows)
}

pub(super) async fn lone(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let sides = Sides::make(stage, Log::Warn).await?;
    let pairs = sides.in_turn(stage, Load::PUT, 1, Statement::Upsert, 1).await?;
    let work = "a lone registration (1 connection): ratio of the p50";
    Ok(vec![Row::of_pairs(work, "pgbench upsert, 1 client", &pairs, p50, Target::AtMost(1.3))])
}

pub(super) async fn heartbeat(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let sides = Sides::make(stage, Log::Warn).await?;
    let pairs = sides.in_turn(stage, Load::HEARTBEAT, CONNECTIONS, Statement::Heartbeat, CLIENTS).await?;
    let work = "heartbeat, 512 connections";
    let row = Row::of_pairs(work, "pgbench update, 16 clients", &pairs, rate, Target::AtLeast(3.0));
    Ok(vec![row, beside_per_request_sql(stage, "heartbeat", Load::HEARTBEAT).await?])
}

/// Each side has a database of its own.
async fn beside_per_request_sql(stage: &Stage, what: &str, load: &'static str) -> anyhow::Result<Row> {
    let (database, other) = (stage.fleet(FLEET).await?, stage.fleet(FLEET).await?);
    let server = stage.serve(&database, Log::Warn).await?;
    let reference = Reference::per_request_sql(&other.url, stage.folder())?;
    let file = database.fleet.write(stage.folder())?;
    let (ours, theirs, load) = (server.url("/"), reference.url("/"), Load::Of(load, &file));
    let pairs = alternate(
        stage.pace.rounds,
        async || over_http(stage, &ours, &load, CONNECTIONS).await,
        async || over_http(stage, &theirs, &load, CONNECTIONS).await,
    )
    .await?;
    let work = format!("{what}, beside a server with a transaction per request");
    Ok(Row::of_pairs(&work, "per-request SQL", &pairs, rate, Target::None))
}

async fn over_http(stage: &Stage, url: &str, load: &Load<'_>, connections: u32) -> anyhow::Result<Sample> {
    stage.checkpoint().await?;
    wrk::run(url, load, connections, stage.pace.run, [stage.next_run(), stage.next_run()]).await
}
