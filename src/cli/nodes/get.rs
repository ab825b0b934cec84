//! `nodes get`: all that is known of one node.

use clap::Args;

use crate::cli::asking::{Format, Freshness, Items, ago, indented, visible};
use crate::cli::outcome::print;
use crate::client::{Client, NodeFields, Query};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry nodes get node_auth_gate_compute
  onex-registry nodes get node_auth_gate_compute --output json | jq .endpoints")]
pub(super) struct GetArgs {
    /// Its id
    #[arg(value_name = "ID")]
    node_id: String,
    #[command(flatten)]
    freshness: Freshness,
    /// The form of the answer; json: the record as it was served
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) async fn run(client: &Client, args: &GetArgs) -> anyhow::Result<()> {
    let mut query = Query::new();
    args.freshness.add_to(&mut query);
    let node = client.node(&args.node_id, &query).await?;
    match args.output {
        Format::Table => print(&shown(client, &node.fields)),
        Format::Json | Format::Jsonl => Items::only(node.raw.get()),
    }
}

/// A field a line; JSON on lines of its own, indented.
fn shown(client: &Client, node: &NodeFields) -> String {
    let now = client.server_now();
    let at = |instant: &str| match ago(instant, now) {
        same if same == visible(instant) => same,
        ago => format!("{} ({ago})", visible(instant)),
    };
    let or = |text: &Option<String>, other: &str| text.as_deref().map_or(other.to_owned(), visible);
    let ttl = node.ttl_seconds.map_or("the server's".to_owned(), |seconds| format!("{seconds}s"));
    let mut out = String::new();
    for (name, value) in [
        ("node_id", visible(&node.node_id)),
        ("node_type", visible(&node.node_type)),
        ("node_version", visible(&node.node_version)),
        ("status", visible(&node.status)),
        ("maintenance", or(&node.maintenance, "no")),
        ("last_heartbeat", node.last_heartbeat.as_deref().map_or("never".to_owned(), at)),
        ("registered_at", at(&node.registered_at)),
        ("updated_at", at(&node.updated_at)),
        ("ttl_seconds", ttl),
        ("health_endpoint", or(&node.health_endpoint, "none")),
        ("revision", node.revision.to_string()),
        ("endpoints", json(node.endpoints.get())),
        ("capabilities", json(node.capabilities.get())),
        ("metadata", json(node.metadata.get())),
    ] {
        out.push_str(format!("{name:<15}  {value}").trim_end());
        out.push('\n');
    }
    out
}

fn json(text: &str) -> String {
    let lines: Vec<String> = indented(text).lines().map(visible).collect();
    // Below its first line, where the values stand.
    lines.join("\n                 ")
}
