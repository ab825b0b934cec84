//! `key`: making API keys.

use clap::Subcommand;
use time::OffsetDateTime;

use super::outcome::print;
use crate::keys::{KeyName, NewKey, Pattern, Role, expiry};

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key: prints its secret, once, to the standard error, and what the file of keys needs to the standard output
    New {
        /// What the key is called in logs and events
        #[arg(long, value_parser = |text: &str| KeyName::parse(text))]
        name: KeyName,
        /// What it may do: read, write, which has read, or admin, which has both
        #[arg(long = "role", value_name = "ROLE", default_value = "read", value_parser = |text: &str| Role::from_name(text))]
        roles: Vec<Role>,
        /// Which nodes a key with the role write may change, such as billing-*; none: all
        #[arg(long, value_name = "PATTERN", value_parser = |text: &str| Pattern::parse(text))]
        node_ids: Vec<Pattern>,
        /// When it ends: an instant such as 2030-01-31T12:00:00Z, or a duration from now such as 90d
        #[arg(long, value_name = "WHEN", value_parser = |text: &str| expiry(text, OffsetDateTime::now_utc()))]
        expires: Option<OffsetDateTime>,
    },
}

pub(super) fn run(command: KeyCommand) -> anyhow::Result<()> {
    let KeyCommand::New { name, roles, node_ids, expires } = command;
    show(&NewKey::make(&name, &roles, &node_ids, expires)?)
}

/// The secret goes another way than the lines for the file, so that it does not end up in there with them.
#[allow(clippy::print_stderr)]
fn show(key: &NewKey) -> anyhow::Result<()> {
    eprintln!("The secret of the key. It is shown only now, and kept nowhere:\n\n{}\n", key.secret.expose());
    print(&key.entry)
}
