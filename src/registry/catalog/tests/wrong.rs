//! What is known turns out to be wrong, or too old to go on from.

use super::*;
use crate::node::Event;

fn event(id: &str, revision: i64, at: i64) -> Event {
    Event {
        revision: Revision::new(revision).unwrap(),
        node_id: NodeKey::new(id).unwrap(),
        kind: "updated".into(),
        changed: vec![],
        actor: "anonymous".into(),
        correlation_id: None,
        occurred_at: Timestamp::from_unix_micros(at),
    }
}

/// A batch of ours, with the newest event before it.
fn write(catalog: &Catalog, previous: i64, events: Vec<Event>) {
    let outcomes =
        events.iter().map(|event| written_as(record(event.node_id.as_str(), event.revision.get())));
    let outcomes = outcomes.collect();
    catalog.written(&[Recorded { previous: Revision::new(previous).unwrap(), events }], outcomes);
}

/// Loaded when the fifth event was the newest, and gone on to the seventh.
fn catalog() -> Catalog {
    let catalog = Catalog::new(TTL);
    let mut loaded = loaded(5, 100);
    loaded.position.last = Some(EventMark::from(&event("a", 5, 50)));
    catalog.load().finish(&loaded).unwrap();
    write(&catalog, 5, vec![event("b", 6, 60), event("c", 7, 70)]);
    assert_eq!(catalog.fleet().map(|fleet| fleet.revision().get()), Some(7));
    catalog
}

#[tokio::test]
async fn after_a_write_that_does_not_go_on_from_what_is_known_nothing_is_known() {
    for (previous, events) in [
        // The numbers went back, to where all is remembered, to before it, and were set on.
        (5, vec![event("d", 6, 90)]),
        (4, vec![event("d", 5, 90)]),
        (5, vec![event("d", 9, 90)]),
    ] {
        let catalog = catalog();
        write(&catalog, previous, events);
        assert!(catalog.fleet().is_none() && catalog.revision().borrow().is_none());
        catalog.gap().await;
        catalog.load().finish(&loaded(5, 5)).unwrap();
        assert_eq!(catalog.fleet().unwrap().epoch(), 2, "who watches is told");
    }
}

#[test]
fn a_write_that_is_heard_of_late_is_no_contradiction() {
    let catalog = catalog();
    for (previous, events) in [
        (5, vec![event("b", 6, 60), event("c", 7, 70)]),
        (6, vec![event("c", 7, 70), event("d", 8, 80)]),
        (3, vec![event("a", 4, 40)]),
        (10, vec![event("a", 11, 110)]),
    ] {
        write(&catalog, previous, events);
    }
    assert_eq!(catalog.fleet().map(|fleet| fleet.revision().get()), Some(8));
}

#[test]
fn what_was_written_to_another_database_while_the_table_was_read_is_read_again() {
    let catalog = catalog();
    let loading = catalog.load();
    write(&catalog, 6, vec![event("d", 7, 90)]);
    let mut before = loaded(7, 75);
    before.position.last = Some(EventMark::from(&event("c", 7, 70)));
    assert_eq!(loading.finish(&before), Err(NotAll));
    assert!(catalog.fleet().is_none());
}

#[test]
fn removals_are_remembered_up_to_a_number_and_then_all_is_read_anew() {
    let catalog = catalog();
    let remove = |numbers: std::ops::Range<i64>| {
        let gone =
            numbers.map(|n| Outcome::Gone(NodeKey::new(format!("n{n}")).unwrap(), Revision::new(n).unwrap()));
        catalog.written(&[], gone.collect());
    };
    remove(1_000..2_000);
    assert!(catalog.fleet().is_some());
    remove(2_000..2_001);
    assert!(catalog.fleet().is_none());
}

#[test]
fn a_correction_takes_no_sign_of_life_back_that_came_since() {
    let (id, at) = (NodeKey::new("b").unwrap(), Timestamp::from_unix_micros);
    for (since, expected) in [(None, Some(at(10))), (Some(at(30)), Some(at(30)))] {
        let catalog = catalog();
        catalog.beaten(&[(id.clone(), at(20))]);
        let fleet = catalog.fleet().unwrap();
        let noted = fleet.get(&id).unwrap().digest();
        if let Some(since) = since {
            catalog.beaten(&[(id.clone(), since)]);
        }
        // Somebody has set it back, in a snapshot from before the last one.
        let record = NodeRecord { last_heartbeat: Some(at(10)), ..record("b", 6) };
        let horizon = Horizon::at(at(1_000));
        let snapshot = crate::store::Seen { value: (), revision: fleet.revision(), horizon };
        catalog.corrected(&snapshot, vec![Correction { record, noted }]);
        assert_eq!(catalog.fleet().unwrap().get(&id).unwrap().last_heartbeat(), expected);
    }
}

