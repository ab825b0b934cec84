//! What the commands that ask a server have in common: which server, which nodes, and how answers are shown.

mod ago;
mod filters;
mod json;
mod object;
mod output;
mod table;
mod visible;

pub(super) use self::ago::ago;
pub(super) use self::filters::{NodeFilters, PAGE};
pub(super) use self::json::{escaped, indented, one_line};
pub(super) use self::object::{Entry, object};
pub(super) use self::output::{Format, Items, say};
pub(super) use self::table::{Cell, Table, Terminal};
pub(super) use self::visible::visible;
use crate::client::{Client, ClientArgs};

/// A client by the settings as they were given.
pub(super) fn client(server: &ClientArgs) -> anyhow::Result<Client> {
    Ok(Client::new(&server.check()?)?)
}

/// Does what asks a server, on one thread.
pub(super) fn ask(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A name that is being looked up, which can't be stopped.
    runtime.shutdown_background();
    outcome
}
