//! What is measured. A file per subject; [`Scenario`] lists them in the order of the table.

mod beside;
mod footprint;
mod overload;
mod plain_sql;
mod reads;
mod replicas;
mod watchers;
mod writes;

use clap::ValueEnum;

use crate::stage::Stage;
use crate::table::Row;

/// A fleet of the usual size, a large one and a small one.
const FLEET: usize = 20_000;
const LARGE_FLEET: usize = 100_000;
const SMALL_FLEET: usize = 1_000;

/// Ten nodes of a type and a version that thousands have.
const TEN_NODES: &str = "/v1/nodes?node_type=effect&node_version=1.0.0&limit=10";

/// One line of the table, or a few that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Ten of 20,000 nodes by type and version
    Discover,
    /// One node
    Get,
    /// The ten of 100,000 nodes that have a capability
    Capability,
    /// Discovery among 100,000 nodes, and among 1,000
    Size,
    /// Registrations, 512 connections
    Register,
    /// One registration at a time
    Lone,
    /// Heartbeats, 512 connections
    Heartbeat,
    /// Discovery while others register
    Beside,
    /// Ten times as many registrations as can be written
    Overload,
    /// A change on one replica, seen on another
    Replicas,
    /// 2,000 watchers
    Watchers,
    /// Memory at 100,000 nodes
    Memory,
    /// The start with 100,000 nodes
    Start,
    /// Plain SQL writers, with our triggers and without
    PlainSql,
    /// A server that nobody asks
    Idle,
}

impl Scenario {
    /// As it is named on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) async fn run(self, stage: &Stage) -> anyhow::Result<Vec<Row>> {
        match self {
            Self::Discover => reads::discover(stage).await,
            Self::Get => reads::get(stage).await,
            Self::Capability => reads::capability(stage).await,
            Self::Size => reads::size(stage).await,
            Self::Register => writes::register(stage).await,
            Self::Lone => writes::lone(stage).await,
            Self::Heartbeat => writes::heartbeat(stage).await,
            Self::Beside => beside::writers(stage).await,
            Self::Overload => overload::registrations_at_ten_times(stage).await,
            Self::Replicas => replicas::change(stage).await,
            Self::Watchers => watchers::change(stage).await,
            Self::Memory => footprint::memory(stage).await,
            Self::Start => footprint::start(stage).await,
            Self::PlainSql => plain_sql::triggers(stage).await,
            Self::Idle => footprint::idle(stage).await,
        }
    }
}
