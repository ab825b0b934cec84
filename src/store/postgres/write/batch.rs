//! How a batch gets through, whatever is wrong with one of its items.
//!
//! A row that somebody else holds is not waited for: the batch goes on without it, and the row goes a side way of its
//! own, with its own time limit. There it takes turns with others like it, a few at a time, and is waited for a little
//! at each turn: rows that are held for long don't keep all connections, nor all turns. Many rows that are held are
//! most likely those of another batch, which is about to commit: they are tried again together first. A batch that
//! fails for another reason is halved until the item that fails is alone, unless it is the statement that fails.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sqlx::postgres::PgDatabaseError;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::store::{Recorded, StoreError, Written};

/// How long a write waits for a row that another transaction holds, before it is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the items that the database refuses are looked for, by halves. Enough for hundreds of them, and bounded: with
/// the rest of what a batch may take, it is shorter than a call of the store may last.
const SEARCH: Duration = Duration::from_secs(8);
/// The same for items that wait for somebody: it may be the whole table that is held, and then there is nothing to find.
/// Nobody is to wait for long then, either.
const SEARCH_OF_CONTENDED: Duration = PATIENCE;
/// The same if items come back: enough for a few. Those that are not told apart by then come back together, and nobody
/// else waits for that.
const HASTY_SEARCH: Duration = Duration::from_secs(1);
/// The pause before a row is asked for again that was not to be had, though nobody made us wait for it.
const PAUSE: Duration = Duration::from_millis(50);
/// As many rows go the side way at once; more are tried again together, for half of the patience.
const MANY: usize = 20;
/// How often a batch is tried again because another transaction was faster.
const MAX_RACES: u32 = 10;

/// What became of an item in a transaction that was committed.
pub(in crate::store::postgres) enum Step<T> {
    Done(Result<T, StoreError>),
    /// Another transaction holds its row; nothing was done for it.
    Contended,
}

/// A transaction that was committed.
pub(in crate::store::postgres) struct Committed<T> {
    /// What became of the items, in their order.
    pub(in crate::store::postgres) steps: Vec<Step<T>>,
    /// What it has added to the log.
    pub(in crate::store::postgres) recorded: Option<Recorded>,
}

/// Why a transaction was rolled back, or seems to have been.
pub(in crate::store::postgres) enum Undone {
    /// Another transaction was faster: the same again will come out differently.
    Raced,
    /// Somebody has taken a number and doesn't commit. That concerns every item alike.
    Stalled,
    /// The database can't do what is asked of it, whatever the items are.
    Impossible(sqlx::Error),
    Failed(sqlx::Error),
    /// It was committed, and what it has done can't be read. It must not be done again: its conditions would not hold
    /// any more, because of itself.
    Unreadable(sqlx::Error),
}

impl From<Undone> for StoreError {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Raced | Undone::Stalled => Self::Contended,
            Undone::Failed(error) | Undone::Impossible(error) => error.into(),
            Undone::Unreadable(error) => {
                tracing::error!(%error, "what a batch has done can't be read");
                Self::Interrupted
            }
        }
    }
}

impl From<sqlx::Error> for Undone {
    fn from(error: sqlx::Error) -> Self {
        if is_impossible(&error) { Self::Impossible(error) } else { Self::Failed(error) }
    }
}

/// Whether a table, a column, a function or the like is not as we know it. A trigger of the owner's may fail in the same
/// way, and at one row only.
fn is_impossible(error: &sqlx::Error) -> bool {
    let Some(database) = error.as_database_error() else { return false };
    let code = database.code().unwrap_or_default();
    // Syntax error or access rule violation, feature not supported. But row-level security speaks of missing rights
    // (insufficient_privilege), about a row.
    let of_a_statement = (code.starts_with("42") && code != "42501") || code.starts_with("0A");
    let context = database.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::r#where);
    // Innermost first, in the language of the database.
    let is_ours = |context: &str| context.lines().next().is_some_and(|line| line.contains("onex_registry_"));
    of_a_statement && context.is_none_or(is_ours)
}

/// Whether to wait a little for rows that others hold. Those that others have inserted and not committed can't be
/// skipped, and are waited for a little anyway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store::postgres) enum Patience {
    /// No, and hardly for those that can't be skipped.
    Hasty,
    /// No.
    None,
    /// Yes.
    Some,
}

/// A kind of batch: how to do some of its items in one transaction.
#[async_trait]
pub(in crate::store::postgres) trait Batch: Sync {
    type Done: Send;

    async fn attempt(&self, items: &[usize], patience: Patience) -> Result<Committed<Self::Done>, Undone>;
}

