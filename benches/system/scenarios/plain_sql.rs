//! What our triggers cost those who write to the table themselves.

use super::FLEET;
use crate::measure::{Sample, alternate, rate};
use crate::pgbench::{self, Statement};
use crate::stage::{Database, Stage};
use crate::table::{Row, Target};

const CLIENTS: u32 = 16;

pub(super) async fn triggers(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let (with, without) = (stage.fleet(FLEET).await?, stage.plain(FLEET).await?);
    let pairs = alternate(
        stage.pace.rounds,
        async || upsert(stage, &with).await,
        async || upsert(stage, &without).await,
    )
    .await?;
    let work = "plain SQL writers, 16 clients, with our triggers";
    Ok(vec![Row::of_pairs(work, "without", &pairs, rate, Target::AtLeast(0.3))])
}

async fn upsert(stage: &Stage, database: &Database) -> anyhow::Result<Sample> {
    stage.checkpoint().await?;
    pgbench::run(stage, database, Statement::Upsert, CLIENTS).await
}
