//! Whatever happens, and in whatever order it is heard of, the catalog comes to be what the table is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::node::Event;
use crate::store::Signs;

const NODES: usize = 6;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Somebody writes to some nodes in one transaction: which, what, and whether by a batch of ours.
    Write { nodes: [usize; 3], deed: Deed, ours: bool },
    /// Somebody gives a sign of life, which is noted a little later.
    Beat { node: usize, ours: bool },
    /// A batch of ours is heard of: which of those that are durable.
    Hear(usize),
    /// The follower reads so many events.
    Read(usize),
    /// What it has read is heard of.
    Follow,
    /// The table is read anew.
    Load,
    /// And has been.
    Loaded,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Register(u8),
    Renew,
    Remove,
    Maintain(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let deed = prop_oneof![
        4 => (0..4_u8).prop_map(Deed::Register),
        1 => Just(Deed::Renew),
        2 => Just(Deed::Remove),
        1 => any::<bool>().prop_map(Deed::Maintain),
    ];
    let node = 0..NODES;
    prop_oneof![
        6 => ([node.clone(), node.clone(), node.clone()], deed, any::<bool>())
            .prop_map(|(nodes, deed, ours)| Step::Write { nodes, deed, ours }),
        3 => (node, any::<bool>()).prop_map(|(node, ours)| Step::Beat { node, ours }),
        6 => (0..4_usize).prop_map(Step::Hear),
        3 => prop_oneof![1 => 1..3_usize, 2 => Just(1_000)].prop_map(Step::Read),
        3 => Just(Step::Follow),
        1 => Just(Step::Load),
        2 => Just(Step::Loaded),
    ]
}

/// What a batch of ours, or a heartbeat of ours, is to tell the catalog.
enum News {
    Written(Vec<Recorded>, Vec<Outcome>),
    Beaten(NodeKey, Timestamp),
}

