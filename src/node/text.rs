//! Text that a database column can hold.

/// A string without U+0000, which no text column of PostgreSQL can hold (manual, section 8.3).
///
/// What takes this type can't be made to fail in the database by a character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnText(String);

impl ColumnText {
    /// `None` if the text contains U+0000.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.contains('\0')).then_some(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ColumnText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl ColumnText {
    /// The first string, bytewise, that is after all strings that begin with this one; `None` if there is none.
    ///
    /// UTF-8 orders bytewise as its code points do, so the last character is counted up.
    #[must_use]
    pub fn end_of_prefix(&self) -> Option<String> {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            // The surrogates are no characters: after U+D7FF comes U+E000.
            let next = u32::from(last) + 1;
            if let Some(next) = char::from_u32(if next == 0xD800 { 0xE000 } else { next }) {
                end.push(next);
                return Some(end);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_after_all_that_begins_with_it() {
        let end = |prefix: &str| ColumnText::new(prefix).unwrap().end_of_prefix();
        assert_eq!(end("ab").as_deref(), Some("ac"));
        assert_eq!(end("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(end("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(end("\u{10FFFF}"), None);
        assert_eq!(end(""), None);
        assert!("a\u{10FFFF}zzz" < end("a").unwrap().as_str());
    }
}
