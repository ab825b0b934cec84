//! Every answer is one that the OpenAPI document knows and that a request like ours may have, and comes in time.

use serde_json::Value;

use super::{Asked, Kind, Outcome};

/// What clients that ask for nothing wrong may be answered. 410 is not among them: nothing that a watcher still needs was
/// deleted, and no database was restored.
const FINE: [u16; 11] = [200, 201, 204, 304, 404, 409, 412, 429, 503, 504, 507];
const SECOND: u64 = 1_000_000;

/// What is wrong with the answers, by a document.
pub(crate) fn answers(asked: &[Asked], document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for request in asked {
        if request.outcome == Outcome::NoAnswer {
            wrong.push(format!("a request was not answered: {request:?}"));
        }
        let Some(answer) = request.answer() else { continue };
        let status = answer.status;
        let documented = &document["paths"][request.call.path][&request.call.method]["responses"];
        if documented.get(status.to_string()).is_none() {
            wrong.push(format!("an answer is not in the document: {request:?}"));
        } else if !FINE.contains(&status) {
            wrong.push(format!("an answer that nothing explains: {request:?}"));
        }
        if matches!(status, 429 | 503) && !answer.says_when_to_come_again {
            wrong.push(format!("an answer doesn't say when to come again: {request:?}"));
        }
        if request.ended - request.began > limit(request.kind) {
            wrong.push(format!("an answer took far too long: {request:?}"));
        }
    }
    wrong
}

/// So many took longer than they should, of writes and of reads from memory; and the longest of each, in microseconds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lateness {
    pub(crate) writes: usize,
    pub(crate) slowest_write: u64,
    pub(crate) reads: usize,
    pub(crate) slowest_read: u64,
}

pub(crate) fn lateness<'a>(asked: impl Iterator<Item = &'a Asked>) -> Lateness {
    let mut late = Lateness::default();
    for request in asked.filter(|request| request.answer().is_some()) {
        let took = request.ended - request.began;
        match request.kind {
            Kind::Write | Kind::Strong => {
                late.writes += usize::from(took > 3 * SECOND / 2);
                late.slowest_write = late.slowest_write.max(took);
            }
            Kind::Read => {
                late.reads += usize::from(took > 3 * SECOND / 10);
                late.slowest_read = late.slowest_read.max(took);
            }
            Kind::AtLeast | Kind::Watch => {}
        }
    }
    late
}

/// Longer is wrong, on a machine however busy.
fn limit(kind: Kind) -> u64 {
    match kind {
        // A request has 30 seconds, then it is answered with 504.
        Kind::Write | Kind::Strong => 32 * SECOND,
        Kind::AtLeast => 10 * SECOND,
        Kind::Read | Kind::Watch => 5 * SECOND,
    }
}
