//! `nodes list`: page by page, so that a fleet of any size passes through.

use clap::Args;

use crate::cli::asking::{Cell, Format, Freshness, Items, NodeFilters, PAGE, Table, Terminal, ago};
use crate::cli::outcome::print;
use crate::client::{Client, Node};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry nodes list --type effect --status healthy
  onex-registry nodes list --version-req '>=1.1, <2.0' --metadata environment=dev
  onex-registry nodes list --capabilities '{\"capabilities\": [\"registration\"]}'
  onex-registry nodes list --output jsonl | jq -r .node_id")]
pub(super) struct ListArgs {
    /// At most so many nodes; left out: all
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    freshness: Freshness,
    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    filters: NodeFilters,
}

pub(super) async fn run(client: &Client, args: &ListArgs) -> anyhow::Result<()> {
    let mut query = args.filters.query()?;
    args.freshness.add_to(&mut query);
    let mut left = args.limit.unwrap_or(u64::MAX);
    query.add("limit", left.min(PAGE).to_string());
    let mut pages = client.nodes(query);
    let header = ["NODE ID", "TYPE", "VERSION", "STATUS", "LAST SEEN", "REGISTERED"];
    let mut table = Table::new(Terminal::of_output(), header);
    let mut items = Items::new(args.output);
    while left > 0
        && let Some(page) = pages.next().await?
    {
        let nodes = page.nodes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&page.nodes);
        left -= nodes.len() as u64;
        if args.output == Format::Table {
            let rows: Vec<_> = nodes.iter().map(|node| row(client, node)).collect();
            print(&table.lines(&rows))?;
        } else {
            let mut out = String::new();
            for node in nodes {
                items.add(node.raw.get(), &mut out);
            }
            print(&out)?;
        }
    }
    if args.output == Format::Table { Ok(()) } else { items.end() }
}

fn row(client: &Client, node: &Node) -> [Cell; 6] {
    let (node, now) = (&node.fields, client.server_now());
    let seen = node.last_heartbeat.as_deref().map_or("never".to_owned(), |at| ago(at, now));
    [
        Cell::new(&node.node_id),
        Cell::new(&node.node_type),
        Cell::new(&node.node_version),
        Cell::status(&node.status),
        Cell::new(&seen),
        Cell::new(&ago(&node.registered_at, now)),
    ]
}
