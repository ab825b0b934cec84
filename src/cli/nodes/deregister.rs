//! `nodes deregister`: some nodes, one after the other. It asks nobody whether that is meant.

use clap::Args;

use super::revision_or_tag;
use crate::cli::asking::{Format, Items, say, visible};
use crate::cli::outcome::{Usage, print};
use crate::client::{Client, ClientError, Condition, Problem};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry nodes deregister billing-1 --if-match 42
  onex-registry nodes list --status stale --output jsonl | jq -r .node_id |
    xargs -d '\\n' onex-registry nodes deregister --ignore-missing --")]
pub(super) struct DeregisterArgs {
    /// Their ids
    #[arg(value_name = "ID", required = true)]
    node_ids: Vec<String>,
    /// Only if its registration has this revision, or entity tag. For one node
    #[arg(long, value_name = "REVISION", value_parser = revision_or_tag)]
    if_match: Option<Condition>,
    /// It is no failure if a node is not registered
    #[arg(long)]
    ignore_missing: bool,
    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) async fn run(client: &Client, args: &DeregisterArgs) -> anyhow::Result<()> {
    let condition = args.if_match.unwrap_or_default();
    if args.node_ids.len() > 1 && matches!(condition, Condition::Revision(_)) {
        return Err(Usage("--if-match: a revision is that of one node".to_owned()).into());
    }
    let mut items = Items::new(args.output);
    let mut first_missing = None;
    let mut outcome = Ok(());
    let mut unread: Option<anyhow::Error> = None;
    for id in &args.node_ids {
        let is_done = match client.deregister(id, condition).await {
            Ok(()) => true,
            // That of a node, and not that of something else at this address.
            Err(error) if error.problem().is_some_and(Problem::is_of_no_node) => {
                if !args.ignore_missing {
                    // Of one alone it is said at the end.
                    if args.node_ids.len() > 1 {
                        say(&format!("{id}: {error}"));
                    }
                    first_missing.get_or_insert(error);
                }
                false
            }
            Err(error) => {
                // The others would fare no better.
                outcome = Err(error);
                break;
            }
        };
        // The others are deregistered whether or not anybody reads of it.
        if let Err(error) = show(id, is_done, args.output, &mut items) {
            unread.get_or_insert(error);
        }
    }
    if args.output != Format::Table
        && let Err(error) = items.end()
    {
        unread.get_or_insert(error);
    }
    outcome?;
    match first_missing {
        Some(error) => Err(ClientError::into(error)),
        None => unread.map_or(Ok(()), Err),
    }
}

fn show(id: &str, is_done: bool, format: Format, items: &mut Items) -> anyhow::Result<()> {
    if format == Format::Table {
        let line = format!("deregistered {}\n", visible(id));
        return if is_done { print(&line) } else { Ok(()) };
    }
    let mut out = String::new();
    items.add(&serde_json::json!({"node_id": id, "deregistered": is_done}).to_string(), &mut out);
    print(&out)
}
