//! What the commands that ask a server have in common: which server, which nodes, and how answers are shown.

mod ago;
mod filters;
mod freshness;
mod json;
mod object;
mod output;
mod pauses;
mod progress;
mod table;
mod visible;

use std::io;
use std::time::Duration;

pub(super) use self::ago::ago;
pub(super) use self::filters::{NodeFilters, PAGE};
pub(super) use self::freshness::Freshness;
pub(super) use self::json::{escaped, indented, one_line};
pub(super) use self::object::{Entry, object};
pub(super) use self::output::{Format, Items, say};
pub(super) use self::pauses::{Pauses, persistently};
pub(super) use self::progress::Progress;
pub(super) use self::table::{Cell, Table, Terminal};
pub(super) use self::visible::visible;
use crate::client::{Client, ClientArgs};
use crate::server::stop_signal;

/// A client by the settings as they were given.
pub(super) fn client(server: &ClientArgs) -> anyhow::Result<Client> {
    Ok(Client::new(&server.check()?)?)
}

/// What is told to end has so long for it.
const STUCK: Duration = Duration::from_secs(2);

/// Resolves when SIGINT or SIGTERM comes. Who doesn't see that, since he is stuck in a write to a pipe that nobody reads, is
/// ended a moment later, with an exit code that says so.
pub(super) fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let (told, also_told) = (stop_signal()?, stop_signal()?);
    tokio::spawn(async move {
        also_told.await;
        tokio::time::sleep(STUCK).await;
        std::process::exit(1);
    });
    Ok(told)
}

/// A duration as people write it, for a flag.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST);
    duration.ok_or("not a duration such as 500ms or 30s, of a day at the most")
}

const LONGEST: Duration = Duration::from_hours(24);

/// Does what asks a server, on this thread. Another one sees to signals meanwhile.
pub(super) fn ask(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A name that is being looked up, which can't be stopped.
    runtime.shutdown_background();
    outcome
}