/// Without turns to take, nobody goes a side way: those whose rows are held come back.
pub(in crate::store::postgres) async fn run<B: Batch>(
    batch: &B,
    length: usize,
    turns: Option<&Semaphore>,
) -> Written<B::Done> {
    let mut progress = Progress::of(length);
    // Those whose rows were skipped, and those that could only be waited for in vain.
    let (mut skipped, mut contended) = (Vec::new(), Vec::new());
    let mut races = 0;
    let began = Instant::now();
    let search = |error: &StoreError| match (turns, error) {
        (None, _) => HASTY_SEARCH,
        (Some(_), StoreError::Contended) => SEARCH_OF_CONTENDED,
        (Some(_), _) => SEARCH,
    };
    let mut parts =
        if length == 0 { Vec::new() } else { vec![((0..length).collect::<Vec<_>>(), Patience::None)] };
    while let Some((part, patience)) = parts.pop() {
        match batch.attempt(&part, patience).await {
            Ok(committed) => skipped.extend(progress.take(part, committed)),
            Err(Undone::Raced) if races < MAX_RACES => {
                races += 1;
                parts.push((part, patience));
            }
            Err(Undone::Raced) => contended.extend(part),
            Err(Undone::Stalled) => return progress.give_up(&StoreError::Contended),
            Err(Undone::Impossible(error)) => return progress.give_up(&error.into()),
            Err(undone @ Undone::Unreadable(_)) => progress.fail(part, &undone.into()),
            Err(Undone::Failed(error)) => {
                let error = StoreError::from(error);
                // What the database says can be about one row even if we can't tell: row-level security speaks of
                // missing rights.
                let of_one_item =
                    matches!(error, StoreError::Refused(_) | StoreError::Contended | StoreError::Failed(_));
                let in_time = began.elapsed() < search(&error);
                if of_one_item && part.len() > 1 && in_time {
                    let patience =
                        if matches!(error, StoreError::Contended) { Patience::Hasty } else { patience };
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([(second.to_vec(), patience), (first.to_vec(), patience)]);
                } else if matches!(error, StoreError::Contended)
                    || of_one_item && part.len() > 1 && turns.is_none()
                {
                    contended.extend(part);
                } else if matches!(error, StoreError::Unavailable(_) | StoreError::Full(_)) {
                    return progress.give_up(&error);
                } else {
                    progress.fail(part, &error);
                }
            }
        }
    }
    let Some(turns) = turns else { return progress.give_up(&StoreError::Held) };
    let deadline = Instant::now() + PATIENCE;
    match together(batch, skipped, &mut progress, deadline - PATIENCE / 2).await {
        Ok(skipped) => contended.extend(skipped),
        Err(error) => return progress.give_up(&error),
    }
    let mut side_ways: FuturesUnordered<_> = contended
        .into_iter()
        .map(|item| async move { (item, wait_for(batch, item, turns, deadline).await) })
        .collect();
    while let Some((item, (result, recorded))) = side_ways.next().await {
        progress.results[item] = Some(result);
        progress.recorded.extend(recorded);
    }
    progress.give_up(&StoreError::Contended)
}

/// What has become of the items so far.
struct Progress<T> {
    results: Vec<Option<Result<T, StoreError>>>,
    recorded: Vec<Recorded>,
}

impl<T> Progress<T> {
    fn of(length: usize) -> Self {
        Self { results: (0..length).map(|_| None).collect(), recorded: Vec::new() }
    }

    /// Takes what became of some items, and gives those back whose rows another transaction holds.
    fn take(&mut self, items: Vec<usize>, committed: Committed<T>) -> Vec<usize> {
        self.recorded.extend(committed.recorded);
        let mut contended = Vec::new();
        for (item, step) in items.into_iter().zip(committed.steps) {
            match step {
                Step::Done(result) => self.results[item] = Some(result),
                Step::Contended => contended.push(item),
            }
        }
        contended
    }

    fn fail(&mut self, items: Vec<usize>, error: &StoreError) {
        for item in items {
            self.results[item] = Some(Err(error.clone()));
        }
    }

    /// The results there are, and one error for the items that have none yet. Transactions that went beside each other
    /// come to their end in any order.
    fn give_up(mut self, error: &StoreError) -> Written<T> {
        self.recorded.sort_by_key(|recorded| recorded.previous);
        let result = |result: Option<_>| result.unwrap_or_else(|| Err(error.clone()));
        Written { results: self.results.into_iter().map(result).collect(), recorded: self.recorded }
    }
}

/// Many items whose rows another transaction holds, until few are left or the deadline has come. The rest is returned.
async fn together<B: Batch>(
    batch: &B,
    mut skipped: Vec<usize>,
    progress: &mut Progress<B::Done>,
    deadline: Instant,
) -> Result<Vec<usize>, StoreError> {
    while skipped.len() > MANY && Instant::now() + PAUSE < deadline {
        tokio::time::sleep(PAUSE).await;
        match batch.attempt(&skipped, Patience::None).await {
            Ok(committed) => skipped = progress.take(skipped, committed),
            Err(Undone::Raced) => {}
            Err(Undone::Stalled) => return Err(StoreError::Contended),
            Err(undone @ Undone::Unreadable(_)) => {
                progress.fail(skipped, &undone.into());
                return Ok(Vec::new());
            }
            Err(Undone::Impossible(error)) => return Err(error.into()),
            Err(Undone::Failed(error)) => match StoreError::from(error) {
                error @ (StoreError::Unavailable(_) | StoreError::Full(_)) => return Err(error),
                // Which of them fails, the side way finds out.
                _ => break,
            },
        }
    }
    Ok(skipped)
}

/// One item whose row another transaction holds, until the deadline. An attempt that has begun comes to its end, so
/// that it is known whether it took effect.
async fn wait_for<B: Batch>(
    batch: &B,
    item: usize,
    turns: &Semaphore,
    deadline: Instant,
) -> (Result<B::Done, StoreError>, Option<Recorded>) {
    let items = [item];
    loop {
        let Ok(Ok(turn)) = tokio::time::timeout_at(deadline, turns.acquire()).await else {
            return (Err(StoreError::Contended), None);
        };
        let error = match batch.attempt(&items, Patience::Some).await {
            Ok(mut committed) => match committed.steps.pop() {
                Some(Step::Done(result)) => return (result, committed.recorded),
                _ => StoreError::Contended,
            },
            Err(Undone::Stalled) => return (Err(StoreError::Contended), None),
            Err(undone) => StoreError::from(undone),
        };
        drop(turn);
        if !matches!(error, StoreError::Contended) || Instant::now() + PAUSE >= deadline {
            return (Err(error), None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
