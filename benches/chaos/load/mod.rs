//! The load: clients that write, read and watch until they are told to stop.

mod readers;
mod watchers;
mod writers;

pub(crate) use readers::read;
pub(crate) use watchers::watch;
pub(crate) use writers::write;

/// So many nodes each writer has, which nobody else writes.
const NODES: usize = 4;

/// The nodes of a writer.
pub(crate) fn ids(writer: usize) -> Vec<String> {
    (0..NODES).map(|n| format!("w{writer:02}-{n}")).collect()
}
