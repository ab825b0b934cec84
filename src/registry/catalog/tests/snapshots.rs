//! Readers see one state or the next, and never something in between; and a loading takes the place of what was, or of
//! nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::node::fault::Path;
use crate::node::{Event, Faults, JsonObject, PageLimit};

fn event(id: &str, revision: i64) -> Event {
    Event {
        revision: Revision::new(revision).unwrap(),
        node_id: NodeKey::new(id).unwrap(),
        kind: "updated".into(),
        changed: vec![],
        actor: "anonymous".into(),
        correlation_id: None,
        occurred_at: Timestamp::from_unix_micros(0),
    }
}

/// A batch that changes some nodes, with revisions from there on.
fn batch(ids: &[String], metadata: &str, first: i64) -> (Vec<Recorded>, Vec<Outcome>) {
    let numbered = || ids.iter().zip(first..);
    let events = numbered().map(|(id, revision)| event(id, revision)).collect();
    let outcomes = numbered().map(|(id, revision)| {
        written_as(NodeRecord { metadata: JsonText::from_database(metadata), ..record(id, revision) })
    });
    (vec![Recorded { previous: Revision::new(first - 1).unwrap(), events }], outcomes.collect())
}

fn object(text: &str) -> JsonObject {
    JsonObject::read(serde_json::from_str(text).unwrap(), &Path::Root, &mut Faults::at_most(1)).unwrap()
}

#[test]
fn readers_see_a_batch_as_a_whole_or_not_at_all() {
    const ROUNDS: i64 = 400;
    let ids: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
    let a_round = i64::try_from(ids.len()).unwrap();
    let catalog = Catalog::new(TTL);
    catalog.load().finish(&loaded(0, 0)).unwrap();
    let (recorded, outcomes) = batch(&ids, r#"{"round":0}"#, 1);
    catalog.written(&recorded, outcomes);
    let is_over = AtomicBool::new(false);
    let look = || {
        let mut seen = 0;
        while !is_over.load(Ordering::Relaxed) || seen == 0 {
            let fleet = catalog.fleet().unwrap();
            let round = fleet.revision().get() / a_round - 1;
            let all = DiscoveryQuery { limit: PageLimit::new(1_000).unwrap(), ..DiscoveryQuery::default() };
            let of_round =
                DiscoveryQuery { metadata: Some(object(&format!(r#"{{"round":{round}}}"#))), ..all.clone() };
            for query in [all, of_round] {
                let found = fleet.discover(&query);
                assert_eq!(found.nodes.len(), ids.len());
                for node in found.nodes {
                    assert_eq!(
                        node.record.column(crate::node::JsonColumn::Metadata),
                        Some(&*format!(r#"{{"round":{round}}}"#))
                    );
                    let known = fleet.show(fleet.get(node.record.node_id()).unwrap());
                    assert!(Arc::ptr_eq(&known.record, &node.record));
                }
            }
            let before_last = Revision::new(fleet.revision().get() - a_round).unwrap();
            assert_eq!(
                fleet.changes_after(before_last, usize::MAX).map(|changes| changes.len()),
                Ok(ids.len())
            );
            seen += 1;
        }
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(look), scope.spawn(look)];
        for round in 1..ROUNDS {
            let (recorded, outcomes) = batch(&ids, &format!(r#"{{"round":{round}}}"#), round * a_round + 1);
            catalog.written(&recorded, outcomes);
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn an_old_fleet_is_served_until_the_new_one_is_there() {
    let catalog = Catalog::new(TTL);
    let mut loading = catalog.load();
    loading.take(record("a", 7));
    assert!(catalog.fleet().is_none());
    loading.finish(&loaded(10, 10)).unwrap();
    let mut loading = catalog.load();
    loading.take(record("b", 3));
    let (recorded, outcomes) = batch(&["c".to_owned()], "{}", 11);
    catalog.written(&recorded, outcomes);
    let ids = || catalog.fleet().unwrap().all().iter().map(|node| node.id().to_string()).collect::<Vec<_>>();
    assert_eq!(ids(), ["a", "c"]);
    assert!(catalog.load().finish(&loaded(0, 0)).is_ok(), "somebody else was quicker");
    assert_eq!(loading.finish(&loaded(5, 5)), Err(NotAll));
    assert_eq!(ids(), Vec::<String>::new());
    assert_eq!(catalog.fleet().unwrap().epoch(), 2);
    // The database was restored: everything goes back.
    let mut loading = catalog.load();
    loading.take(record("b", 3));
    loading.finish(&loaded(5, 5)).unwrap();
    let fleet = catalog.fleet().unwrap();
    assert_eq!(
        (ids(), fleet.revision().get(), fleet.horizon().at.unix_micros()),
        (vec!["b".to_owned()], 5, 5)
    );
    assert_eq!(*catalog.revision().borrow(), Revision::new(5));
}

#[test]
fn what_was_too_much_to_remember_is_read_again() {
    let catalog = Catalog::new(TTL);
    let loading = catalog.load();
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(30_000_000));
    for n in 0..6 {
        let (recorded, outcomes) = batch(&[format!("n{n}")], &large, n + 1);
        catalog.written(&recorded, outcomes);
    }
    assert_eq!(loading.finish(&loaded(0, 0)), Err(NotAll));
    assert!(catalog.fleet().is_none());
    catalog.load().finish(&loaded(6, 0)).unwrap();
    assert!(catalog.fleet().is_some());
}

#[test]
fn a_batch_that_nothing_connects_waits_and_can_be_read_meanwhile() {
    let catalog = Catalog::new(TTL);
    catalog.load().finish(&loaded(0, 0)).unwrap();
    let (recorded, outcomes) = batch(&["b".to_owned()], "{}", 2);
    catalog.written(&recorded, outcomes);
    let fleet = catalog.fleet().unwrap();
    assert!(fleet.get(&NodeKey::new("b").unwrap()).is_some());
    assert_eq!((fleet.revision().get(), catalog.has_gap()), (0, true));
    let (recorded, outcomes) = batch(&["a".to_owned()], "{}", 1);
    catalog.written(&recorded, outcomes);
    let fleet = catalog.fleet().unwrap();
    assert_eq!((fleet.revision().get(), catalog.has_gap()), (2, false));
    let changes = fleet.changes_after(Revision::ZERO, usize::MAX).unwrap();
    assert_eq!(changes.iter().map(|change| change.event.node_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_was_written_a_moment_ago_is_kept_however_much_it_is() {
    let catalog = Catalog::new(TTL);
    catalog.load().finish(&loaded(0, 0)).unwrap();
    let ids: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    for round in 0..2 {
        let large = format!(r#"{{"round":{round},"filler":"{}"}}"#, "x".repeat(200_000));
        let (recorded, outcomes) = batch(&ids, &large, round * 100 + 1);
        catalog.written(&recorded, outcomes);
    }
    // What the second batch has changed was 20 MB before.
    let before_it = Revision::new(100).unwrap();
    let kept = catalog.fleet().unwrap().changes_after(before_it, usize::MAX).unwrap();
    let numbers: Vec<i64> = kept.iter().map(|change| change.event.revision.get()).collect();
    assert_eq!(numbers, (101..=200).collect::<Vec<_>>());
}
