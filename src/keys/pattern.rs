//! Patterns of node ids: `*` is any run of characters, an empty one too, and everything else is itself.

/// The longest pattern, in characters: as long as an id.
const MAX_CHARS: usize = 255;

/// A pattern of node ids, such as `billing-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.chars().nth(MAX_CHARS).is_some() || text.chars().any(char::is_control) {
            return Err("must have 1 to 255 characters, and no control characters");
        }
        Ok(Self(text.to_owned()))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an id is of this pattern, bytewise: upper and lower case differ, and so do two ways to write an é.
    #[must_use]
    pub fn covers(&self, id: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == id };
        let Some(mut id) = id.strip_prefix(head) else { return false };
        // What stands between two stars is found as early as it can be, which leaves the most for the rest. So no
        // pattern takes longer than its length times that of the id.
        let mut rest = rest;
        while let Some((middle, after)) = rest.split_once('*') {
            match id.find(middle) {
                Some(at) => id = &id[at + middle.len()..],
                None => return false,
            }
            rest = after;
        }
        id.ends_with(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(pattern: &str, id: &str) -> bool {
        Pattern::parse(pattern).unwrap().covers(id)
    }

    #[test]
    fn a_star_is_any_run_of_characters_and_all_else_is_itself() {
        for (pattern, id) in [
            ("billing-*", "billing-1"),
            ("billing-*", "billing-"),
            ("*", ""),
            ("*", "anything/at all 🦀"),
            ("*-eu", "a-eu-eu"),
            ("a*b*c", "a1b2b3c"),
            ("a*a", "aa"),
            ("**", "x"),
            ("a.c", "a.c"),
            ("[ab]?", "[ab]?"),
            ("é*", "é1"),
        ] {
            assert!(covers(pattern, id), "{pattern} {id}");
        }
        for (pattern, id) in [
            ("billing-*", "Billing-1"),
            ("billing-*", "billing"),
            ("billing-*", "x-billing-1"),
            ("billing", "billing-1"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("a.c", "abc"),
            ("[ab]?", "a1"),
            ("a", ""),
        ] {
            assert!(!covers(pattern, id), "{pattern} {id}");
        }
        for wrong in ["", "a\n", "\0", &"x".repeat(256)] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    /// The definition, letter by letter, and slow.
    fn is(pattern: &[char], id: &[char]) -> bool {
        match pattern {
            [] => id.is_empty(),
            ['*', rest @ ..] => (0..=id.len()).any(|skipped| is(rest, &id[skipped..])),
            [letter, rest @ ..] => id.first() == Some(letter) && is(rest, &id[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_covers_what_its_definition_says(pattern in "[ab*]{1,8}", id in "[ab*]{0,10}") {
            let letters = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(covers(&pattern, &id), is(&letters(&pattern), &letters(&id)));
        }
    }
}
