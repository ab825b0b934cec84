//! A server that lives breaks nothing off, and one that is asked to stop answers first what it has begun.

use super::{Asked, Down, Outcome, Stream};

/// A request that was sent so much before the signal has been taken by then.
const TAKEN: u64 = 100_000;
/// A stream that was open for so long before the signal is one that the server knows of.
const OPEN: u64 = 1_000_000;
/// What is known of an end is a little late.
const LATE: u64 = 500_000;

/// What is wrong with requests that were broken off.
pub(crate) fn broken(asked: &[Asked], downs: &[Down]) -> Vec<String> {
    let mut wrong = Vec::new();
    for request in asked {
        let Outcome::Broken { was_connected } = request.outcome else { continue };
        let mut of_server = downs.iter().filter(|down| down.server == request.server);
        let why = of_server.find(|down| request.began <= down.to + LATE && request.ended >= down.from);
        match why {
            None => wrong
                .push(format!("a request was broken off, and nothing was done to the server: {request:?}")),
            Some(down) if down.was_asked && was_connected && request.began + TAKEN < down.from => {
                wrong.push(format!(
                    "a request was broken off that had begun before the server was asked to stop ({}): {request:?}",
                    down.from
                ));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// What is wrong with the ends of streams.
pub(crate) fn closed(streams: &[Stream], downs: &[Down]) -> Vec<String> {
    let mut wrong = Vec::new();
    for stream in streams {
        if !matches!(stream.reason.as_deref(), None | Some("shutdown")) {
            wrong.push(format!("a stream was ended for no reason of ours: {stream:?}"));
        }
        let mut of_server = downs.iter().filter(|down| down.server == stream.server);
        let why = of_server.find(|down| stream.opened <= down.to + LATE && stream.ended + LATE >= down.from);
        match why {
            None => wrong.push(format!("a stream ended, and nothing was done to the server: {stream:?}")),
            Some(down) if down.was_asked && stream.opened + OPEN < down.from && stream.reason.is_none() => {
                wrong.push(format!("a stream ended without a word at a stop: {stream:?}"));
            }
            Some(_) => {}
        }
    }
    wrong
}
