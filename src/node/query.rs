//! A question to the registry: which nodes, and which page of them.

use xxhash_rust::xxh3::Xxh3;

use super::id::NodeKey;
use super::json::JsonObject;
use super::record::Status;
use super::text::ColumnText;

/// The whitelisted columns that can be asked for by equality. What a client names becomes one of these or is refused;
/// what it gives as values is bound, and never becomes SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// `node_type` is one of these.
    NodeType(Vec<ColumnText>),
    /// `node_id` is one of these.
    NodeId(Vec<ColumnText>),
    /// `node_version` is one of these.
    NodeVersion(Vec<ColumnText>),
}

impl Filter {
    /// The names of the whitelist.
    pub const NAMES: [&str; 3] = ["node_type", "node_id", "node_version"];

    /// The filter with this name, or `None` if the whitelist has no such name. A value that no column can hold is
    /// left out: no row has it.
    #[must_use]
    pub fn new(name: &str, values: Vec<String>) -> Option<Self> {
        let make = match name {
            "node_type" => Self::NodeType,
            "node_id" => Self::NodeId,
            "node_version" => Self::NodeVersion,
            _ => return None,
        };
        Some(make(canonical(values)))
    }

    fn parts(&self) -> (&'static str, &[ColumnText]) {
        match self {
            Self::NodeType(values) => ("node_type", values),
            Self::NodeId(values) => ("node_id", values),
            Self::NodeVersion(values) => ("node_version", values),
        }
    }
}

/// Each value once, in order: two spellings of one question are one question.
fn canonical(mut values: Vec<String>) -> Vec<ColumnText> {
    values.sort();
    values.dedup();
    values.into_iter().filter_map(ColumnText::new).collect()
}

/// How many records a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

impl PageLimit {
    /// The largest page.
    pub const MAX: u16 = 1_000;

    /// `None` unless it is 1 to 1,000.
    #[must_use]
    pub fn new(limit: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&limit).then_some(Self(limit))
    }

    /// A limit that is known when the program is built, and checked then.
    #[must_use]
    pub const fn of<const LIMIT: u16>() -> Self {
        const { assert!(1 <= LIMIT && LIMIT <= Self::MAX) };
        Self(LIMIT)
    }

    /// The number of records.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(100)
    }
}

/// What to find: all conditions hold, in the order of `node_id`, bytewise.
#[derive(Debug, Clone, Default)]
pub struct DiscoveryQuery {
    /// Equality on whitelisted columns; each name at most once.
    pub filters: Vec<Filter>,
    /// Ids that begin with this.
    pub node_id_prefix: Option<ColumnText>,
    /// One of these; empty: any.
    pub status: Vec<Status>,
    /// `capabilities` contain this.
    pub capabilities: Option<JsonObject>,
    /// `metadata` contain this.
    pub metadata: Option<JsonObject>,
    /// The version is in this range; a version that doesn't parse never is.
    pub version_req: Option<semver::VersionReq>,
    /// How many records at most.
    pub limit: PageLimit,
    /// Only ids after this one.
    pub after: Option<NodeKey>,
}

impl DiscoveryQuery {
    /// A number that tells the question from others, whatever the page: cursors are bound to it. The same on every
    /// replica and in every build.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut part = |name: &str, value: &str| {
            for text in [name, value] {
                hash.update(&(text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        };
        let mut filters: Vec<_> = self.filters.iter().map(Filter::parts).collect();
        filters.sort_by_key(|(name, _)| *name);
        for (name, values) in filters {
            part(name, "");
            for value in values {
                part("", value.as_str());
            }
        }
        if let Some(prefix) = &self.node_id_prefix {
            part("node_id_prefix", prefix.as_str());
        }
        let mut statuses = self.status.clone();
        statuses.sort();
        statuses.dedup();
        for status in statuses {
            part("status", status.as_str());
        }
        for (name, object) in [("capabilities", &self.capabilities), ("metadata", &self.metadata)] {
            if let Some(object) = object {
                part(name, object.as_str());
            }
        }
        if let Some(range) = &self.version_req {
            part("version_req", &range.to_string());
        }
        hash.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_type(values: &[&str]) -> DiscoveryQuery {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        DiscoveryQuery {
            filters: vec![Filter::new("node_type", values).unwrap()],
            ..DiscoveryQuery::default()
        }
    }

    #[test]
    fn a_name_outside_the_whitelist_is_no_filter() {
        for name in Filter::NAMES {
            assert!(Filter::new(name, vec!["x".into()]).is_some());
        }
        for name in ["metadata", "NODE_TYPE", "node_type; DROP TABLE x", ""] {
            assert!(Filter::new(name, vec!["x".into()]).is_none());
        }
    }

    #[test]
    fn a_value_that_no_column_can_hold_matches_nothing() {
        assert_eq!(Filter::new("node_id", vec!["a\0".into()]), Some(Filter::NodeId(vec![])));
    }

    #[test]
    fn the_fingerprint_is_that_of_the_question_not_of_its_spelling_or_page() {
        let one = by_type(&["a", "b"]);
        let mut other = by_type(&["b", "a", "a"]);
        other.limit = PageLimit::new(7).unwrap();
        other.after = NodeKey::new("x");
        assert_eq!(one.fingerprint(), other.fingerprint());
        let prefix =
            |prefix: &str| DiscoveryQuery { node_id_prefix: ColumnText::new(prefix), ..Default::default() };
        let all = [
            DiscoveryQuery::default().fingerprint(),
            by_type(&["a"]).fingerprint(),
            by_type(&["ab"]).fingerprint(),
            by_type(&["a", "b"]).fingerprint(),
            by_type(&[]).fingerprint(),
            prefix("a").fingerprint(),
            prefix("").fingerprint(),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| other != one));
        }
    }
}