/// The database, the replica beside it, and what is under way between them.
struct World {
    catalog: &'static Catalog,
    /// With how many signs it has, and which events.
    loading: Option<(Loading<'static>, Loaded, usize, Revision)>,
    now: i64,
    table: BTreeMap<NodeKey, NodeRecord>,
    events: Vec<Event>,
    /// Each state of each node, and the revision that made it.
    states: HashMap<NodeKey, Vec<(Revision, Option<NodeRecord>)>>,
    signs: Vec<Signs>,
    /// With the time since when it is on its way.
    news: Vec<(i64, News)>,
    followed_to: Revision,
    signs_read: usize,
    read: Option<(i64, Followed)>,
}

fn id(node: usize) -> NodeKey {
    NodeKey::new(format!("n{node}")).unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            // A loading borrows it, and is kept beside it.
            catalog: Box::leak(Box::new(Catalog::new(TTL))),
            loading: None,
            now: 1_000_000_000,
            table: BTreeMap::new(),
            events: Vec::new(),
            states: HashMap::new(),
            signs: Vec::new(),
            news: Vec::new(),
            followed_to: Revision::ZERO,
            signs_read: 0,
            read: None,
        };
        // These were there before us.
        for node in 0..2 {
            let record = record(id(node).as_str(), 0);
            world.states.insert(record.node_id.clone(), vec![(Revision::ZERO, Some(record.clone()))]);
            world.table.insert(record.node_id.clone(), record);
        }
        world
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.now)
    }

    fn newest(&self) -> Revision {
        self.events.last().map_or(Revision::ZERO, |event| event.revision)
    }

    fn record_event(&mut self, id: &NodeKey, kind: &str) -> Event {
        // Gaps are normal.
        let revision = Revision::new(self.newest().get() + 1 + self.now / 1_000_000 % 2).unwrap();
        let event = Event {
            revision,
            node_id: id.clone(),
            kind: kind.into(),
            changed: vec![],
            actor: "anonymous".into(),
            correlation_id: None,
            occurred_at: self.at(),
        };
        self.events.push(event.clone());
        event
    }

    fn step(&mut self, step: Step) {
        /// Nothing takes longer than this to be heard of.
        const LATEST_MICROS: i64 = 40_000_000;
        /// Nor is the table read for longer than this.
        const LONGEST_LOADING_MICROS: i64 = 4_000_000;
        self.now += 1_000_000;
        let late = self.now - LATEST_MICROS;
        let begun = self.loading.as_ref().map(|(_, loaded, ..)| loaded.horizon.at.unix_micros());
        if begun.is_some_and(|begun| begun < self.now - LONGEST_LOADING_MICROS) {
            self.loaded();
        }
        if self.read.as_ref().is_some_and(|(since, _)| *since < late) {
            self.follow();
        }
        while let Some(which) = self.news.iter().position(|(since, _)| *since < late) {
            self.hear(which);
        }
        self.catalog.judged_by(Horizon::at(self.at()));
        match step {
            Step::Write { nodes, deed, ours } => self.write(nodes, deed, ours),
            Step::Beat { node, ours } => self.beat(node, ours),
            Step::Hear(which) => self.hear(which),
            Step::Read(most) => self.follow_up(most),
            Step::Follow => self.follow(),
            Step::Load => self.load(),
            Step::Loaded => self.loaded(),
        }
    }

    /// The follower is the one that loads: it does nothing else meanwhile.
    fn load(&mut self) {
        self.read = None;
        let mut loading = self.catalog.load();
        self.table.values().for_each(|record| loading.take(record.clone()));
        let newest = self.newest();
        self.loading = Some((loading, loaded(newest.get(), self.now), self.signs.len(), newest));
    }

    fn loaded(&mut self) {
        if let Some((loading, loaded, signs_read, followed_to)) = self.loading.take() {
            let epoch = self.catalog.fleet().map_or(0, |fleet| fleet.epoch());
            loading.finish(&loaded).unwrap();
            assert_eq!(self.catalog.fleet().unwrap().epoch(), epoch + 1);
            self.followed_to = followed_to;
            self.signs_read = signs_read;
        }
    }

    fn write(&mut self, nodes: [usize; 3], deed: Deed, ours: bool) {
        let previous = self.newest();
        let (mut events, mut outcomes, mut renewed) = (Vec::new(), Vec::new(), Vec::new());
        for node in HashSet::from(nodes) {
            let (id, at) = (id(node), self.at());
            let present = self.table.get(&id).cloned();
            let next = match (deed, present) {
                (Deed::Register(what), present) => {
                    let is_new = present.is_none();
                    let before =
                        present.unwrap_or(NodeRecord { registered_at: at, ..record(id.as_str(), 0) });
                    let metadata = JsonText::from_database(&format!(r#"{{"is":{what}}}"#));
                    Some((
                        NodeRecord { metadata, updated_at: at, ..before },
                        if is_new { "registered" } else { "updated" },
                    ))
                }
                (Deed::Renew, Some(present)) => {
                    let record = NodeRecord { updated_at: at, ..present };
                    self.table.insert(id.clone(), record.clone());
                    outcomes.push(written_as(record));
                    renewed.push(id);
                    continue;
                }
                (Deed::Maintain(out), Some(present)) => {
                    Some((NodeRecord { maintenance: out.then(|| "disk".into()), ..present }, "maintenance"))
                }
                (Deed::Remove, Some(_)) => None,
                (Deed::Renew | Deed::Maintain(_) | Deed::Remove, None) => continue,
            };
            let event = self.record_event(&id, next.as_ref().map_or("deregistered", |(_, kind)| kind));
            let revision = event.revision;
            events.push(event);
            let next = next.map(|(record, _)| NodeRecord { revision, ..record });
            self.states.entry(id.clone()).or_default().push((revision, next.clone()));
            if let Some(record) = next {
                self.table.insert(id, record.clone());
                outcomes.push(written_as(record));
            } else {
                self.table.remove(&id);
                outcomes.push(Outcome::Gone(id, revision));
            }
        }
        if ours {
            let recorded = if events.is_empty() { vec![] } else { vec![Recorded { previous, events }] };
            self.news.push((self.now, News::Written(recorded, outcomes)));
        } else if !renewed.is_empty() {
            self.signs.push(Signs { at: self.at(), alive: vec![], renewed });
        }
    }

    fn beat(&mut self, node: usize, ours: bool) {
        // A transaction may commit some time after its instant.
        let (id, at) = (id(node), Timestamp::from_unix_micros(self.now - 5_000_000));
        let Some(record) = self.table.get_mut(&id) else { return };
        let at = at.max(record.registered_at);
        record.last_heartbeat = record.last_heartbeat.max(Some(at));
        if ours {
            self.news.push((self.now, News::Beaten(id, at)));
        } else {
            self.signs.push(Signs { at, alive: vec![id], renewed: vec![] });
        }
    }

    fn hear(&mut self, which: usize) {
        if which >= self.news.len() {
            return;
        }
        match self.news.remove(which).1 {
            News::Written(recorded, outcomes) => {
                self.catalog.written(&recorded, outcomes.clone());
                let Some(fleet) = self.catalog.fleet() else { return };
                for outcome in outcomes {
                    let (id, revision) = match outcome {
                        Outcome::Present(record, _) => (record.node_id, record.revision),
                        Outcome::Gone(id, revision) => (id, revision),
                    };
                    assert!(self.is_at_least(&fleet, &id, revision), "{id} is not as it was written");
                }
            }
            News::Beaten(id, at) => {
                self.catalog.beaten(&[(id.clone(), at)]);
                if let Some(node) = self.catalog.fleet().and_then(|fleet| fleet.get(&id).cloned()) {
                    assert!(node.last_heartbeat() >= Some(at) || node.registered_at() > at);
                }
            }
        }
    }

    fn follow_up(&mut self, most: usize) {
        if let Some((mut loading, loaded, signs_read, after)) = self.loading.take() {
            let (read, to) = self.read_on(after, signs_read, most);
            loading.followed(&loaded, read);
            self.loading = Some((loading, loaded, self.signs.len(), to));
            return;
        }
        if self.catalog.fleet().is_none() || self.read.is_some() {
            return;
        }
        let (read, to) = self.read_on(self.followed_to, self.signs_read, most);
        self.read = Some((self.now, read));
        self.signs_read = self.signs.len();
        self.followed_to = to;
    }

    fn read_on(&self, after: Revision, signs_read: usize, most: usize) -> (Followed, Revision) {
        let events: Vec<Event> =
            self.events.iter().filter(|event| event.revision > after).take(most).cloned().collect();
        let named: HashSet<&NodeKey> = events.iter().map(|event| &event.node_id).collect();
        let records =
            named.into_iter().filter_map(|id| Some((id.clone(), self.table.get(id)?.clone()))).collect();
        let to = events.last().map_or(after, |event| event.revision);
        let read = Followed {
            records,
            snapshot: self.newest(),
            signs: self.signs[signs_read..].to_vec(),
            signs_are_missing: false,
            position: position(to.get()),
            horizon: Horizon::at(self.at()),
            lag: Duration::ZERO,
            events,
        };
        (read, to)
    }

    fn follow(&mut self) {
        if let Some((_, followed)) = self.read.take() {
            self.catalog.followed(followed);
        }
    }

    /// Whether a node in the fleet has a state that it had at a revision, or later.
    fn is_at_least(&self, fleet: &Fleet, id: &NodeKey, revision: Revision) -> bool {
        let states = self.states.get(id).map(Vec::as_slice).unwrap_or_default();
        let first = states.iter().rposition(|(since, _)| *since <= revision);
        let mut possible: Vec<Option<Revision>> = states[first.unwrap_or(0)..]
            .iter()
            .map(|(_, state)| state.as_ref().map(|record| record.revision))
            .collect();
        if first.is_none() {
            possible.push(None);
        }
        possible.contains(&fleet.get(id).map(|node| node.revision()))
    }

    /// What holds at any time.
    fn check(&self) -> Result<(), TestCaseError> {
        let Some(fleet) = self.catalog.fleet() else { return Ok(()) };
        for node in 0..NODES {
            let id = id(node);
            prop_assert!(self.is_at_least(&fleet, &id, fleet.revision()), "{} at {}", id, fleet.revision());
            if let Some(node) = fleet.get(&id) {
                let record = node.show(fleet.horizon(), TTL).record;
                let states = &self.states[&id];
                let (_, state) = states
                    .iter()
                    .find(|(_, state)| state.as_ref().is_some_and(|state| state.revision == node.revision()))
                    .unwrap();
                prop_assert_eq!(
                    Some(record.column(crate::node::JsonColumn::Metadata).unwrap()),
                    state.as_ref().map(|state| state.metadata.as_str())
                );
            }
        }
        let kept_after = fleet
            .changes_after(Revision::ZERO, usize::MAX)
            .err()
            .map_or(Revision::ZERO, |behind| behind.kept_after);
        let changes = fleet.changes_after(kept_after, usize::MAX).unwrap();
        let events: Vec<&Event> = changes.iter().map(|change| &change.event).collect();
        let recorded = self
            .events
            .iter()
            .filter(|event| event.revision > kept_after && event.revision <= fleet.revision());
        prop_assert_eq!(events, recorded.collect::<Vec<_>>());
        if let Some(third) = changes.get(2) {
            prop_assert_eq!(
                fleet.changes_after(third.event.revision, usize::MAX).unwrap().len(),
                changes.len() - 3
            );
        }
        Ok(())
    }

    fn records(&self) -> Vec<NodeRecord> {
        let fleet = self.catalog.fleet().unwrap();
        let horizon = *fleet.horizon();
        let shown = fleet.all().into_iter().map(|node| node.show(&horizon, TTL));
        shown.map(|shown| shown.record.read_back(&shown.moment).unwrap()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_catalog_comes_to_be_what_the_table_is(steps in vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check()?;
        }
        if world.catalog.fleet().is_none() {
            world.load();
        }
        world.loaded();
        world.follow();
        world.follow_up(usize::MAX);
        world.follow();
        while !world.news.is_empty() {
            world.hear(world.news.len() - 1);
            world.check()?;
        }
        let table: Vec<NodeRecord> = world.table.values().cloned().collect();
        prop_assert_eq!(world.records(), table);
        prop_assert_eq!(world.catalog.fleet().unwrap().revision(), world.newest());
        prop_assert_eq!(*world.catalog.revision().borrow(), Some(world.newest()));
    }
}