#[test]
fn the_signs_of_life_of_the_table_are_those_of_who_is_registered_as_then() {
    let (catalog, at) = (catalog(), Timestamp::from_unix_micros);
    let digest = |id: &str| catalog.fleet().unwrap().get(&NodeKey::new(id).unwrap()).unwrap().digest();
    let lives = |id: &str, registered_at| {
        let digest = Digest { last_heartbeat: Some(at(500)), registered_at, ..digest(id) };
        (NodeKey::new(id).unwrap(), digest)
    };
    let nobody = (NodeKey::new("nobody").unwrap(), digest("b"));
    catalog.lived(&[lives("b", at(0)), lives("c", at(400)), nobody]);
    assert_eq!((digest("b").last_heartbeat, digest("c").last_heartbeat), (Some(at(500)), None));
}

fn followed(events: Vec<Event>, records: Vec<NodeRecord>) -> Followed {
    let newest = events.last().unwrap().revision;
    Followed {
        events,
        records: records.into_iter().map(|record| (record.node_id.clone(), record)).collect(),
        snapshot: newest,
        signs: vec![],
        signs_are_missing: false,
        position: position(newest.get()),
        horizon: crate::node::Horizon::at(Timestamp::from_unix_micros(2_000)),
        lag: std::time::Duration::ZERO,
    }
}

#[test]
fn what_is_read_for_a_catalog_that_was_unloaded_meanwhile_is_let_go() {
    let catalog = catalog();
    catalog.unload();
    catalog.followed(followed(vec![event("d", 8, 80)], vec![record("d", 8)]));
    assert!(catalog.fleet().is_none());
}

#[test]
fn who_has_written_to_another_database_does_not_wait() {
    let catalog = catalog();
    let recorded = Recorded { previous: Revision::new(5).unwrap(), events: vec![event("d", 6, 90)] };
    let unknown = catalog.written(&[recorded], vec![written_as(record("nobody", 1))]);
    assert!(catalog.fleet().is_none() && unknown.is_empty(), "the store is asked");
}

#[tokio::test]
async fn nobody_waits_for_a_revision_once_nothing_is_known() {
    let catalog = catalog();
    let mut waiting = std::pin::pin!(catalog.reaches(Revision::new(9).unwrap()));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending() && catalog.has_gap());
    catalog.unload();
    waiting.await;
    // Revisions have gone back.
    catalog.load().finish(&loaded(5, 5)).unwrap();
    assert!(!catalog.has_gap());
}

#[test]
fn of_what_is_put_in_before_its_event_the_event_tells_what_it_was() {
    let (catalog, id) = (catalog(), NodeKey::new("b").unwrap());
    let was = Arc::clone(catalog.fleet().unwrap().get(&id).unwrap());
    let changed = NodeRecord { node_type: "other".into(), ..record("b", 6) };
    let horizon = crate::node::Horizon::at(Timestamp::from_unix_micros(1_000));
    let snapshot = crate::store::Seen { value: (), revision: Revision::new(7).unwrap(), horizon };
    catalog.beaten(&[(id.clone(), Timestamp::from_unix_micros(30))]);
    catalog.untold(&snapshot, vec![changed.clone(), record("new", 0)]);
    let fleet = catalog.fleet().unwrap();
    let node = fleet.get(&id).unwrap();
    assert_eq!(&*node.kind().node_type, "other");
    assert_eq!(node.last_heartbeat(), Some(Timestamp::from_unix_micros(30)));
    assert_eq!(fleet.revision().get(), 7);

    let events = vec![event("b", 8, 80), event("new", 9, 90), event("b", 10, 100)];
    let revision = |n| Revision::new(n).unwrap();
    let records = vec![NodeRecord { revision: revision(10), ..changed }, record("new", 9)];
    catalog.followed(followed(events, records));
    let told = catalog.fleet().unwrap().changes_after(revision(7), 9).unwrap_or_default();
    let before: Vec<_> =
        told.iter().map(|change| change.before.as_ref().map(|node| node.kind().node_type.clone())).collect();
    let [first, new, again] = &before[..] else { panic!("{before:?}") };
    assert_eq!((first.as_deref(), new.as_deref()), (Some(&*was.kind().node_type), None));
    assert_eq!(again.as_deref(), Some("other"), "it is told of once");
}
