//! What clients wrote down of each request, and the rules for it: each of them gives a list of what is wrong. What is read
//! and written is judged by the checker of `tests/integration/histories/`, and the tests of these rules run there, too.

mod answers;
mod end;
mod freshness;
mod recovery;
mod stops;

pub(crate) use answers::{Lateness, answers, lateness};
pub(crate) use end::{beats, table};
pub(crate) use freshness::freshness;
pub(crate) use recovery::{Recovery, recovery};
pub(crate) use stops::{broken, closed};

/// A call of the API, by its method and path in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// In small letters.
    pub(crate) method: String,
    pub(crate) path: &'static str,
}

/// What has to be done for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The database has to take it.
    Write,
    /// The database has to be asked.
    Strong,
    /// Up to five seconds may be waited for a revision.
    AtLeast,
    /// It is in memory.
    Read,
    /// It is in memory, and goes on.
    Watch,
}

/// A request. Times are microseconds since the run began.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) call: Call,
    pub(crate) kind: Kind,
    /// Its number at its site.
    pub(crate) server: usize,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered(Answer),
    /// The connection was lost, or there was none.
    Broken {
        was_connected: bool,
    },
    /// Nobody waits this long.
    NoAnswer,
}

/// What the head of an answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After`.
    pub(crate) says_when_to_come_again: bool,
    /// `Registry-Stale-Seconds`.
    pub(crate) is_stale: bool,
    /// `Registry-Revision`.
    pub(crate) seen: Option<i64>,
    /// `type` of a problem.
    pub(crate) problem: String,
}

/// A sign of life that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    pub(crate) node: String,
    /// The time that the answer gave.
    pub(crate) at: String,
}

/// A watcher's stream, from its first byte to its last.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) server: usize,
    pub(crate) opened: u64,
    pub(crate) ended: u64,
    /// What `closing` gave.
    pub(crate) reason: Option<String>,
}

/// A time in which a server was gone, or about to go, or about to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Down {
    pub(crate) server: usize,
    /// The signal was sent.
    pub(crate) from: u64,
    /// It is ready again.
    pub(crate) to: u64,
    /// It was asked to stop, and not killed.
    pub(crate) was_asked: bool,
}

impl Asked {
    /// The answer, if there was one.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// Whether it is a write of which the client knows that it was done. A batch has results of its own.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.kind == Kind::Write
            && self.call.path != "/v1/batch/nodes"
            && self.answer().is_some_and(|answer| (200..300).contains(&answer.status))
    }

    /// Whether it is what is read from memory, and fresh.
    pub(crate) fn is_fresh(&self) -> bool {
        self.kind == Kind::Read
            && self
                .answer()
                .is_some_and(|answer| matches!(answer.status, 200 | 304 | 404) && !answer.is_stale)
    }
}
