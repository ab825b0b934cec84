//! Finding a page of nodes at the cost of its length.
//!
//! There are three ways. Ids are looked up. If containment leaves few nodes, those are gone through. Else the lists that
//! have all that is wanted are walked from the cursor on, in the order of ids, and each node on the way is looked at.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::fleet::{Fleet, Found};
use super::lists::{ALL, Entry, List};
use super::node::Node;
use super::postings::Selected;
use super::tokens::Wanted;
use crate::node::{ColumnText, DiscoveryQuery, Filter, JsonColumn, NodeKey, Shown, Status};
use crate::store::page::Room;

/// What things cost, in steps from a node to the next on a list: to look at a node itself,
const NODE_COST: u64 = 4;
/// to read a node's JSON, besides one for so many bytes of it,
const READ_COST: u64 = 100;
const BYTES_PER_STEP: usize = 8;
/// to begin to walk a list,
const LIST_COST: u64 = 32;
/// to have several lists in one order, for each step,
const MERGE_COST: u64 = 4;
/// and to put one more node of a few in order.
const PICK_COST: u64 = 16;

/// No more pairs of types and versions than this are looked for one by one.
const MAX_PAIRS: usize = 512;

/// One page of a query. `None` if it takes more steps than that.
pub(super) fn page(fleet: &Fleet, query: &DiscoveryQuery, steps: u64) -> Option<Found> {
    let conditions = Conditions::of(query);
    let mut page = Page {
        fleet,
        conditions: &conditions,
        budget: Budget(steps),
        range: Range::of(query),
        room: Room::new(query.limit.get()),
        nodes: Vec::new(),
        sure: false,
    };
    page.fill()?;
    Some(Found { nodes: page.nodes, more: page.room.is_full() })
}

/// What a query asks of a node, whatever its page. Made once to be asked of many nodes.
pub struct Conditions<'q> {
    query: Cow<'q, DiscoveryQuery>,
    /// Of the columns.
    wanted: Vec<Wanted>,
}

impl<'q> Conditions<'q> {
    /// The conditions of a query.
    #[must_use]
    pub fn of(query: &'q DiscoveryQuery) -> Self {
        Self::new(Cow::Borrowed(query))
    }

    /// The same, for whoever keeps them.
    #[must_use]
    pub fn owning(query: DiscoveryQuery) -> Conditions<'static> {
        Conditions::new(Cow::Owned(query))
    }

    fn new(query: Cow<'q, DiscoveryQuery>) -> Self {
        let columns =
            [(JsonColumn::Capabilities, &query.capabilities), (JsonColumn::Metadata, &query.metadata)];
        let wanted =
            columns.into_iter().filter_map(|(column, object)| Some(Wanted::of(column, object.as_ref()?)));
        let wanted = wanted.collect();
        Self { query, wanted }
    }

    /// Whether they hold of a node, its status aside.
    #[must_use]
    pub fn hold(&self, node: &Node) -> bool {
        self.hold_of_id(node.id()) && self.hold_of_kind(node) && self.hold_of_columns(node)
    }

    /// Whether it is an id that is asked for.
    #[must_use]
    pub fn hold_of_id(&self, id: &NodeKey) -> bool {
        is_one_of(self.ids(), id.as_str())
            && self
                .query
                .node_id_prefix
                .as_ref()
                .is_none_or(|prefix| id.as_str().starts_with(prefix.as_str()))
    }

    /// Whether the type and the version are right.
    #[must_use]
    pub fn hold_of_kind(&self, node: &Node) -> bool {
        let kind = node.kind();
        is_one_of(self.types(), &kind.node_type)
            && is_one_of(self.versions(), &kind.node_version)
            && self
                .query
                .version_req
                .as_ref()
                .is_none_or(|range| kind.version.as_ref().is_some_and(|version| range.matches(version)))
    }

    /// Whether the columns contain what is wanted. They are read for that: it takes long.
    #[must_use]
    pub fn hold_of_columns(&self, node: &Node) -> bool {
        self.wanted.iter().all(|wanted| wanted.is_in(node.column(wanted.column)))
    }

    /// Whether two nodes are the same in all columns that something is wanted of.
    #[must_use]
    pub fn see_the_same(&self, one: &Node, other: &Node) -> bool {
        let is_same = |wanted: &Wanted| one.column(wanted.column) == other.column(wanted.column);
        std::ptr::eq(one, other) || self.wanted.iter().all(is_same)
    }

    /// Whether it is a status that is asked for.
    #[must_use]
    pub fn hold_of_status(&self, status: Status) -> bool {
        self.query.status.is_empty() || self.query.status.contains(&status)
    }

    fn ids(&self) -> Option<&[ColumnText]> {
        self.values(|filter| if let Filter::NodeId(ids) = filter { Some(ids) } else { None })
    }

    fn types(&self) -> Option<&[ColumnText]> {
        self.values(|filter| if let Filter::NodeType(types) = filter { Some(types) } else { None })
    }

    fn versions(&self) -> Option<&[ColumnText]> {
        self.values(|filter| if let Filter::NodeVersion(versions) = filter { Some(versions) } else { None })
    }

    fn values(&self, of: impl Fn(&Filter) -> Option<&Vec<ColumnText>>) -> Option<&[ColumnText]> {
        self.query.filters.iter().find_map(of).map(Vec::as_slice)
    }
}

