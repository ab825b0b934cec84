//! The nodes in the order of their ids: all of them, those of each type, of each version, and of each of both.
//!
//! All lists are one tree, in which each list has a number. So a list of one node costs no more than a node in a long one,
//! whatever types and versions foreign writers think of.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use equivalent::Comparable;
use imbl::{OrdMap, OrdSet, Vector};

use crate::node::NodeKey;

/// The list of all nodes.
pub(super) const ALL: u32 = 0;

/// A node on a list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    list: u32,
    pub(super) slot: u32,
    pub(super) id: NodeKey,
}

/// A place on a list: before this id.
struct Place<'q> {
    list: u32,
    id: &'q str,
}

impl Entry {
    fn key(&self) -> (u32, &str) {
        (self.list, self.id.as_str())
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl equivalent::Equivalent<Entry> for Place<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        self.compare(entry).is_eq()
    }
}

impl Comparable<Entry> for Place<'_> {
    fn compare(&self, entry: &Entry) -> Ordering {
        (self.list, self.id).cmp(&entry.key())
    }
}

/// A type and a version, as some nodes have them, and the lists that those are on.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) node_type: Box<str>,
    pub(super) node_version: Box<str>,
    /// `None` if it doesn't parse.
    pub(super) version: Option<semver::Version>,
    /// All of this type.
    pub(super) of_type: u32,
    /// All of this version.
    pub(super) of_version: u32,
    /// All of both.
    pub(super) of_both: u32,
}

/// A list that has nodes on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) number: u32,
    pub(super) nodes: usize,
}

#[derive(Clone)]
struct VersionList {
    list: List,
    parsed: Option<Arc<semver::Version>>,
}

#[derive(Clone)]
struct KindList {
    nodes: usize,
    kind: Arc<Kind>,
}

/// All lists. A copy costs nothing.
#[derive(Clone, Default)]
pub(super) struct Lists {
    entries: OrdSet<Entry>,
    types: OrdMap<Arc<str>, List>,
    versions: OrdMap<Arc<str>, VersionList>,
    /// By the lists of type and version.
    kinds: OrdMap<(u32, u32), KindList>,
    /// Numbers that lists have had.
    free: Vector<u32>,
}

impl Lists {
    /// Puts a node on its lists, in place of what it was.
    pub(super) fn set(
        &mut self,
        id: &NodeKey,
        slot: u32,
        old: Option<&Arc<Kind>>,
        kind: [&str; 2],
    ) -> Arc<Kind> {
        if let Some(old) = old {
            if [&*old.node_type, &*old.node_version] == kind {
                return Arc::clone(old);
            }
            self.leave(id, old);
        } else {
            self.entries.insert(Entry { list: ALL, slot, id: id.clone() });
        }
        let kind = self.enter(kind);
        for list in [kind.of_type, kind.of_version, kind.of_both] {
            self.entries.insert(Entry { list, slot, id: id.clone() });
        }
        kind
    }

    /// Takes a node from its lists.
    pub(super) fn clear(&mut self, id: &NodeKey, old: &Arc<Kind>) {
        self.entries.remove(&Place { list: ALL, id: id.as_str() });
        self.leave(id, old);
    }

    /// One more of a kind.
    fn enter(&mut self, [node_type, node_version]: [&str; 2]) -> Arc<Kind> {
        let of_type = if let Some(list) = self.types.get_mut(node_type) {
            list.nodes += 1;
            list.number
        } else {
            let number = self.free_number();
            self.types.insert(node_type.into(), List { number, nodes: 1 });
            number
        };
        let of_version = if let Some(version) = self.versions.get_mut(node_version) {
            version.list.nodes += 1;
            version.list.number
        } else {
            let list = List { number: self.free_number(), nodes: 1 };
            let parsed = semver::Version::parse(node_version).ok().map(Arc::new);
            self.versions.insert(node_version.into(), VersionList { list, parsed });
            list.number
        };
        if let Some(list) = self.kinds.get_mut(&(of_type, of_version)) {
            list.nodes += 1;
            return Arc::clone(&list.kind);
        }
        let kind = Arc::new(Kind {
            node_type: node_type.into(),
            node_version: node_version.into(),
            version: semver::Version::parse(node_version).ok(),
            of_type,
            of_version,
            of_both: self.free_number(),
        });
        self.kinds.insert((of_type, of_version), KindList { nodes: 1, kind: Arc::clone(&kind) });
        kind
    }

    /// One less of a kind. What no node has any more is forgotten.
    fn leave(&mut self, id: &NodeKey, kind: &Kind) {
        for list in [kind.of_type, kind.of_version, kind.of_both] {
            self.entries.remove(&Place { list, id: id.as_str() });
        }
        let is_last = |nodes: &mut usize| {
            *nodes -= 1;
            *nodes == 0
        };
        if self.types.get_mut(&*kind.node_type).is_some_and(|list| is_last(&mut list.nodes)) {
            self.types.remove(&*kind.node_type);
            self.free.push_back(kind.of_type);
        }
        if self.versions.get_mut(&*kind.node_version).is_some_and(|version| is_last(&mut version.list.nodes))
        {
            self.versions.remove(&*kind.node_version);
            self.free.push_back(kind.of_version);
        }
        let both = (kind.of_type, kind.of_version);
        if self.kinds.get_mut(&both).is_some_and(|list| is_last(&mut list.nodes)) {
            self.kinds.remove(&both);
            self.free.push_back(kind.of_both);
        }
    }

    /// The number of a new list. All that were ever given are in use or free.
    fn free_number(&mut self) -> u32 {
        self.free.pop_front().unwrap_or_else(|| {
            let in_use = self.types.len() + self.versions.len() + self.kinds.len();
            // There are not more lists than three for each slot, and one.
            u32::try_from(in_use + 1).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn of_type(&self, node_type: &str) -> Option<List> {
        self.types.get(node_type).copied()
    }

    pub(super) fn of_version(&self, node_version: &str) -> Option<List> {
        self.versions.get(node_version).map(|version| version.list)
    }

    pub(super) fn of_both(&self, of_type: List, of_version: List) -> Option<List> {
        let list = self.kinds.get(&(of_type.number, of_version.number))?;
        Some(List { number: list.kind.of_both, nodes: list.nodes })
    }

    /// How many versions there are.
    pub(super) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// The lists of the versions in a range, in the order of their texts.
    pub(super) fn in_range(&self, range: &semver::VersionReq) -> Vec<List> {
        let in_range =
            |version: &&VersionList| version.parsed.as_ref().is_some_and(|version| range.matches(version));
        self.versions.values().filter(in_range).map(|version| version.list).collect()
    }

    /// A list from a place on.
    pub(super) fn from<'l>(
        &'l self,
        list: u32,
        from: Bound<&str>,
    ) -> impl Iterator<Item = &'l Entry> + use<'l> {
        let from = match from {
            Bound::Included(id) => Bound::Included(Place { list, id }),
            Bound::Excluded(id) => Bound::Excluded(Place { list, id }),
            Bound::Unbounded => Bound::Included(Place { list, id: "" }),
        };
        self.entries.range((from, Bound::Unbounded)).take_while(move |entry| entry.list == list)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.types.is_empty() && self.versions.is_empty() && self.kinds.is_empty()
    }
}
