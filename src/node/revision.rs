//! Revisions, and the conditions that a write puts on them.

use std::fmt;

/// The number of a change. Revisions grow in commit order: whoever has read up to N never finds a change at or
/// below N later. 0 is the revision of a row that was there before the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(i64);

impl Revision {
    /// Before every change.
    pub const ZERO: Self = Self(0);

    /// `None` if the number is negative.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// The least that is greater.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What must hold of the present registration for a write to take place (RFC 9110, section 13.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// The node is not registered (`If-None-Match: *`).
    Absent,
    /// The node is registered (`If-Match: *`).
    Present,
    /// The registration has one of these revisions (`If-Match: "…"`).
    Revision(Vec<Revision>),
}

impl Precondition {
    /// Whether it holds of a registration with this revision, or of none.
    #[must_use]
    pub fn holds(&self, present: Option<Revision>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => present.is_none(),
            Self::Present => present.is_some(),
            Self::Revision(any) => present.is_some_and(|revision| any.contains(&revision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_holds_of_what_it_says() {
        let seven = Revision::new(7);
        let of_seven = Precondition::Revision(vec![Revision(3), Revision(7)]);
        for (condition, of_none, of_some) in [
            (Precondition::None, true, true),
            (Precondition::Absent, true, false),
            (Precondition::Present, false, true),
            (of_seven, false, true),
            (Precondition::Revision(vec![Revision(6)]), false, false),
        ] {
            assert_eq!(condition.holds(None), of_none, "{condition:?}");
            assert_eq!(condition.holds(seven), of_some, "{condition:?}");
        }
    }
}
