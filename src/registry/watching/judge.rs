//! What a change means to somebody who has asked for certain nodes.

use std::sync::Arc;

use crate::node::{EventKind, Shown};
use crate::registry::catalog::{Change, Conditions, Fleet, Node};

/// A change that a watcher is told.
#[derive(Clone)]
pub struct Told {
    /// What happened.
    pub change: Arc<Change>,
    /// The node as it is now; `None` if it is gone.
    pub node: Option<Shown>,
    /// Whether the node is one that was asked for. If not, it was one before this, or may have been.
    pub matches: bool,
    /// The loading of the catalog that the change is of: another one may use its revision for something else.
    pub epoch: u64,
}

/// One who has asked for certain nodes, and looks at a fleet.
pub(super) struct Judge<'q> {
    conditions: &'q Conditions<'q>,
    fleet: &'q Fleet,
}

impl<'q> Judge<'q> {
    pub(super) fn new(conditions: &'q Conditions<'q>, fleet: &'q Fleet) -> Self {
        Self { conditions, fleet }
    }

    /// What to tell of a change, if anything. The node is judged as it is now: a later change may have come already.
    pub(super) fn told(&self, change: Arc<Change>) -> Option<Told> {
        // An id never changes: a node with another one was never asked for.
        if !self.conditions.hold_of_id(&change.event.node_id) {
            return None;
        }
        let mut verdicts = Verdicts::new(self.conditions);
        let present = self.fleet.get(&change.event.node_id);
        let node = present.map(|present| self.fleet.show(present));
        let has_status = |node: &Shown| self.conditions.hold_of_status(node.moment.status);
        let matches =
            node.as_ref().is_some_and(has_status) && present.is_some_and(|present| verdicts.hold(present));
        if !matches && !verdicts.concern(&change) {
            return None;
        }
        Some(Told { node, matches, epoch: self.fleet.epoch(), change })
    }

    /// Whether the node may have matched before the change or after it. Its status isn't looked at: what it was is not
    /// known any more, and a change may be that it is another one.
    pub(super) fn concerns(&self, change: &Change) -> bool {
        self.conditions.hold_of_id(&change.event.node_id) && Verdicts::new(self.conditions).concern(change)
    }
}

/// What was found out of the nodes of a change, whose ids are right. Most often they are one and the same, or differ in
/// what nothing is wanted of: to read their columns takes long, and many may want to know.
struct Verdicts<'c> {
    conditions: &'c Conditions<'c>,
    of_columns: Vec<(&'c Node, bool)>,
}

impl<'c> Verdicts<'c> {
    fn new(conditions: &'c Conditions<'c>) -> Self {
        Self { conditions, of_columns: Vec::new() }
    }

    fn concern(&mut self, change: &'c Change) -> bool {
        let registered = change.event.kind == EventKind::Registered.as_str();
        let before = match &change.before {
            Some(node) => self.hold(node),
            // There was none, or nobody knows any more which.
            None => !registered,
        };
        before
            || match &change.after {
                Some(node) => self.hold(node),
                // Of one that was registered and is gone again, nobody knows what it was.
                None => registered,
            }
    }

    fn hold(&mut self, node: &'c Node) -> bool {
        self.conditions.hold_of_kind(node) && self.columns_hold(node)
    }

