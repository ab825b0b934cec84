//! Who waits for a change has a fleet with it, and nobody is taken back.

use std::pin::pin;

use futures_util::FutureExt as _;

use super::*;

fn load(catalog: &Catalog, revision: i64) {
    catalog.load().finish(&loaded(revision, 0)).unwrap();
}

#[test]
fn a_fleet_that_is_not_loaded_is_not_waited_for() {
    let catalog = Catalog::new(TTL);
    assert!(catalog.fleet_with(Revision::ZERO).now_or_never().unwrap().is_none());
}

#[test]
fn a_fleet_that_lacks_the_change_is_not_taken_whatever_number_is_told() {
    let catalog = Catalog::new(TTL);
    load(&catalog, 5);
    let mut waiting = pin!(catalog.fleet_with(Revision::new(7).unwrap()));
    assert!(waiting.as_mut().now_or_never().is_none());
    // In the middle of a reload, after a restore: one fleet is shown, and the number of another was told.
    catalog.revision.send_replace(Some(Revision::new(9).unwrap()));
    assert!(waiting.as_mut().now_or_never().is_none(), "it has not got there");
    load(&catalog, 6);
    assert!(waiting.as_mut().now_or_never().is_none());
    load(&catalog, 8);
    let fleet = waiting.now_or_never().unwrap().unwrap();
    assert_eq!(fleet.revision(), Revision::new(8).unwrap());
}

#[test]
fn what_the_store_has_shown_is_in_the_fleet_that_is_shown_after_it() {
    let revision = |number| Revision::new(number).unwrap();
    let catalog = Catalog::new(TTL);
    let mut loading = catalog.load();
    assert_eq!(catalog.may_be_shown(revision(7)).now_or_never(), Some(true), "nothing is about to be there");
    assert!(loading.close(&loaded(5, 0)), "somebody has seen more");
    let mut newer = pin!(catalog.may_be_shown(revision(8)));
    let mut older = pin!(catalog.may_be_shown(revision(4)));
    assert_eq!((newer.as_mut().now_or_never(), older.as_mut().now_or_never()), (None, None));
    loading.finish(&loaded(5, 0)).unwrap();
    assert_eq!(newer.now_or_never(), Some(false), "the fleet is there, and older");
    assert_eq!(older.now_or_never(), Some(true));
    let mut loading = catalog.load();
    assert!(!loading.close(&loaded(6, 0)), "of what was shown, all is known by now");
}

#[test]
fn who_waits_for_a_loading_goes_on_without_it_if_it_ends_in_nothing() {
    let catalog = Catalog::new(TTL);
    let mut loading = catalog.load();
    assert!(!loading.close(&loaded(5, 0)));
    let mut waiting = pin!(catalog.may_be_shown(Revision::new(6).unwrap()));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    let mut another = catalog.load();
    assert_eq!(waiting.now_or_never(), Some(true));
    assert!(another.close(&loaded(5, 0)), "somebody has seen more");
    let mut waiting = pin!(catalog.may_be_shown(Revision::new(6).unwrap()));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    drop(loading);
    assert_eq!(waiting.as_mut().now_or_never(), None, "that came to nothing before");
    drop(another);
    assert_eq!(waiting.now_or_never(), Some(true));
}

#[test]
fn what_has_happened_since_the_table_was_read_is_there_when_it_is_shown() {
    let catalog = Catalog::new(TTL);
    let mut loading = catalog.load();
    loading.take(record("a", 1));
    let event = crate::node::Event {
        revision: Revision::new(2).unwrap(),
        node_id: NodeKey::new("a").unwrap(),
        kind: "deregistered".into(),
        changed: vec![],
        actor: "anonymous".into(),
        correlation_id: None,
        occurred_at: Timestamp::from_unix_micros(0),
    };
    let loaded = loaded(1, 1_000_000);
    let now = Horizon::at(Timestamp::from_unix_micros(2_000_000));
    let followed = Followed {
        events: vec![event],
        records: std::collections::HashMap::new(),
        snapshot: Revision::new(2).unwrap(),
        signs: vec![],
        signs_are_missing: false,
        position: position(2),
        horizon: now,
        lag: std::time::Duration::ZERO,
    };
    loading.followed(&loaded, followed);
    assert!(catalog.fleet().is_none());
    loading.finish(&loaded).unwrap();
    let fleet = catalog.fleet().unwrap();
    assert_eq!((fleet.len(), fleet.revision().get(), *fleet.horizon()), (0, 2, now));
    assert_eq!(fleet.changes_after(Revision::new(1).unwrap(), 9).map(|changes| changes.len()), Ok(1));
}
