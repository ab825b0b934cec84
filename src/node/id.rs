//! The id of a node: strict for what registers, wide for what is looked up.

use std::fmt;
use std::sync::Arc;

/// Columns are `VARCHAR(255)`: 255 characters, not bytes.
const MAX_CHARS: usize = 255;

/// An id that a node may register under: 1 to 255 characters, no control characters, no white space at either end,
/// not `.` or `..` (which HTTP clients remove from paths).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NodeKey);

impl NodeId {
    /// Checks an id against the rules of registration.
    ///
    /// # Errors
    /// Every rule that it breaks, in words for the client.
    pub fn parse(id: &str) -> Result<Self, Vec<&'static str>> {
        let mut broken = Vec::new();
        if id.is_empty() || id.chars().nth(MAX_CHARS).is_some() {
            broken.push("must have 1 to 255 characters");
        }
        if id.chars().any(char::is_control) {
            broken.push("must not contain control characters");
        }
        if id.starts_with(char::is_whitespace) || id.ends_with(char::is_whitespace) {
            broken.push("must not begin or end with white space");
        }
        if id == "." || id == ".." {
            broken.push("must not be '.' or '..', which clients remove from paths");
        }
        if broken.is_empty() { Ok(Self(NodeKey(id.into()))) } else { Err(broken) }
    }

    /// The id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The id as something to look up.
    #[must_use]
    pub fn key(&self) -> &NodeKey {
        &self.0
    }
}

/// An id that the column can hold, whoever wrote it: at most 255 characters, none of them U+0000.
///
/// Ordered bytewise, as `COLLATE "C"` orders. A copy is cheap: the text of an id is kept once, however many lists name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(Arc<str>);

impl NodeKey {
    /// `None` if no row can have this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        (!id.contains('\0') && id.chars().nth(MAX_CHARS).is_none()).then(|| Self(id.into()))
    }

    /// The id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<NodeId> for NodeKey {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_strange_ids_may_register() {
        for id in ["a", "a/b", "100%", "?x#y", "it's \"quoted\"", "🦀", "a b", "...", &"é".repeat(255)] {
            assert!(NodeId::parse(id).is_ok(), "{id:?}");
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        assert_eq!(NodeId::parse("").unwrap_err().len(), 1);
        assert_eq!(NodeId::parse(&"é".repeat(256)).unwrap_err(), ["must have 1 to 255 characters"]);
        assert_eq!(NodeId::parse(" a\n").unwrap_err().len(), 2);
        assert_eq!(
            NodeId::parse("\u{85}a").unwrap_err().len(),
            2,
            "U+0085 is a control character and white space"
        );
        assert!(NodeId::parse(".").is_err() && NodeId::parse("..").is_err());
        assert!(NodeId::parse("a\0b").is_err());
    }

    #[test]
    fn a_key_is_whatever_the_column_holds() {
        for id in ["", " a ", "..", "a\nb"] {
            assert!(NodeKey::new(id).is_some(), "{id:?}");
        }
        assert!(NodeKey::new("a\0b").is_none());
        assert!(NodeKey::new("x".repeat(256)).is_none());
    }
}
