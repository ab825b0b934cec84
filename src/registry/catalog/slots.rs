//! A table of values by number, of which a copy costs nothing: copies share what neither has changed.
//!
//! Its branches are small, because the first change after a copy copies a branch on each level, and with it a reference
//! to each value in it.

use std::sync::Arc;

const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;

/// Values by number. Numbers are dense: those that are free again are to be used first.
#[derive(Clone)]
pub(super) struct Slots<T> {
    root: Arc<Branch<T>>,
    /// How many branches are above each leaf.
    height: u32,
}

#[derive(Clone)]
enum Branch<T> {
    Inner([Option<Arc<Branch<T>>>; WIDTH]),
    Leaf([Option<T>; WIDTH]),
}

impl<T> Default for Branch<T> {
    fn default() -> Self {
        Self::Leaf([const { None }; WIDTH])
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { root: Arc::default(), height: 0 }
    }
}

/// Which way to go at a height.
fn turn(slot: u32, height: u32) -> usize {
    // Above the digits that a number has, they are zero.
    (slot.checked_shr(BITS * height).unwrap_or(0) as usize) & (WIDTH - 1)
}

impl<T: Clone> Slots<T> {
    /// The value with a number.
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        if !self.has_room_for(slot) {
            return None;
        }
        let (mut branch, mut height) = (&*self.root, self.height);
        loop {
            match branch {
                Branch::Leaf(values) => return values[turn(slot, 0)].as_ref(),
                Branch::Inner(below) => branch = below[turn(slot, height)].as_deref()?,
            }
            height -= 1;
        }
    }

    /// Sets the value of a number, and gives back the one before.
    pub(super) fn set(&mut self, slot: u32, value: Option<T>) -> Option<T> {
        while !self.has_room_for(slot) {
            let mut below = [const { None }; WIDTH];
            below[0] = Some(std::mem::take(&mut self.root));
            self.root = Arc::new(Branch::Inner(below));
            self.height += 1;
        }
        let (mut branch, mut height) = (Arc::make_mut(&mut self.root), self.height);
        loop {
            match branch {
                Branch::Leaf(values) => return std::mem::replace(&mut values[turn(slot, 0)], value),
                Branch::Inner(below) => {
                    let next = below[turn(slot, height)].get_or_insert_with(|| {
                        Arc::new(if height > 1 {
                            Branch::Inner([const { None }; WIDTH])
                        } else {
                            Branch::default()
                        })
                    });
                    branch = Arc::make_mut(next);
                }
            }
            height -= 1;
        }
    }

    /// Calls `visit` with each value, in the order of numbers.
    pub(super) fn for_each<'s>(&'s self, visit: &mut impl FnMut(&'s T)) {
        self.root.for_each(visit);
    }

    fn has_room_for(&self, slot: u32) -> bool {
        slot.checked_shr(BITS * (self.height + 1)).unwrap_or(0) == 0
    }
}

impl<T> Branch<T> {
    // The recursion is as deep as numbers have digits.
    fn for_each<'s>(&'s self, visit: &mut impl FnMut(&'s T)) {
        match self {
            Self::Leaf(values) => values.iter().flatten().for_each(visit),
            Self::Inner(below) => below.iter().flatten().for_each(|branch| branch.for_each(visit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_had() {
        let mut slots = Slots::default();
        for slot in (0..5_000).chain([u32::MAX, 1 << 31]) {
            assert_eq!(slots.set(slot, Some(slot)), None);
        }
        let copy = slots.clone();
        for slot in (0..5_000).step_by(2) {
            assert_eq!(slots.set(slot, None), Some(slot));
        }
        assert_eq!(slots.set(1, Some(7)), Some(1));
        for slot in (0..5_000).chain([u32::MAX, 1 << 31]) {
            assert_eq!(copy.get(slot), Some(&slot));
        }
        assert_eq!((slots.get(0), slots.get(1), slots.get(3)), (None, Some(&7), Some(&3)));
        assert_eq!((slots.get(6_000), slots.get(u32::MAX)), (None, Some(&u32::MAX)));
        let mut seen = 0;
        slots.for_each(&mut |_| seen += 1);
        assert_eq!(seen, 2_502);
    }
}
