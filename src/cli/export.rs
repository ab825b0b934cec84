//! `export`: the registrations of a fleet as JSON Lines, page by page.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::asking::{
    Format, Items, NodeFilters, PAGE, Progress, ask, client, duration, one_line, persistently, told_to_end,
    visible,
};
use super::outcome::{Usage, print};
use crate::client::{Client, ClientArgs, NodeFields};
use crate::replace_file;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry export --file fleet.jsonl
  onex-registry export --type effect --status healthy | jq -r .node_id
  onex-registry export --file fleet.jsonl --quiet && onex-registry import fleet.jsonl --url http://new.example:8080

A line is one registration: what the server adds to it (status, revision, times, maintenance) is left out, and import takes
the rest as it is.")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filters: NodeFilters,
    /// Where to write them; the file is replaced as a whole, once all are there. Left out: to the standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// `strong`: answered by the database, and not from memory
    #[arg(long, value_name = "CONSISTENCY")]
    consistency: Option<String>,
    /// Wait until the server has seen this revision
    #[arg(long, value_name = "REVISION")]
    min_revision: Option<String>,
    /// How long a page is asked for again if the server is away or busy
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    patience: Duration,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    server: ClientArgs,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let client = client(&args.server)?;
    let Some(file) = &args.file else {
        let mut items = Items::new(Format::Jsonl);
        return export(&client, args, |nodes| {
            let mut out = String::new();
            for node in nodes {
                items.add(node, &mut out);
            }
            print(&out)
        });
    };
    // It is put in the place of what is there: of a device or a link, nobody means that.
    if fs::symlink_metadata(file).is_ok_and(|there| !there.is_file()) {
        return Err(Usage(format!("'{}' is no regular file", visible(&file.display().to_string()))).into());
    }
    let beside = replace_file::beside(file);
    if fs::symlink_metadata(&beside).is_ok() {
        let name = visible(&beside.display().to_string());
        let in_the_way =
            format!("'{name}' is in the way: an export that was killed leaves it behind. Remove it");
        return Err(Usage(in_the_way).into());
    }
    let mut failed = None;
    let written = replace_file::replace(file, |out| {
        let exported = export(&client, args, |nodes| {
            for node in nodes {
                writeln!(out, "{}", one_line(node))?;
            }
            Ok(())
        });
        exported.map_err(|error| {
            failed = Some(error);
            io::Error::other("not exported")
        })
    });
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, written) => {
            written.map_err(|error| anyhow::anyhow!("can't write '{}': {error}", file.display()))
        }
    }
}

/// Hands over the registrations, a page at a time.
fn export(
    client: &Client,
    args: &ExportArgs,
    mut write: impl FnMut(&[String]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query = args.filters.query()?;
    for (name, value) in [("consistency", &args.consistency), ("min_revision", &args.min_revision)] {
        if let Some(value) = value {
            query.add(name, value);
        }
    }
    query.add("limit", PAGE.to_string());
    // On a terminal that shows the lines, a bar would stand between them.
    let progress =
        Progress::of_nodes(args.quiet || args.file.is_none() && io::IsTerminal::is_terminal(&io::stdout()));
    let work = async {
        let mut pages = client.nodes(query);
        while let Some(page) =
            persistently(args.patience, |reason| progress.say(reason), async || pages.next().await).await?
        {
            let nodes: Vec<String> =
                page.nodes.iter().map(|node| registration(&node.fields)).collect::<Result<_, _>>()?;
            progress.suspend(|| write(&nodes))?;
            progress.advance(nodes.len() as u64);
        }
        Ok(())
    };
    ask(async {
        let stop = told_to_end()?;
        tokio::select! {
            outcome = work => outcome,
            () = stop => Err(anyhow::anyhow!("stopped by a signal")),
        }
    })
}

/// What the node was registered with: the JSON in it as it was served.
fn registration(node: &NodeFields) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Registration<'n> {
        node_id: &'n str,
        node_type: &'n str,
        node_version: &'n str,
        capabilities: &'n RawValue,
        endpoints: &'n RawValue,
        metadata: &'n RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        health_endpoint: Option<&'n str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<i64>,
    }
    serde_json::to_string(&Registration {
        node_id: &node.node_id,
        node_type: &node.node_type,
        node_version: &node.node_version,
        capabilities: &node.capabilities,
        endpoints: &node.endpoints,
        metadata: &node.metadata,
        health_endpoint: node.health_endpoint.as_deref(),
        ttl_seconds: node.ttl_seconds,
    })
}
