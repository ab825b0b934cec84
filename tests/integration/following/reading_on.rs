//! What has happened since a position.

use std::time::Duration;

use onex_registry::store::Position;

use super::{LEADER, Setting, apply, effect, is_gone, key, on_each_store, revision, told};

on_each_store!(
    each_change_is_read_once_with_the_nodes_as_they_are,
    many_changes_are_read_a_few_at_a_time,
    large_nodes_are_read_a_few_at_a_time,
    what_was_deleted_can_not_be_read,
    of_a_restored_database_nothing_is_read_on,
    where_the_last_event_is_another_nothing_is_read_on,
);

async fn each_change_is_read_once_with_the_nodes_as_they_are(setting: &Setting) {
    setting.register(&["a", "b", "stays"], &effect(0)).await;
    let (mut copy, loaded) = setting.load().await;
    setting.register(&["a", "new"], &effect(1)).await;
    setting.register(&["a"], &effect(2)).await;
    setting.register(&["stays"], &effect(0)).await;
    setting.set_maintenance("a", Some("a disk")).await;
    setting.deregister("b").await;
    let followed = setting.follow(&loaded.position).await;
    let expected = [
        ("a", "updated"),
        ("new", "registered"),
        ("a", "updated"),
        ("a", "maintenance"),
        ("b", "deregistered"),
    ];
    assert_eq!(told(&followed), expected);
    let event = &followed.events[0];
    assert_eq!(event.changed, ["metadata"]);
    assert_eq!((event.actor.as_str(), event.correlation_id.as_deref()), ("anonymous", Some("a request")));
    assert!(event.occurred_at <= followed.horizon.at && followed.lag < Duration::from_mins(1));
    let mut ids: Vec<&str> = followed.records.keys().map(onex_registry::node::NodeKey::as_str).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "new"], "who is gone is not there");
    let a = &followed.records[&key("a")];
    assert_eq!((a.maintenance.as_deref(), a.revision), (Some("a disk"), followed.events[3].revision));
    let seen = setting.discovered().await;
    assert_eq!((followed.snapshot, followed.position.revision), (seen.revision, seen.revision));

    apply(&mut copy, &followed);
    // That it registered again is no event.
    let stays = key("stays");
    copy.get_mut(&stays).unwrap().updated_at = seen.value[&stays].updated_at;
    assert_eq!(copy, seen.value);
    let again = setting.follow(&followed.position).await;
    assert!(again.events.is_empty() && again.lag.is_zero());
}