/// Whether it is one of some values, if any are named. Those of a filter are in order.
fn is_one_of(values: Option<&[ColumnText]>, own: &str) -> bool {
    values.is_none_or(|values| values.binary_search_by(|value| value.as_str().cmp(own)).is_ok())
}

fn texts(values: &[ColumnText]) -> impl Iterator<Item = &str> {
    values.iter().map(ColumnText::as_str)
}

/// The ids that may be on the page.
struct Range<'q> {
    prefix: Option<&'q str>,
    after: Option<&'q str>,
    end: Option<String>,
}

impl<'q> Range<'q> {
    fn of(query: &'q DiscoveryQuery) -> Self {
        Self {
            prefix: query.node_id_prefix.as_ref().map(ColumnText::as_str),
            after: query.after.as_ref().map(NodeKey::as_str),
            end: query.node_id_prefix.as_ref().and_then(ColumnText::end_of_prefix),
        }
    }

    fn from(&self) -> Bound<&'q str> {
        match (self.prefix, self.after) {
            (Some(prefix), Some(after)) if prefix > after => Bound::Included(prefix),
            (_, Some(after)) => Bound::Excluded(after),
            (Some(prefix), None) => Bound::Included(prefix),
            (None, None) => Bound::Unbounded,
        }
    }

    fn is_before_end(&self, id: &str) -> bool {
        self.end.as_deref().is_none_or(|end| id < end)
    }

    fn contains(&self, id: &str) -> bool {
        self.after.is_none_or(|after| id > after)
            && self.prefix.is_none_or(|prefix| id >= prefix)
            && self.is_before_end(id)
    }
}

/// The steps that are left.
struct Budget(u64);

impl Budget {
    /// `None` if there are not so many.
    fn spend(&mut self, steps: u64) -> Option<()> {
        self.0 = self.0.checked_sub(steps)?;
        Some(())
    }
}

/// A page that is being filled.
struct Page<'f, 'q> {
    fleet: &'f Fleet,
    conditions: &'q Conditions<'q>,
    budget: Budget,
    range: Range<'q>,
    room: Room,
    nodes: Vec<Shown>,
    /// Whether type and version are right of all that is looked at.
    sure: bool,
}

/// Lists that have all nodes that are wanted, and maybe others.
struct Plan {
    lists: Vec<List>,
    /// How many on them have the right type and version, at the most.
    matching: usize,
    /// Whether all have.
    sure: bool,
}

impl Plan {
    fn nodes(&self) -> usize {
        self.lists.iter().map(|list| list.nodes).sum()
    }

    /// What it costs to find so many that match.
    fn cost(&self, limit: usize) -> u64 {
        let (lists, nodes) = (self.lists.len() as u64, self.nodes() as u64);
        let steps = ((limit as u64).saturating_mul(nodes) / (self.matching as u64).max(1)).min(nodes);
        lists * LIST_COST + steps * if lists > 1 { MERGE_COST } else { 1 }
    }
}

