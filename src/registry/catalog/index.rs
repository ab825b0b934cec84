//! Which nodes have what in their capabilities and metadata.
//!
//! A column with too many tokens isn't taken in: a hostile one would take many times its size. It gets a [`Signature`]
//! instead, which says of most that don't match that they don't.

use std::sync::Arc;

use super::node::Node;
use super::postings::{Postings, Selected};
use super::postings_by_token::PostingsByToken;
use super::tokens::{self, Wanted};
use crate::node::{JsonColumn, ShownRecord};

/// The columns that can be searched.
pub(super) const SEARCHED: [JsonColumn; 2] = [JsonColumn::Capabilities, JsonColumn::Metadata];

/// Each column may have so many tokens,
const SMALL: usize = 32;
/// and one more for so many bytes,
const BYTES_PER_TOKEN: usize = 12;
/// and no more than this.
const MAX_TOKENS: usize = 512;

/// What a token of its own takes, in bytes.
const TOKEN_BYTES: usize = 64;
/// The index may take so many bytes, and half of what the records have. Beyond that,
const BASE_BYTES: usize = 32 * 1024 * 1024;
/// no column may bring more new tokens than this.
const FEW_NEW: usize = 8;

/// The inverted index.
#[derive(Clone, Default)]
pub(super) struct Index {
    postings: PostingsByToken,
    /// Nodes whose column isn't in `postings`, column by column.
    unlisted: [Option<Postings>; SEARCHED.len()],
}

/// Tells of tokens that a column doesn't have most of them (B. Bloom, "Space/Time Trade-offs in Hash Coding").
#[derive(Debug)]
pub(super) struct Signature(Box<[u64]>);

impl Signature {
    fn of(tokens: &[u64]) -> Self {
        // Eight bits for each: of twenty that it doesn't have, it takes one for its own.
        let words = (tokens.len() / 8).next_power_of_two();
        let mut signature = Self(vec![0; words].into_boxed_slice());
        for token in tokens {
            for (word, bit) in signature.places(*token) {
                signature.0[word] |= bit;
            }
        }
        signature
    }

    fn may_have(&self, token: u64) -> bool {
        self.places(token).iter().all(|(word, bit)| self.0[*word] & bit != 0)
    }

    fn places(&self, token: u64) -> [(usize, u64); 2] {
        let mask = self.0.len() - 1;
        [token, token.rotate_left(32)].map(|half| {
            let word = usize::try_from(half >> 6 & 0xFFFF_FFFF).unwrap_or(0) & mask;
            (word, 1 << (half & 63))
        })
    }
}

/// Of each column: `None` if it is listed.
pub(super) type Unlisted = [Option<Arc<Signature>>; SEARCHED.len()];

impl Index {
    /// Without nodes, and to get many before anybody asks.
    pub(super) fn to_be_filled() -> Self {
        Self { postings: PostingsByToken::to_be_filled(), ..Self::default() }
    }

    /// It has them.
    pub(super) fn share(&mut self) {
        self.postings.share();
    }

    /// Takes in a node, in place of what it was. `fleet_bytes` is what all records have. What it gives back belongs to the
    /// node that is to be.
    pub(super) fn set(
        &mut self,
        slot: u32,
        old: Option<&Node>,
        new: &ShownRecord,
        fleet_bytes: usize,
    ) -> Unlisted {
        let mut unlisted = Unlisted::default();
        for (at, column) in SEARCHED.into_iter().enumerate() {
            let text = new.column(column);
            if let Some(old) = old
                && old.column(column) == text
            {
                unlisted[at].clone_from(&old.unlisted()[at]);
                continue;
            }
            let before = old.map(|old| Self::listed(old, at)).unwrap_or_default();
            let was_unlisted = old.is_some_and(|old| old.unlisted()[at].is_some());
            let mut after = Vec::new();
            let sure = text.is_none_or(|text| tokens::of_stored(column, text, &mut after));
            after.sort_unstable();
            after.dedup();
            let may_have = (SMALL + text.map_or(0, str::len) / BYTES_PER_TOKEN).min(MAX_TOKENS);
            if !sure || after.len() > may_have || self.is_too_much(&after, fleet_bytes) {
                unlisted[at] = Some(Arc::new(Signature::of(&after)));
                after.clear();
            }
            self.replace(slot, &before, &after);
            match (was_unlisted, unlisted[at].is_some()) {
                (false, true) => insert(&mut self.unlisted[at], slot),
                (true, false) => remove(&mut self.unlisted[at], slot),
                _ => {}
            }
        }
        unlisted
    }

    /// Forgets a node.
    pub(super) fn clear(&mut self, slot: u32, old: &Node) {
        for at in 0..SEARCHED.len() {
            let before = Self::listed(old, at);
            self.replace(slot, &before, &[]);
            if old.unlisted()[at].is_some() {
                remove(&mut self.unlisted[at], slot);
            }
        }
    }

    /// The tokens that a node is listed under. They are not kept: they can be had from its JSON.
    fn listed(node: &Node, at: usize) -> Vec<u64> {
        let mut listed = Vec::new();
        if node.unlisted()[at].is_none()
            && let Some(text) = node.column(SEARCHED[at])
        {
            tokens::of_stored(SEARCHED[at], text, &mut listed);
            listed.sort_unstable();
            listed.dedup();
        }
        listed
    }

    fn is_too_much(&self, tokens: &[u64], fleet_bytes: usize) -> bool {
        self.postings.len() * TOKEN_BYTES > BASE_BYTES + fleet_bytes / 2
            && tokens.iter().filter(|token| self.postings.get(**token).is_none()).nth(FEW_NEW).is_some()
    }

    /// Both lists are in order.
    fn replace(&mut self, slot: u32, before: &[u64], after: &[u64]) {
        for token in before.iter().filter(|token| after.binary_search(token).is_err()) {
            self.postings.remove(*token, slot);
        }
        for token in after.iter().filter(|token| before.binary_search(token).is_err()) {
            self.postings.insert(*token, slot);
        }
    }

    /// The nodes that may have what is wanted, and surely do if they are listed and it is exact. `node` gives the node of
    /// a slot.
    pub(super) fn select<'n>(&self, wanted: &Wanted, node: impl Fn(u32) -> Option<&'n Node>) -> Selected {
        let at = usize::from(wanted.column != SEARCHED[0]);
        let sets: Option<Vec<&Postings>> =
            wanted.tokens.iter().map(|token| self.postings.get(*token)).collect();
        let listed = sets.map_or(Selected::Few(Vec::new()), Selected::in_all);
        let mut maybe = Vec::new();
        if let Some(unlisted) = &self.unlisted[at] {
            unlisted.for_each(|slot| {
                let signature = node(slot).and_then(|node| node.unlisted()[at].as_deref());
                if signature.is_some_and(|own| wanted.tokens.iter().all(|token| own.may_have(*token))) {
                    maybe.push(slot);
                }
            });
        }
        listed.and_also(maybe)
    }

    /// How many nodes have to be looked at one by one.
    pub(super) fn unlisted(&self, column: JsonColumn) -> u64 {
        self.unlisted[usize::from(column != SEARCHED[0])].as_ref().map_or(0, Postings::len)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.postings.is_empty() && self.unlisted.iter().all(Option::is_none)
    }
}

fn insert(set: &mut Option<Postings>, slot: u32) {
    match set {
        Some(set) => set.insert(slot),
        None => *set = Some(Postings::One(slot)),
    }
}

fn remove(set: &mut Option<Postings>, slot: u32) {
    if set.as_mut().is_some_and(|set| set.remove(slot)) {
        *set = None;
    }
}
