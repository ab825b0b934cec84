//! Sets of nodes, as numbers of slots: one, a few, or many. Copies share what they have until one of them changes.

use std::sync::Arc;

use roaring::RoaringBitmap;

/// More than this are kept in a bitmap.
const FEW: usize = 32;
/// Fewer than this are gone through one by one to find those that are in other sets, too.
const SHORT: u64 = 256;

/// A set of nodes that isn't empty.
#[derive(Clone)]
pub(super) enum Postings {
    One(u32),
    /// In order.
    Few(Arc<Vec<u32>>),
    Many(Arc<RoaringBitmap>),
}

impl Postings {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Few(slots) => slots.len() as u64,
            Self::Many(slots) => slots.len(),
        }
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        match self {
            Self::One(one) => *one == slot,
            Self::Few(slots) => slots.binary_search(&slot).is_ok(),
            Self::Many(slots) => slots.contains(slot),
        }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        match self {
            Self::One(one) if *one == slot => {}
            Self::One(one) => *self = Self::Few(Arc::new(vec![slot.min(*one), slot.max(*one)])),
            Self::Few(slots) => {
                let Err(place) = slots.binary_search(&slot) else { return };
                if slots.len() < FEW {
                    Arc::make_mut(slots).insert(place, slot);
                } else {
                    let mut many: RoaringBitmap = slots.iter().copied().collect();
                    many.insert(slot);
                    *self = Self::Many(Arc::new(many));
                }
            }
            Self::Many(slots) => {
                Arc::make_mut(slots).insert(slot);
            }
        }
    }

    /// Takes one out. `true` if it was the last: such a set is to be thrown away.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(one) => return *one == slot,
            Self::Few(slots) => {
                if let Ok(place) = slots.binary_search(&slot) {
                    Arc::make_mut(slots).remove(place);
                }
                if let [one] = slots[..] {
                    *self = Self::One(one);
                }
            }
            Self::Many(slots) => {
                Arc::make_mut(slots).remove(slot);
                // Well below, or one that comes and goes would change the form each time.
                if slots.len() <= FEW as u64 / 2 {
                    *self = Self::Few(Arc::new(slots.iter().collect()));
                }
            }
        }
        false
    }

    /// Calls `visit` with each, in order.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u32)) {
        match self {
            Self::One(one) => visit(*one),
            Self::Few(slots) => slots.iter().copied().for_each(visit),
            Self::Many(slots) => slots.iter().for_each(visit),
        }
    }

    fn bitmap(&self) -> Option<&RoaringBitmap> {
        match self {
            Self::Many(slots) => Some(slots),
            Self::One(_) | Self::Few(_) => None,
        }
    }
}

/// The nodes that a condition leaves.
pub(super) enum Selected {
    /// In order.
    Few(Vec<u32>),
    Many(Arc<RoaringBitmap>),
}

impl Selected {
    /// Those that are in all of some sets. There is at least one set.
    pub(super) fn in_all(mut sets: Vec<&Postings>) -> Self {
        sets.sort_unstable_by_key(|set| set.len());
        let Some((rarest, others)) = sets.split_first() else { return Self::Few(Vec::new()) };
        match (rarest.bitmap(), rarest) {
            (Some(rarest), Postings::Many(shared)) if rarest.len() > SHORT => {
                // The others are not smaller, so they are bitmaps, too.
                let mut others = others.iter().filter_map(|set| set.bitmap());
                let Some(first) = others.next() else { return Self::Many(Arc::clone(shared)) };
                let mut slots = rarest & first;
                for other in others {
                    slots &= other;
                }
                if slots.len() > SHORT {
                    Self::Many(Arc::new(slots))
                } else {
                    Self::Few(slots.iter().collect())
                }
            }
            _ => {
                let mut slots = Vec::new();
                rarest.for_each(|slot| {
                    if others.iter().all(|set| set.contains(slot)) {
                        slots.push(slot);
                    }
                });
                Self::Few(slots)
            }
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Few(slots) => slots.len() as u64,
            Self::Many(slots) => slots.len(),
        }
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        match self {
            Self::Few(slots) => slots.binary_search(&slot).is_ok(),
            Self::Many(slots) => slots.contains(slot),
        }
    }

    pub(super) fn for_each(&self, visit: impl FnMut(u32)) {
        match self {
            Self::Few(slots) => slots.iter().copied().for_each(visit),
            Self::Many(slots) => slots.iter().for_each(visit),
        }
    }

    /// These, and those of a list.
    pub(super) fn and_also(self, more: Vec<u32>) -> Self {
        match self {
            all if more.is_empty() => all,
            Self::Few(mut slots) => {
                slots.extend(more);
                slots.sort_unstable();
                slots.dedup();
                Self::Few(slots)
            }
            Self::Many(mut slots) => {
                Arc::make_mut(&mut slots).extend(more);
                Self::Many(slots)
            }
        }
    }

    /// Those that are in both.
    pub(super) fn also_in(self, other: Self) -> Self {
        match (self, other) {
            (Self::Many(one), Self::Many(other)) => Self::Many(Arc::new(&*one & &*other)),
            (Self::Few(mut few), other) | (other, Self::Few(mut few)) => {
                few.retain(|slot| other.contains(*slot));
                Self::Few(few)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn all(postings: &Postings) -> Vec<u32> {
        let mut slots = Vec::new();
        postings.for_each(|slot| slots.push(slot));
        slots
    }

    fn made_of(slots: &BTreeSet<u32>) -> Option<Postings> {
        let mut slots = slots.iter();
        let mut postings = Postings::One(*slots.next()?);
        slots.for_each(|slot| postings.insert(*slot));
        Some(postings)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_set_is_what_was_put_in_and_not_taken_out(changes in prop::collection::vec((0..100_u32, any::<bool>()), 1..400)) {
            let (mut model, mut postings): (BTreeSet<u32>, Option<Postings>) = Default::default();
            for (slot, insert) in changes {
                if insert {
                    model.insert(slot);
                    match &mut postings {
                        Some(postings) => postings.insert(slot),
                        none => *none = Some(Postings::One(slot)),
                    }
                } else {
                    model.remove(&slot);
                    if postings.as_mut().is_some_and(|postings| postings.remove(slot)) {
                        postings = None;
                    }
                }
                prop_assert_eq!(postings.as_ref().map(all).unwrap_or_default(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(postings.as_ref().map_or(0, Postings::len), model.len() as u64);
            }
        }

        #[test]
        fn what_is_in_all_sets_is_found_in_sets_of_every_size(
            sets in prop::collection::vec(prop::collection::btree_set(0..2_000_u32, 1..1_200), 1..4),
            more in prop::collection::vec(0..2_000_u32, 0..3),
        ) {
            let postings: Vec<Postings> = sets.iter().filter_map(made_of).collect();
            let mut expected = sets[0].clone();
            for set in &sets {
                expected = &expected & set;
            }
            let selected = Selected::in_all(postings.iter().collect());
            let mut found = Vec::new();
            selected.for_each(|slot| found.push(slot));
            prop_assert_eq!(&found, &expected.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(selected.len(), found.len() as u64);
            expected.extend(&more);
            let mut found = Vec::new();
            let selected = selected.and_also(more).also_in(Selected::in_all(vec![&postings[0]]));
            selected.for_each(|slot| found.push(slot));
            prop_assert_eq!(found, (&expected & &sets[0]).into_iter().collect::<Vec<_>>());
        }
    }
}