impl Page<'_, '_> {
    fn fill(&mut self) -> Option<()> {
        let conditions = self.conditions;
        if let Some(ids) = conditions.ids() {
            return self.look_up(ids);
        }
        let plan = self.plan()?;
        self.sure = plan.sure;
        for wanted in &self.conditions.wanted {
            let unlisted = self.fleet.index().unlisted(wanted.column);
            self.budget.spend((wanted.tokens.len() as u64 + unlisted) * NODE_COST)?;
        }
        let Some(selected) = self.select() else { return self.walk(&plan, None) };
        let limit = self.conditions.query.limit.get() + 1;
        // Of those that containment leaves, as many will have the right type and version as of the others.
        let (few, all) = (selected.len(), self.fleet.len().max(1) as u64);
        let steps =
            plan.cost(limit).max(plan.cost(usize::MAX).min((limit as u64).saturating_mul(all) / few.max(1)));
        if few * (PICK_COST + NODE_COST) <= steps {
            self.sure = false;
            self.pick(&selected)
        } else {
            self.walk(&plan, Some(&selected))
        }
    }

    /// Adds a node if it is wanted. `None` if there are no steps left.
    fn offer(&mut self, node: &Arc<Node>) -> Option<()> {
        self.budget.spend(NODE_COST)?;
        if !self.sure && !self.conditions.hold_of_kind(node) {
            return Some(());
        }
        // It may be seen alive at any time, and is to be shown as it was judged.
        let shown = self.fleet.show(node);
        if !self.conditions.hold_of_status(shown.moment.status) {
            return Some(());
        }
        for wanted in &self.conditions.wanted {
            let has_all_tokens = self.conditions.ids().is_none() && {
                let at = usize::from(wanted.column != super::index::SEARCHED[0]);
                node.unlisted()[at].is_none()
            };
            if !(wanted.exact && has_all_tokens) {
                let column = node.column(wanted.column);
                let steps = column.map_or(0, str::len) / BYTES_PER_STEP;
                self.budget.spend(READ_COST + steps as u64)?;
                if !wanted.is_in(column) {
                    return Some(());
                }
            }
        }
        if self.room.take(node.rendered_bytes()) {
            self.nodes.push(shown);
        }
        Some(())
    }

    /// The ids are in order.
    fn look_up(&mut self, ids: &[ColumnText]) -> Option<()> {
        for id in texts(ids) {
            if !self.range.contains(id) {
                continue;
            }
            if let Some(node) = self.fleet.slot(id).and_then(|slot| self.fleet.node(slot)) {
                self.offer(node)?;
            }
            if self.room.is_full() {
                break;
            }
        }
        Some(())
    }

    /// The nodes that containment leaves; `None` if there is no such condition.
    fn select(&self) -> Option<Selected> {
        let of_column = |wanted: &Wanted| {
            self.fleet.index().select(wanted, |slot| self.fleet.node(slot).map(|node| &**node))
        };
        self.conditions.wanted.iter().map(of_column).reduce(Selected::also_in)
    }

    /// The cheapest lists to walk. `None` if there are no steps left.
    fn plan(&mut self) -> Option<Plan> {
        let lists = self.fleet.lists();
        let query = &*self.conditions.query;
        let types: Option<Vec<List>> =
            self.conditions.types().map(|types| texts(types).filter_map(|one| lists.of_type(one)).collect());
        let versions: Option<Vec<List>> = match (self.conditions.versions(), &query.version_req) {
            (Some(versions), range) => {
                let in_range = |version: &&str| {
                    range.as_ref().is_none_or(|range| {
                        semver::Version::parse(version).is_ok_and(|version| range.matches(&version))
                    })
                };
                Some(texts(versions).filter(in_range).filter_map(|one| lists.of_version(one)).collect())
            }
            (None, Some(range)) => {
                self.budget.spend(lists.versions() as u64)?;
                Some(lists.in_range(range))
            }
            (None, None) => None,
        };
        let all = self.fleet.len();
        let count = |lists: &[List]| lists.iter().map(|list| list.nodes).sum::<usize>();
        let whole = |matching| Plan { lists: vec![List { number: ALL, nodes: all }], matching, sure: false };
        let plans = match (types, versions) {
            (None, None) => vec![Plan { sure: true, ..whole(all) }],
            (Some(lists), None) | (None, Some(lists)) => {
                let matching = count(&lists);
                vec![whole(matching), Plan { lists, matching, sure: true }]
            }
            (Some(types), Some(versions)) if types.len() * versions.len() <= MAX_PAIRS => {
                let pairs = types.iter().flat_map(|one| versions.iter().map(move |other| (*one, *other)));
                let lists: Vec<List> = pairs.filter_map(|(one, other)| lists.of_both(one, other)).collect();
                let matching = count(&lists);
                vec![
                    whole(matching),
                    Plan { lists: types, matching, sure: false },
                    Plan { lists, matching, sure: true },
                ]
            }
            (Some(types), Some(versions)) => {
                // As if the versions of one type were those of all.
                let matching = count(&types) * count(&versions) / all.max(1);
                vec![
                    whole(matching),
                    Plan { lists: types, matching, sure: false },
                    Plan { lists: versions, matching, sure: false },
                ]
            }
        };
        let limit = query.limit.get() + 1;
        plans.into_iter().min_by_key(|plan| plan.cost(limit))
    }

