//! `summary`: the fleet by type and status.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;

use super::asking::{Cell, Format, Items, Table, Terminal, ask, client, say};
use super::outcome::print;
use crate::client::{ClientArgs, ClientError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry summary
  onex-registry summary --output json | jq .by_status.stale")]
pub(super) struct SummaryArgs {
    /// The form of the answer; json: as it was served
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    server: ClientArgs,
}

#[derive(Deserialize)]
struct Summary {
    nodes: u64,
    by_status: BTreeMap<String, u64>,
    by_type_and_status: Vec<TypeStatus>,
    self_preservation: SelfPreservation,
}

#[derive(Deserialize)]
struct TypeStatus {
    node_type: String,
    status: String,
    nodes: u64,
}

#[derive(Deserialize)]
struct SelfPreservation {
    active: bool,
}

/// As they stand in the table.
const STATUSES: [&str; 4] = ["healthy", "stale", "unknown", "maintenance"];

pub(super) fn run(args: &SummaryArgs) -> anyhow::Result<()> {
    let client = client(&args.server)?;
    ask(async {
        let json = client.summary().await?;
        if args.output != Format::Table {
            return Items::only(json.get());
        }
        let summary: Summary =
            serde_json::from_str(json.get()).map_err(|error| ClientError::NotARegistry {
                url: client.base().to_string(),
                reason: format!("its answer is not what a registry sends ({error})"),
            })?;
        if summary.self_preservation.active {
            say("self-preservation is active: no node is deregistered for being stale");
        }
        print(&table(&summary))
    })
}

fn table(summary: &Summary) -> String {
    let mut by_type: BTreeMap<&str, [u64; STATUSES.len()]> = BTreeMap::new();
    for entry in &summary.by_type_and_status {
        let counts = by_type.entry(&entry.node_type).or_default();
        if let Some(place) = STATUSES.iter().position(|status| *status == entry.status) {
            counts[place] = counts[place].saturating_add(entry.nodes);
        }
    }
    let mut rows: Vec<[Cell; 6]> = by_type
        .iter()
        .map(|(node_type, counts)| {
            let all = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            row(node_type, all, *counts)
        })
        .collect();
    let counts = STATUSES.map(|status| summary.by_status.get(status).copied().unwrap_or(0));
    rows.push(row("all", summary.nodes, counts));
    let header = ["TYPE", "NODES", "HEALTHY", "STALE", "UNKNOWN", "MAINTENANCE"];
    Table::new(Terminal::of_output(), header).lines(&rows)
}

fn row(name: &str, all: u64, [healthy, stale, unknown, maintenance]: [u64; 4]) -> [Cell; 6] {
    let number = |number: u64| Cell::new(&number.to_string());
    [Cell::new(name), number(all), number(healthy), number(stale), number(unknown), number(maintenance)]
}
