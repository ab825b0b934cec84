//! Who waits for a change has a fleet with it.

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
