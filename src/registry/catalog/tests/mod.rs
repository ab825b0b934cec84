//! The catalog against what it ought to be.

mod histories;
mod queries;
mod snapshots;
mod waiting;
mod wrong;

use super::*;
use crate::node::{DiscoveryQuery, Horizon, JsonText, NodeRecord};
use crate::store::{EventMark, Loaded, Position};

pub(super) const TTL: Ttl = Ttl::from_seconds(90);

pub(in crate::registry) fn record(id: &str, revision: i64) -> NodeRecord {
    NodeRecord {
        node_id: NodeKey::new(id).unwrap(),
        node_type: "effect".into(),
        node_version: "1.0.0".into(),
        capabilities: JsonText::from_database("{}"),
        endpoints: JsonText::from_database("{}"),
        metadata: JsonText::from_database("{}"),
        health_endpoint: None,
        last_heartbeat: None,
        registered_at: Timestamp::from_unix_micros(0),
        updated_at: Timestamp::from_unix_micros(0),
        ttl_seconds: None,
        maintenance: None,
        revision: Revision::new(revision).unwrap(),
    }
}

/// What a batch tells of a node that it has left like this.
pub(super) fn written_as(record: NodeRecord) -> Outcome {
    let shown = Arc::new(crate::node::ShownRecord::of(&record));
    Outcome::Present(record, shown)
}

pub(super) fn loaded(revision: i64, at: i64) -> Loaded {
    Loaded { position: position(revision), horizon: Horizon::at(Timestamp::from_unix_micros(at)) }
}

pub(super) fn position(revision: i64) -> Position {
    let mut position = Position::default();
    position.revision = Revision::new(revision).unwrap();
    position
}

#[test]
fn a_fleet_is_found_and_nothing_is_left_of_it() {
    let catalog = Catalog::new(TTL);
    assert!(catalog.fleet().is_none());
    let mut loading = catalog.load();
    for n in 0..500 {
        let mut record = record(&format!("n{n}"), n);
        record.node_version = format!("1.{}.0", n % 7);
        record.metadata = JsonText::from_database(&format!(r#"{{"n":{n},"of":[{},"x"]}}"#, n % 3));
        loading.take(record);
    }
    loading.finish(&loaded(500, 0)).unwrap();
    let fleet = catalog.fleet().unwrap();
    assert_eq!((fleet.len(), fleet.discover(&DiscoveryQuery::default()).nodes.len()), (500, 100));
    let mut fleet = Fleet::clone(&fleet);
    for n in 0..500 {
        fleet.remove(&NodeKey::new(format!("n{n}")).unwrap());
    }
    assert!(fleet.leaves_nothing());
    assert_eq!(catalog.fleet().unwrap().all().len(), 500, "a snapshot stays what it is");
}

#[test]
fn whatever_changes_what_is_shown_makes_another_edition() {
    let catalog = Catalog::new(TTL);
    assert_eq!(catalog.edition(), None, "nothing is loaded");
    let mut loading = catalog.load();
    loading.take(record("a", 1));
    loading.finish(&loaded(1, 0)).unwrap();
    let at = Timestamp::from_unix_micros(5);
    let a = NodeKey::new("a").unwrap();
    let digest = catalog.fleet().unwrap().get(&a).unwrap().digest();
    let calls: [(&str, &dyn Fn()); 5] = [
        ("a sign of life", &|| drop(catalog.beaten(&[(a.clone(), at)]))),
        ("a write", &|| drop(catalog.written(&[], vec![written_as(record("a", 1))]))),
        ("what the table has of signs of life", &|| catalog.lived(&[(a.clone(), digest)])),
        ("time", &|| catalog.judged_by(Horizon::at(at))),
        ("a loading", &|| catalog.load().finish(&loaded(1, 0)).unwrap()),
    ];
    for (name, call) in calls {
        let before = catalog.edition();
        assert!(before.is_some());
        assert_eq!(
            (catalog.fleet().map(|fleet| fleet.len()), catalog.edition()),
            (Some(1), before),
            "reading"
        );
        call();
        assert_ne!(catalog.edition(), before, "{name}");
    }
    let writing = catalog.write();
    assert_eq!(catalog.edition(), None, "somebody is about to change it");
    drop(writing);
    catalog.unload();
    assert_eq!(catalog.edition(), None);
}
