//! A batch on its way to the server: it is sent until it is known what became of each line, or for so long.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::item::{Failure, Item};
use crate::cli::asking::{Pauses, Progress, persistently};
use crate::client::{Client, ClientError, Problem, RegistrationResult};

/// So many reasons are told: a server may make up a new one each time.
const MOST_TOLD: usize = 20;

/// A batch, to its end.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// How much of the file it is.
    pub(super) bytes: u64,
    /// What became of each line.
    pub(super) lines: Vec<Fate>,
}

/// What became of a line.
#[derive(Debug)]
pub(super) enum Fate {
    /// The node is new.
    Registered,
    /// It was there, and was changed.
    Updated,
    /// It was there as it is.
    Unchanged,
    /// It would be taken.
    Valid,
    /// It was not imported.
    Failed(Failure),
}

/// How it is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending<'s> {
    pub(super) client: &'s Client,
    pub(super) progress: &'s Progress,
    /// How long a batch is sent again.
    pub(super) patience: Duration,
    /// The newest change of the registry before all this: what is not newer was not changed by it.
    pub(super) revision_before: i64,
    /// Why it has taken longer, in the words of the server: each is told once, and not by each batch.
    pub(super) told: &'s RefCell<BTreeSet<String>>,
}

impl Sending<'_> {
    /// Registers what is on the lines. What is sent twice is registered once.
    pub(super) async fn send(self, batch: Batch) -> Result<Done, ClientError> {
        let mut fates: Vec<Option<Fate>> = batch.lines.iter().map(|_| None).collect();
        let mut lines = Vec::with_capacity(batch.lines.len());
        for (place, (line, entry)) in batch.lines.into_iter().enumerate() {
            match entry {
                Ok(item) => lines.push((place, line, item)),
                Err(failure) => fates[place] = Some(Fate::Failed(failure)),
            }
        }
        let began = Instant::now();
        let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut pieces = vec![lines];
        while let Some(mut piece) = pieces.pop() {
            if piece.is_empty() {
                continue;
            }
            let results = persistently(
                self.patience,
                |reason| self.tell(reason),
                async || self.client.register_batch(piece.iter().map(|(_, _, item)| &*item.json)).await,
            );
            let results = match results.await {
                Ok(results) => results,
                // Something before the registry takes less than it does.
                Err(error) if error.status() == Some(413) && piece.len() > 1 => {
                    let half = piece.split_off(piece.len() / 2);
                    pieces.extend([half, piece]);
                    continue;
                }
                Err(ClientError::Problem(problem)) if problem.status == 413 => {
                    let too_large = |(place, line, item): (usize, u64, Item)| {
                        (place, Fate::Failed(Failure::of_problem(line, item.id, &problem)))
                    };
                    for (place, fate) in piece.into_iter().map(too_large) {
                        fates[place] = Some(fate);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_late = began.elapsed() > self.patience;
            let mut again = Vec::new();
            for ((place, line, item), result) in piece.into_iter().zip(results) {
                let is_of_the_moment = result.problem.as_ref().is_some_and(Problem::is_of_the_moment);
                if is_of_the_moment && !is_late {
                    again.push((place, line, item));
                } else {
                    fates[place] = Some(self.fate(line, item.id, &result));
                }
            }
            if !again.is_empty() {
                tokio::time::sleep(pauses.after(None)).await;
                pieces.push(again);
            }
        }
        Ok(Done { bytes: batch.bytes, lines: fates.into_iter().flatten().collect() })
    }

    fn tell(self, reason: &str) {
        let mut told = self.told.borrow_mut();
        if told.len() < MOST_TOLD && told.insert(reason.to_owned()) {
            self.progress.say(reason);
        }
    }

    fn fate(self, line: u64, id: Option<String>, result: &RegistrationResult) -> Fate {
        match (&result.problem, result.status) {
            (Some(problem), _) => Fate::Failed(Failure::of_problem(line, id, problem)),
            (None, 201) => Fate::Registered,
            (None, _) if result.revision.is_some_and(|revision| revision <= self.revision_before) => {
                Fate::Unchanged
            }
            (None, _) => Fate::Updated,
        }
    }
}