async fn many_changes_are_read_a_few_at_a_time(setting: &Setting) {
    let mut position = setting.here().await;
    let ids: Vec<String> = (0..1_000).map(|number| format!("n{number:04}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for round in 0..11 {
        setting.register(&ids, &effect(round)).await;
    }
    let seen = setting.discovered().await;
    let (mut events, mut reads) = (Vec::new(), Vec::new());
    loop {
        let followed = setting.follow(&position).await;
        assert!(followed.events.len() <= 5_000 && followed.snapshot == seen.revision);
        reads.push(followed.events.len());
        let more = followed.more();
        // The nodes are as they are, and not as the events left them.
        assert!(followed.records.values().all(|record| seen.value[&record.node_id] == *record));
        position = followed.position;
        events.extend(followed.events);
        if !more {
            break;
        }
    }
    assert_eq!(reads, [5_000, 5_000, 1_000]);
    assert_eq!(position.revision, seen.revision);
    assert!(events.is_sorted_by(|one, next| one.revision < next.revision));
    let named: Vec<&str> = events.iter().map(|event| event.node_id.as_str()).collect();
    assert_eq!(named, ids.repeat(11));
}

async fn large_nodes_are_read_a_few_at_a_time(setting: &Setting) {
    let position = setting.here().await;
    let body = serde_json::json!({"node_type": "effect", "metadata": {"x": "x".repeat(60_000)}});
    let ids: Vec<String> = (0..600).map(|number| format!("n{number}")).collect();
    for ids in ids.chunks(100) {
        setting.register(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &body).await;
    }
    let followed = setting.follow(&position).await;
    assert_eq!((followed.events.len(), followed.records.len(), followed.more()), (500, 500, true));
    let rest = setting.follow(&followed.position).await;
    assert_eq!((rest.events.len(), rest.records.len(), rest.more()), (100, 100, false));
}

async fn what_was_deleted_can_not_be_read(setting: &Setting) {
    setting.lead().await;
    let before = setting.here().await;
    setting.register(&["a", "b"], &effect(0)).await;
    setting.register(&["a"], &effect(1)).await;
    setting.deregister("a").await;
    let between = setting.follow(&before).await.position;
    setting.register(&["b"], &effect(1)).await;
    let pruned = setting.store.prune_events(&LEADER.into(), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(pruned.deleted, 4);
    assert!(is_gone(&setting.store.follow(&before).await));
    assert!(is_gone(&setting.store.follow(&between).await), "it may have been deleted");
    let (_, loaded) = setting.load().await;
    assert_eq!(loaded.position.revision, setting.discovered().await.revision);
    setting.register(&["c"], &effect(0)).await;
    assert_eq!(told(&setting.follow(&loaded.position).await), [("c", "registered")]);
}

async fn where_the_last_event_is_another_nothing_is_read_on(setting: &Setting) {
    setting.lead().await;
    setting.register(&["a"], &effect(0)).await;
    let then = setting.here().await;
    setting.register(&["a"], &effect(1)).await;
    let loaded = setting.here().await;
    let followed = setting.follow(&then).await.position;
    assert_eq!((loaded.revision, followed.last), (followed.revision, loaded.last));
    let newest = loaded.last.expect("there are events");
    let other = then.at_least(newest.revision, Some(newest));
    // The database was restored to what it was then, and has gone on since, farther than before.
    for round in 2..5 {
        setting.register(&["a"], &effect(round)).await;
    }
    for position in [&loaded, &followed, &other] {
        assert_eq!(setting.follow(position).await.events.len(), 3);
    }
    let replace = format!("UPDATE node_events SET occurred_at = now() WHERE revision = {}", newest.revision);
    setting.run(&replace, "UPDATE node_events SET occurred_at = occurred_at + 1 WHERE revision = 2").await;
    for position in [&loaded, &followed, &other] {
        assert!(is_gone(&setting.store.follow(position).await), "{position:?}");
    }
    let delete = format!("DELETE FROM node_events WHERE revision = {}", newest.revision);
    setting.run(&delete, "DELETE FROM node_events WHERE revision = 2").await;
    for position in [&loaded, &followed, &other] {
        assert!(is_gone(&setting.store.follow(position).await), "{position:?}");
    }
    // What is deleted because it is old is another matter.
    let here = setting.here().await;
    let pruned = setting.store.prune_events(&LEADER.into(), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(pruned.deleted, 3);
    setting.deregister("a").await;
    let gone = setting.store.prune_events(&LEADER.into(), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(gone.deleted, 1);
    let told = setting.store.follow(&here).await;
    assert!(is_gone(&told), "what came after it was deleted");
    let last = setting.here().await;
    setting.store.sweep_events(&LEADER.into(), revision(0)).await.unwrap();
    assert!(setting.follow(&last).await.events.is_empty());
}

async fn of_a_restored_database_nothing_is_read_on(setting: &Setting) {
    setting.register(&["a"], &effect(0)).await;
    let then = setting.here().await;
    setting.register(&["a"], &effect(1)).await;
    let now = setting.here().await;
    let restore = format!("DELETE FROM node_events WHERE revision > {}", then.revision);
    setting
        .run(
            &restore,
            "DELETE FROM node_events WHERE revision > 1;
             UPDATE sqlite_sequence SET seq = 1 WHERE name = 'node_events'",
        )
        .await;
    assert!(is_gone(&setting.store.follow(&now).await));
    assert_eq!(setting.follow(&then).await.events.len(), 0);
    assert_eq!(setting.here().await.revision, then.revision);
    assert!(now.revision > revision(1) && Position::default().revision < then.revision);
}