    fn columns_hold(&mut self, node: &'c Node) -> bool {
        let known = self.of_columns.iter().find(|(other, _)| self.conditions.see_the_same(other, node));
        if let Some((_, verdict)) = known {
            return *verdict;
        }
        let verdict = self.conditions.hold_of_columns(node);
        self.of_columns.push((node, verdict));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fault::Path;
    use crate::node::{
        ColumnText, DiscoveryQuery, Event, Faults, Horizon, JsonObject, JsonText, NodeKey, NodeRecord,
        Revision, Timestamp, Ttl,
    };
    use crate::registry::catalog::Catalog;
    use crate::store::{Loaded, Position};

    /// A fleet of one node, `n`.
    fn fleet(metadata: &str, endpoints: &str) -> Arc<Fleet> {
        let catalog = Catalog::new(Ttl::from_seconds(90));
        let mut loading = catalog.load();
        let at = Timestamp::from_unix_micros(0);
        loading.take(NodeRecord {
            node_id: NodeKey::new("n").unwrap(),
            node_type: "effect".into(),
            node_version: "1.0.0".into(),
            capabilities: JsonText::from_database("{}"),
            endpoints: JsonText::from_database(endpoints),
            metadata: JsonText::from_database(metadata),
            health_endpoint: None,
            last_heartbeat: None,
            registered_at: at,
            updated_at: at,
            ttl_seconds: None,
            maintenance: None,
            revision: Revision::ZERO,
        });
        loading.finish(&Loaded { position: Position::default(), horizon: Horizon::at(at) }).unwrap();
        catalog.fleet().unwrap()
    }

    fn node(fleet: &Fleet) -> Arc<Node> {
        Arc::clone(fleet.get(&NodeKey::new("n").unwrap()).unwrap())
    }

    fn change(id: &str, kind: &str, before: Option<Arc<Node>>, after: Option<Arc<Node>>) -> Arc<Change> {
        let event = Event {
            revision: Revision::ZERO,
            node_id: NodeKey::new(id).unwrap(),
            kind: kind.into(),
            changed: vec![],
            actor: "anonymous".into(),
            correlation_id: None,
            occurred_at: Timestamp::from_unix_micros(0),
        };
        Arc::new(Change { event, before, after })
    }

    fn wants_a() -> Conditions<'static> {
        let raw = serde_json::from_str(r#"{"a":1}"#).unwrap();
        let metadata = JsonObject::read(raw, &Path::Root, &mut Faults::at_most(1));
        Conditions::owning(DiscoveryQuery { metadata, ..DiscoveryQuery::default() })
    }

    #[test]
    fn a_node_is_never_told_of_whose_id_was_not_asked_for() {
        let prefix = ColumnText::new("m");
        let of_others =
            Conditions::owning(DiscoveryQuery { node_id_prefix: prefix, ..DiscoveryQuery::default() });
        let fleet = fleet("{}", "{}");
        let judge = Judge::new(&of_others, &fleet);
        // Of what was read from the log, nobody knows what the node was.
        for kind in ["registered", "updated", "deregistered", "stale"] {
            assert!(judge.told(change("n", kind, None, None)).is_none(), "{kind}");
            assert!(!judge.concerns(&change("n", kind, None, None)), "{kind}");
            assert!(judge.told(change("m1", kind, None, None)).is_some() || kind == "registered", "{kind}");
        }
    }

    #[test]
    fn columns_are_read_once_if_they_are_the_same() {
        let conditions = wants_a();
        let (before, after, left) =
            (fleet(r#"{"a":1}"#, "{}"), fleet(r#"{"a":1}"#, r#"{"b":"c"}"#), fleet(r#"{"a":2}"#, "{}"));
        let (before, after, left) = (node(&before), node(&after), node(&left));
        let mut verdicts = Verdicts::new(&conditions);
        assert!(verdicts.hold(&before) && verdicts.hold(&after) && verdicts.hold(&before));
        assert_eq!(verdicts.of_columns.len(), 1);
        assert!(!verdicts.hold(&left) && verdicts.hold(&after));
        assert_eq!(verdicts.of_columns.len(), 2);
    }

    #[test]
    fn who_matched_or_does_is_told() {
        let conditions = wants_a();
        let (with, without) = (fleet(r#"{"a":1}"#, "{}"), fleet(r#"{"a":2}"#, "{}"));
        for (fleet, before, after, expected) in [
            (&with, &without, &with, Some(true)),
            (&without, &with, &without, Some(false)),
            (&without, &without, &with, Some(false)),
            (&without, &without, &without, None),
        ] {
            let change = change("n", "updated", Some(node(before)), Some(node(after)));
            let judge = Judge::new(&conditions, fleet);
            assert_eq!(judge.told(change).map(|told| told.matches), expected);
        }
    }
}
