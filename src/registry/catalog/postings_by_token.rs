//! The nodes of each token. Copies share what they have; while a fleet is being loaded, nobody needs one, and a table
//! that can't be shared is several times as quick.

use std::collections::HashMap;

use imbl::OrdMap;

use super::postings::Postings;

#[derive(Clone)]
pub(super) enum PostingsByToken {
    /// A copy costs nothing.
    Shared(OrdMap<u64, Postings>),
    /// Of a fleet that is being loaded.
    Own(HashMap<u64, Postings>),
}

impl Default for PostingsByToken {
    fn default() -> Self {
        Self::Shared(OrdMap::new())
    }
}

impl PostingsByToken {
    /// Without tokens, and to get many.
    pub(super) fn to_be_filled() -> Self {
        Self::Own(HashMap::new())
    }

    /// It is full.
    pub(super) fn share(&mut self) {
        if let Self::Own(own) = self {
            let mut all: Vec<(u64, Postings)> = std::mem::take(own).into_iter().collect();
            // One after the other, they come to the same places of the tree.
            all.sort_unstable_by_key(|(token, _)| *token);
            *self = Self::Shared(all.into_iter().collect());
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Shared(postings) => postings.len(),
            Self::Own(postings) => postings.len(),
        }
    }

    pub(super) fn get(&self, token: u64) -> Option<&Postings> {
        match self {
            Self::Shared(postings) => postings.get(&token),
            Self::Own(postings) => postings.get(&token),
        }
    }

    /// A node has the token.
    pub(super) fn insert(&mut self, token: u64, slot: u32) {
        let postings = match self {
            Self::Shared(postings) => postings.get_mut(&token),
            Self::Own(postings) => postings.get_mut(&token),
        };
        if let Some(postings) = postings {
            postings.insert(slot);
            return;
        }
        match self {
            Self::Shared(postings) => drop(postings.insert(token, Postings::One(slot))),
            Self::Own(postings) => drop(postings.insert(token, Postings::One(slot))),
        }
    }

    /// A node doesn't have the token any more.
    pub(super) fn remove(&mut self, token: u64, slot: u32) {
        let postings = match self {
            Self::Shared(postings) => postings.get_mut(&token),
            Self::Own(postings) => postings.get_mut(&token),
        };
        if postings.is_some_and(|postings| postings.remove(slot)) {
            match self {
                Self::Shared(postings) => drop(postings.remove(&token)),
                Self::Own(postings) => drop(postings.remove(&token)),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn all(postings: &PostingsByToken, token: u64) -> BTreeSet<u32> {
        let mut slots = BTreeSet::new();
        if let Some(postings) = postings.get(token) {
            postings.for_each(|slot| {
                slots.insert(slot);
            });
        }
        slots
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_the_same_whether_it_is_shared_or_not_yet(
            changes in prop::collection::vec((0..8_u64, 0..40_u32, prop::bool::weighted(0.7)), 1..400),
        ) {
            let mut model: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
            let (mut shared, mut own) = (PostingsByToken::default(), PostingsByToken::to_be_filled());
            for (token, slot, has) in changes {
                if has {
                    model.entry(token).or_default().insert(slot);
                    shared.insert(token, slot);
                    own.insert(token, slot);
                } else {
                    model.entry(token).or_default().remove(&slot);
                    shared.remove(token, slot);
                    own.remove(token, slot);
                }
            }
            model.retain(|_, slots| !slots.is_empty());
            let mut shared_later = own.clone();
            shared_later.share();
            for postings in [shared, own, shared_later] {
                prop_assert_eq!(postings.len(), model.len());
                for token in 0..8 {
                    prop_assert_eq!(all(&postings, token), model.get(&token).cloned().unwrap_or_default());
                }
            }
        }
    }
}
