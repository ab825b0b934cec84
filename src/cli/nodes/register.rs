//! `nodes register`: one node, from a file or from flags.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::value::RawValue;

use super::revision_or_tag;
use crate::cli::asking::{Entry, Format, Items, object, visible};
use crate::cli::outcome::{Usage, print};
use crate::client::{Client, Condition};
use crate::small_file;

/// More than a server takes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry nodes register node.json
  jq '.node_version = \"1.2.0\"' node.json | onex-registry nodes register - --if-match 42
  onex-registry nodes register --id billing-1 --type effect --version 1.2.0 \\
    --endpoint http=http://10.0.0.7:8000 --metadata environment=dev --metadata 'tags:=[\"a\", \"b\"]'")]
pub(super) struct RegisterArgs {
    /// A file with one JSON object, or - for the standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["node_id", "node_type", "node_version", "capabilities", "endpoints", "metadata", "health_endpoint", "ttl_seconds"])]
    file: Option<PathBuf>,
    /// Its id
    #[arg(long, visible_alias = "id", value_name = "ID", required_unless_present = "file")]
    node_id: Option<String>,
    /// effect, compute, reducer or orchestrator
    #[arg(long, visible_alias = "type", value_name = "TYPE", required_unless_present = "file")]
    node_type: Option<String>,
    /// Its version; left out: 1.0.0
    #[arg(long, visible_alias = "version", value_name = "VERSION")]
    node_version: Option<String>,
    /// What it can do: {…}, or name=text or name:=JSON, repeated
    #[arg(long, visible_alias = "capability", value_name = "JSON")]
    capabilities: Vec<Entry>,
    /// Where it is reached: {…}, or name=URL, repeated
    #[arg(long, visible_alias = "endpoint", value_name = "JSON")]
    endpoints: Vec<Entry>,
    /// More about it: {…}, or name=text or name:=JSON, repeated
    #[arg(long, value_name = "JSON")]
    metadata: Vec<Entry>,
    /// The URL of its health check
    #[arg(long, value_name = "URL")]
    health_endpoint: Option<String>,
    /// After so many seconds without a sign of life it is stale; left out: the server's TTL
    #[arg(long, value_name = "SECONDS")]
    ttl_seconds: Option<i64>,
    /// The registration is a sign of life, too
    #[arg(long)]
    alive: bool,
    /// Only if its registration has this revision, or entity tag; *: only if it is registered
    #[arg(long, value_name = "REVISION", value_parser = revision_or_tag, conflicts_with = "create_only")]
    if_match: Option<Condition>,
    /// Only if it is not registered yet
    #[arg(long)]
    create_only: bool,
    /// The form of the answer; json: the record as it was served
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) async fn run(client: &Client, args: RegisterArgs) -> anyhow::Result<()> {
    let condition = match args.if_match {
        _ if args.create_only => Condition::Absent,
        condition => condition.unwrap_or_default(),
    };
    let (id, registration) = match &args.file {
        Some(path) => of_file(path)?,
        None => of_flags(&args)?,
    };
    let registered = client.register(&id, registration, args.alive, condition).await?;
    if args.output != Format::Table {
        return Items::only(registered.node.raw.get());
    }
    let node = &registered.node.fields;
    let what = if registered.created { "registered" } else { "registered again" };
    print(&format!("{what} {}, revision {}\n", visible(&node.node_id), node.revision))
}

fn of_file(path: &Path) -> anyhow::Result<(String, String)> {
    let shown =
        if path == Path::new("-") { "the standard input".to_owned() } else { path.display().to_string() };
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes).context("can't read the standard input")?;
        if bytes.len() as u64 > MAX_BYTES {
            anyhow::bail!("{shown} is larger than {MAX_BYTES} bytes");
        }
        bytes
    } else {
        small_file::read(path, MAX_BYTES).map_err(|reason| anyhow::anyhow!("{shown} {reason}"))?
    };
    let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{shown} is not UTF-8"))?;
    // Read for the id alone; all else, and what is wrong with it, the server knows. Of duplicate keys the last wins there,
    // as it does here.
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&text)
        .map_err(|reason| anyhow::anyhow!("{shown} is not one JSON object: {reason}"))?;
    let id = fields.get("node_id").and_then(|id| serde_json::from_str(id.get()).ok());
    let id = id.ok_or_else(|| anyhow::anyhow!("{shown} has no node_id that is a text"))?;
    Ok((id, text))
}

fn of_flags(args: &RegisterArgs) -> anyhow::Result<(String, String)> {
    let mut fields: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    for (name, value) in [
        ("node_type", &args.node_type),
        ("node_version", &args.node_version),
        ("health_endpoint", &args.health_endpoint),
    ] {
        if let Some(value) = value {
            fields.insert(name, serde_json::value::to_raw_value(value)?);
        }
    }
    if let Some(seconds) = args.ttl_seconds {
        fields.insert("ttl_seconds", serde_json::value::to_raw_value(&seconds)?);
    }
    for (name, flag, entries) in [
        ("capabilities", "--capabilities", &args.capabilities),
        ("endpoints", "--endpoints", &args.endpoints),
        ("metadata", "--metadata", &args.metadata),
    ] {
        if let Some(json) = object(flag, entries).map_err(Usage)? {
            fields.insert(name, RawValue::from_string(json)?);
        }
    }
    Ok((args.node_id.clone().unwrap_or_default(), serde_json::to_string(&fields)?))
}
