//! Recording what nobody has recorded: rows that were changed while the triggers slept, or by a restore.

use onex_registry::node::{Event, EventKind};
use onex_registry::store::Unrecorded;

use super::{LEADER, Setting, apply, effect, key, on_each_store, revision, told};
use crate::harness::{Backend, sql};

on_each_store!(what_nobody_has_recorded_is_recorded_once, what_has_been_recorded_meanwhile_is_left_alone);

impl Setting {
    /// A change that no event tells of.
    async fn unseen(&self, statements: &'static str) {
        self.run(&format!("SET session_replication_role = replica; {statements}"), statements).await;
    }

    async fn repair(&self, changed: &[Unrecorded]) -> Vec<Event> {
        self.store.repair(&LEADER.into(), changed).await.unwrap().expect("it leads")
    }
}

fn unrecorded(id: &str, kind: EventKind, number: i64) -> Unrecorded {
    Unrecorded { node_id: key(id), kind, revision: revision(number) }
}

const CHANGE: &str = "
UPDATE node_registrations SET node_type = 'compute' WHERE node_id = 'changed';
DELETE FROM node_registrations WHERE node_id = 'gone';
INSERT INTO node_registrations (node_id, node_type) VALUES ('new', 'effect'), ('back', 'effect')";

async fn what_nobody_has_recorded_is_recorded_once(setting: &Setting) {
    setting.lead().await;
    setting.register(&["changed", "gone", "back", "same"], &effect(0)).await;
    let back = setting.load().await.0[&key("back")].revision.get();
    setting.deregister("back").await;
    let (mut copy, loaded) = setting.load().await;
    let of = |id: &str| copy[&key(id)].revision.get();
    let (changed, gone) = (of("changed"), of("gone"));
    setting.unseen(CHANGE).await;
    assert!(setting.follow(&loaded.position).await.events.is_empty());
    let found = [
        unrecorded("changed", EventKind::Updated, changed),
        unrecorded("gone", EventKind::Deregistered, gone),
        unrecorded("new", EventKind::Registered, 0),
        unrecorded("back", EventKind::Registered, back),
    ];
    let events = setting.repair(&found).await;
    let followed = setting.follow(&loaded.position).await;
    assert_eq!(events, followed.events);
    let expected =
        [("changed", "updated"), ("gone", "deregistered"), ("new", "registered"), ("back", "registered")];
    assert_eq!(told(&followed), expected);
    assert!(events.iter().all(|event| event.actor == "registry" && event.correlation_id.is_none()));
    let columns = "node_type node_version capabilities endpoints metadata health_endpoint ttl_seconds";
    assert_eq!(events[0].changed.join(" "), columns, "who knows which");
    assert!(events[1..].iter().all(|event| event.changed.is_empty()));
    apply(&mut copy, &followed);
    assert_eq!(copy, setting.discovered().await.value);

    assert_eq!(setting.repair(&found).await, [], "it has been recorded");
    assert_eq!(setting.repair(&[]).await, []);
    // By the new numbers nothing is amiss, but whoever says so again is believed.
    let now = [unrecorded("new", EventKind::Deregistered, i64::from(u32::MAX))];
    assert_eq!(setting.repair(&now).await, [], "it is there");
}

async fn what_has_been_recorded_meanwhile_is_left_alone(setting: &Setting) {
    setting.lead().await;
    setting.register(&["changed", "gone", "back", "there"], &effect(0)).await;
    let (copy, loaded) = setting.load().await;
    let of = |id: &str| copy[&key(id)].revision.get();
    let found = [
        unrecorded("changed", EventKind::Updated, of("changed")),
        unrecorded("gone", EventKind::Updated, of("gone")),
        unrecorded("back", EventKind::Deregistered, of("back")),
        unrecorded("there", EventKind::Deregistered, of("there")),
        unrecorded("new", EventKind::Registered, 0),
        unrecorded("nobody", EventKind::Registered, 0),
        unrecorded("nobody else", EventKind::Updated, 0),
    ];
    setting.register(&["changed", "new"], &effect(1)).await;
    setting.deregister("gone").await;
    setting.deregister("back").await;
    let position = setting.follow(&loaded.position).await.position;
    assert_eq!(setting.repair(&found).await, []);
    assert!(setting.follow(&position).await.events.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_repairs() {
    let setting = Setting::open(Backend::Postgres).await;
    setting.register(&["changed"], &effect(0)).await;
    let found = [unrecorded("changed", EventKind::Updated, 1)];
    assert!(setting.store.repair(&LEADER.into(), &found).await.unwrap().is_none(), "nobody leads");
    setting.lead().await;
    assert!(setting.store.repair(&"another".into(), &found).await.unwrap().is_none());
    assert_eq!(setting.repair(&found).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_a_row_is_not_waited_for_and_records_it_himself() {
    let setting = Setting::open(Backend::Postgres).await;
    setting.lead().await;
    setting.register(&["held", "free", "doomed"], &effect(0)).await;
    let (copy, loaded) = setting.load().await;
    setting.unseen("UPDATE node_registrations SET node_type = 'compute'").await;
    let mut holder = setting.database.as_ref().unwrap().connect().await;
    sql::run(&mut holder, "BEGIN; DELETE FROM node_registrations WHERE node_id = 'doomed'").await;
    sql::upsert(&mut holder, "held", "reducer", "{}").await.unwrap();
    let found = ["held", "free", "doomed"]
        .map(|id| unrecorded(id, EventKind::Updated, copy[&key(id)].revision.get()));
    let events = setting.repair(&found).await;
    assert_eq!(events.iter().map(|event| event.node_id.as_str()).collect::<Vec<_>>(), ["free"]);
    sql::run(&mut holder, "COMMIT").await;
    let followed = setting.follow(&loaded.position).await;
    assert_eq!(told(&followed), [("free", "updated"), ("doomed", "deregistered"), ("held", "updated")]);
    assert_eq!(setting.repair(&found).await, []);
}
