//! A store takes each id once in a batch. A batch that names one more often is done in rounds.

use std::collections::{HashMap, VecDeque};

use super::RegistryError;
use crate::node::NodeKey;

/// A batch, split so that no id is twice in a round and items of one id keep their order.
pub(super) struct Rounds<I, T> {
    waiting: VecDeque<Round<I>>,
    /// Positions in the batch, and results.
    done: Vec<(usize, Result<T, RegistryError>)>,
    /// Ids that are given up. A row that somebody holds is not waited for as often as the batch names it.
    given_up: HashMap<NodeKey, RegistryError>,
    /// Why all the rest is given up.
    failed: Option<RegistryError>,
}

/// Items with distinct ids.
pub(super) struct Round<I> {
    /// Where each stood in the batch, and its id.
    places: Vec<(usize, NodeKey)>,
    pub(super) items: Vec<I>,
}

impl<I> Round<I> {
    fn new() -> Self {
        Self { places: Vec::new(), items: Vec::new() }
    }

    fn push(&mut self, position: usize, id: NodeKey, item: I) {
        self.places.push((position, id));
        self.items.push(item);
    }
}

impl<I, T> Rounds<I, T> {
    pub(super) fn of(batch: Vec<I>, id_of: impl Fn(&I) -> NodeKey) -> Self {
        let mut times: HashMap<NodeKey, usize> = HashMap::with_capacity(batch.len());
        let mut waiting: VecDeque<Round<I>> = VecDeque::new();
        for (position, item) in batch.into_iter().enumerate() {
            let id = id_of(&item);
            let round = *times.entry(id.clone()).and_modify(|times| *times += 1).or_insert(0);
            if waiting.len() == round {
                waiting.push_back(Round::new());
            }
            if let Some(round) = waiting.get_mut(round) {
                round.push(position, id, item);
            }
        }
        Self { waiting, done: Vec::new(), given_up: HashMap::new(), failed: None }
    }

    /// The next items that have a chance; the others have their result without being tried.
    pub(super) fn next(&mut self) -> Option<Round<I>> {
        while let Some(round) = self.waiting.pop_front() {
            let mut hopeful = Round::new();
            for ((position, id), item) in round.places.into_iter().zip(round.items) {
                match self.failed.as_ref().or_else(|| self.given_up.get(&id)) {
                    Some(error) => self.done.push((position, Err(error.clone()))),
                    None => hopeful.push(position, id, item),
                }
            }
            if !hopeful.items.is_empty() {
                return Some(hopeful);
            }
        }
        None
    }

    pub(super) fn record(&mut self, round: Round<I>, results: Vec<Result<T, RegistryError>>) {
        for ((position, id), result) in round.places.into_iter().zip(results) {
            match &result {
                Err(error @ RegistryError::Contended) => {
                    self.given_up.insert(id, error.clone());
                }
                Err(error @ (RegistryError::Unavailable(_) | RegistryError::Full(_))) => {
                    self.failed = Some(error.clone());
                }
                _ => {}
            }
            self.done.push((position, result));
        }
    }

    /// All results, in the order of the batch.
    pub(super) fn results(mut self) -> Vec<Result<T, RegistryError>> {
        self.done.sort_by_key(|(position, _)| *position);
        self.done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn rounds(batch: &[&'static str]) -> Rounds<&'static str, &'static str> {
        Rounds::of(batch.to_vec(), |item| NodeKey::new(&item[..1]).unwrap())
    }

    #[test]
    fn items_of_one_id_are_done_in_order_and_never_together() {
        let batch = ["a1", "b1", "a2", "a3", "b2"];
        let mut rounds = rounds(&batch);
        let mut seen = Vec::new();
        while let Some(round) = rounds.next() {
            seen.push(round.items.clone());
            let results = round.items.iter().map(|item| Ok(*item)).collect();
            rounds.record(round, results);
        }
        assert_eq!(seen, [vec!["a1", "b1"], vec!["a2", "b2"], vec!["a3"]]);
        assert_eq!(rounds.results().into_iter().map(Result::unwrap).collect::<Vec<_>>(), batch);
    }

    #[test]
    fn an_id_that_is_held_is_waited_for_once() {
        let mut rounds = rounds(&["a1", "b1", "a2", "b2", "a3"]);
        let first = rounds.next().unwrap();
        rounds.record(first, vec![Err(RegistryError::Contended), Ok("b1")]);
        let second = rounds.next().unwrap();
        assert_eq!(second.items, ["b2"]);
        rounds.record(second, vec![Ok("b2")]);
        assert!(rounds.next().is_none());
        let ok: Vec<bool> = rounds.results().iter().map(Result::is_ok).collect();
        assert_eq!(ok, [false, true, false, true, false]);
    }

    #[test]
    fn a_database_that_is_away_is_asked_once() {
        let mut rounds = rounds(&["a1", "b1", "a2", "b2"]);
        let first = rounds.next().unwrap();
        let away = RegistryError::Unavailable(Arc::new(sqlx::Error::PoolTimedOut));
        rounds.record(first, vec![Ok("a1"), Err(away)]);
        assert!(rounds.next().is_none());
        assert_eq!(rounds.results().iter().filter(|result| result.is_err()).count(), 3);
    }
}
