//! A store takes each id once in a batch. A batch that names one more often is split into rounds.

use std::collections::HashMap;

use crate::node::NodeKey;

/// Items with distinct ids, and where they stood in the batch.
pub(super) struct Round<I> {
    positions: Vec<usize>,
    pub(super) items: Vec<I>,
}

/// Splits a batch so that no id is twice in a round, and items of one id keep their order.
pub(super) fn split<I>(batch: Vec<I>, id_of: impl Fn(&I) -> NodeKey) -> Vec<Round<I>> {
    let mut seen: HashMap<NodeKey, usize> = HashMap::with_capacity(batch.len());
    let mut rounds: Vec<Round<I>> = Vec::new();
    for (position, item) in batch.into_iter().enumerate() {
        let round = *seen.entry(id_of(&item)).and_modify(|times| *times += 1).or_insert(0);
        if rounds.len() == round {
            rounds.push(Round { positions: Vec::new(), items: Vec::new() });
        }
        if let Some(round) = rounds.get_mut(round) {
            round.positions.push(position);
            round.items.push(item);
        }
    }
    rounds
}

/// The results of rounds, put back in the order of the batch.
pub(super) struct Results<T>(Vec<(usize, T)>);

impl<T> Results<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn add<I>(&mut self, round: &Round<I>, results: Vec<T>) {
        self.0.extend(round.positions.iter().copied().zip(results));
    }

    pub(super) fn in_order(mut self) -> Vec<T> {
        self.0.sort_by_key(|(position, _)| *position);
        self.0.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_one_id_are_done_in_order_and_never_together() {
        let batch = vec!["a1", "b1", "a2", "a3", "b2"];
        let rounds = split(batch.clone(), |item| NodeKey::new(&item[..1]).unwrap());
        let items: Vec<_> = rounds.iter().map(|round| round.items.clone()).collect();
        assert_eq!(items, [vec!["a1", "b1"], vec!["a2", "b2"], vec!["a3"]]);
        let mut results = Results::new();
        for round in &rounds {
            results.add(round, round.items.clone());
        }
        assert_eq!(results.in_order(), batch);
    }
}