    /// Goes through lists in the order of ids.
    fn walk(&mut self, plan: &Plan, selected: Option<&Selected>) -> Option<()> {
        let fleet = self.fleet;
        let from = self.range.from();
        if let [list] = plan.lists[..] {
            return self.along(fleet.lists().from(list.number, from), 1, selected);
        }
        self.budget.spend(plan.lists.len() as u64 * LIST_COST)?;
        let merge = Merge::of(plan.lists.iter().map(|list| fleet.lists().from(list.number, from)));
        self.along(merge, MERGE_COST, selected)
    }

    fn along<'f>(
        &mut self,
        entries: impl Iterator<Item = &'f Entry>,
        cost: u64,
        selected: Option<&Selected>,
    ) -> Option<()> {
        for entry in entries {
            if self.room.is_full() || !self.range.is_before_end(entry.id.as_str()) {
                break;
            }
            self.budget.spend(cost)?;
            if selected.is_none_or(|selected| selected.contains(entry.slot))
                && let Some(node) = self.fleet.node(entry.slot)
            {
                self.offer(node)?;
            }
        }
        Some(())
    }

    /// Puts a few nodes in order, as far as the page goes.
    fn pick(&mut self, selected: &Selected) -> Option<()> {
        self.budget.spend(selected.len() * PICK_COST)?;
        let mut nodes = Vec::new();
        selected.for_each(|slot| {
            let node = self.fleet.node(slot);
            nodes.extend(node.filter(|node| self.range.contains(node.id().as_str())).map(ById).map(Reverse));
        });
        let mut nodes = BinaryHeap::from(nodes);
        while let Some(Reverse(ById(node))) = nodes.pop() {
            self.offer(node)?;
            if self.room.is_full() {
                break;
            }
        }
        Some(())
    }
}

/// A node in the order of ids.
struct ById<'f>(&'f Arc<Node>);

impl Ord for ById<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id().cmp(other.0.id())
    }
}

impl PartialOrd for ById<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ById<'_> {}

/// Several lists in one order. No node is on two of them.
struct Merge<'f, I: Iterator<Item = &'f Entry>> {
    lists: Vec<Peekable<I>>,
    /// The next of each list, and which list it is.
    next: BinaryHeap<Reverse<(&'f str, usize)>>,
}

impl<'f, I: Iterator<Item = &'f Entry>> Merge<'f, I> {
    fn of(lists: impl Iterator<Item = I>) -> Self {
        let mut lists: Vec<Peekable<I>> = lists.map(Iterator::peekable).collect();
        let next = lists
            .iter_mut()
            .enumerate()
            .filter_map(|(at, list)| list.peek().map(|entry| Reverse((entry.id.as_str(), at))))
            .collect();
        Self { lists, next }
    }
}

impl<'f, I: Iterator<Item = &'f Entry>> Iterator for Merge<'f, I> {
    type Item = &'f Entry;

    fn next(&mut self) -> Option<&'f Entry> {
        let Reverse((_, at)) = self.next.pop()?;
        let list = self.lists.get_mut(at)?;
        let entry = list.next();
        if let Some(next) = list.peek() {
            self.next.push(Reverse((next.id.as_str(), at)));
        }
        entry
    }
}
