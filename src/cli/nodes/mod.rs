//! `nodes`: find them, look at one, register and deregister.

mod deregister;
mod get;
mod list;
mod register;

use clap::{Args, Subcommand};

use super::asking::{ask, client};
use crate::client::{ClientArgs, Condition};

#[derive(Debug, Args)]
pub(super) struct NodesArgs {
    #[command(subcommand)]
    command: NodesCommand,
    #[command(flatten)]
    server: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// Find nodes
    List(list::ListArgs),
    /// Show one node
    Get(get::GetArgs),
    /// Register a node
    Register(register::RegisterArgs),
    /// Deregister nodes
    Deregister(deregister::DeregisterArgs),
}

pub(super) fn run(args: NodesArgs) -> anyhow::Result<()> {
    let client = client(&args.server)?;
    ask(async {
        match args.command {
            NodesCommand::List(args) => list::run(&client, &args).await,
            NodesCommand::Get(args) => get::run(&client, &args).await,
            NodesCommand::Register(args) => register::run(&client, args).await,
            NodesCommand::Deregister(args) => deregister::run(&client, &args).await,
        }
    })
}

/// A revision, an `ETag` as it was served, or `*`.
fn revision_or_tag(text: &str) -> Result<Condition, &'static str> {
    if text == "*" {
        return Ok(Condition::Registered);
    }
    let revision = text.trim_matches('"').split('.').next().unwrap_or_default();
    let is_number = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit());
    let revision = revision.parse().ok().filter(|_| is_number);
    revision.map(Condition::Revision).ok_or("neither a revision, nor an entity tag, nor *")
}
