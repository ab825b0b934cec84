//! How long it takes after a fault until all is well again.

use super::Asked;

/// After the end of a fault: how long until a server's first write was acknowledged, and until its first fresh read.
/// `None` if that didn't come. In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub(crate) server: usize,
    pub(crate) write: Option<u64>,
    pub(crate) read: Option<u64>,
}

/// What became of each of so many servers between the end of a fault and the beginning of the next.
pub(crate) fn recovery(asked: &[Asked], servers: usize, ended: u64, until: u64) -> Vec<Recovery> {
    let first = |times: &mut dyn Iterator<Item = u64>| times.min().map(|at| at - ended);
    (0..servers)
        .map(|server| {
            let within = |request: &&Asked| {
                request.server == server && request.ended >= ended && request.ended < until
            };
            let of_server = || asked.iter().filter(within);
            Recovery {
                server,
                write: first(&mut of_server().filter(|request| request.is_acknowledged()).map(|r| r.ended)),
                // One that was under way at the end may be older than that.
                read: first(
                    &mut of_server()
                        .filter(|request| request.began >= ended && request.is_fresh())
                        .map(|request| request.ended),
                ),
            }
        })
        .collect()
}
