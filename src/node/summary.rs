//! How many nodes there are, by type, version and status.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use super::record::Status;

/// How many nodes there are, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// All of them.
    pub nodes: u64,
    /// By type.
    pub by_type: Counts<String>,
    /// By type and version.
    pub by_type_and_version: Counts<(String, String)>,
    /// By status, all four, in the order of [`Status::ALL`].
    pub by_status: [(Status, u64); Status::ALL.len()],
    /// By type and status.
    pub by_type_and_status: Counts<(String, Status)>,
}

/// How many nodes have what: the largest number first, then in the order of the keys. Texts are ordered bytewise,
/// statuses as in [`Status::ALL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts<K> {
    /// At most [`MAX_ENTRIES`].
    pub entries: Vec<(K, u64)>,
    /// So many nodes are in entries that were left out.
    pub not_listed: u64,
}

/// A list of counts is no longer than this, whatever foreign writers have left in the columns.
pub const MAX_ENTRIES: usize = 1_000;

/// Adds up what a store finds.
#[derive(Debug, Default)]
pub struct SummaryBuilder {
    nodes: u64,
    by_type: HashMap<String, u64>,
    by_type_and_version: HashMap<(String, String), u64>,
    by_type_and_status: HashMap<(String, Status), u64>,
}

impl SummaryBuilder {
    /// Adds so many nodes of a type, version and status.
    pub fn add(&mut self, node_type: String, node_version: String, status: Status, nodes: u64) {
        self.nodes += nodes;
        *self.by_type.entry(node_type.clone()).or_default() += nodes;
        *self.by_type_and_status.entry((node_type.clone(), status)).or_default() += nodes;
        *self.by_type_and_version.entry((node_type, node_version)).or_default() += nodes;
    }

    /// The summary of all that was added.
    #[must_use]
    pub fn finish(self) -> Summary {
        // Before the list is cut.
        let of_status = |status: Status| {
            let of_status = self.by_type_and_status.iter().filter(|((_, of), _)| *of == status);
            (status, of_status.map(|(_, nodes)| nodes).sum())
        };
        Summary {
            nodes: self.nodes,
            by_status: Status::ALL.map(of_status),
            by_type: counts(self.by_type),
            by_type_and_version: counts(self.by_type_and_version),
            by_type_and_status: counts(self.by_type_and_status),
        }
    }
}

fn counts<K: Ord + Hash>(counted: HashMap<K, u64>) -> Counts<K> {
    let mut entries: Vec<(K, u64)> = counted.into_iter().collect();
    entries.sort_unstable_by(|(key, nodes), (other_key, other)| {
        (Reverse(nodes), key).cmp(&(Reverse(other), other_key))
    });
    let left_out = entries.split_off(entries.len().min(MAX_ENTRIES));
    Counts { entries, not_listed: left_out.iter().map(|(_, nodes)| nodes).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_are_first_and_nothing_is_lost_where_a_list_is_cut() {
        let mut builder = SummaryBuilder::default();
        for n in 0..1_500_u32 {
            builder.add(format!("t{}", n % 3), format!("1.0.{n:04}"), Status::Unknown, 1);
        }
        builder.add("B".to_owned(), "1.0.0".to_owned(), Status::Healthy, 500);
        builder.add("t1".to_owned(), "1.0.0001".to_owned(), Status::Healthy, 2);
        let summary = builder.finish();
        assert_eq!(summary.nodes, 2_002);
        let types: Vec<(&str, u64)> =
            summary.by_type.entries.iter().map(|(node_type, nodes)| (node_type.as_str(), *nodes)).collect();
        assert_eq!(types, [("t1", 502), ("B", 500), ("t0", 500), ("t2", 500)]);
        let versions = summary.by_type_and_version;
        assert_eq!((versions.entries.len(), versions.not_listed), (MAX_ENTRIES, 501));
        let first = |at: usize| (versions.entries[at].0.1.as_str(), versions.entries[at].1);
        assert_eq!([first(0), first(1), first(2)], [("1.0.0", 500), ("1.0.0001", 3), ("1.0.0000", 1)]);
        assert_eq!(summary.by_status.map(|(_, nodes)| nodes), [502, 0, 1_500, 0]);
        assert_eq!(summary.by_type_and_status.entries.len(), 5);
    }
}
