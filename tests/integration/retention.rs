//! Old events are deleted, and nothing that is needed with them. How SQLite does it is tested where it is written.

mod beside_writers;

use std::time::Duration;

use onex_registry::node::Revision;
use onex_registry::store::Store as _;
use onex_registry::store::postgres::PostgresStore;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::harness::{Backend, TestServer, node, sql};

const HOLDER: &str = "the holder of the lease";
const WEEK: Duration = Duration::from_hours(7 * 24);

/// A server, its store as the replica has it that deletes old events, and the owner of the database.
struct Setting {
    server: TestServer,
    store: PostgresStore,
    owner: PgConnection,
}

impl Setting {
    async fn start() -> Self {
        let server = TestServer::start(Backend::Postgres).await;
        let database = server.database.as_ref().unwrap();
        let ttl = Duration::from_secs(90).into();
        let store = PostgresStore::connect(&database.url(), 4, ttl).await.unwrap();
        let mut owner = database.connect().await;
        hold_lease(&mut owner, HOLDER).await;
        Self { server, store, owner }
    }

    async fn stop(self) {
        self.store.close().await;
        self.server.stop().await;
    }

    async fn register(&self, id: &str, round: usize) -> Value {
        self.server.register(id, json!({"node_type": "effect", "metadata": {"round": round}})).await
    }

    /// Makes all events so far older than a week.
    async fn let_a_week_pass(&mut self) {
        let earlier = "UPDATE node_events SET occurred_at = occurred_at - interval '8 days'";
        sql::run(&mut self.owner, earlier).await;
    }

    /// The first pass, to its end. Returns how many were deleted.
    async fn prune(&self, retention: Duration) -> u64 {
        let mut deleted = 0;
        loop {
            let pruned = self.store.prune_events(&HOLDER.into(), retention).await.unwrap().unwrap();
            deleted += pruned.deleted;
            if !pruned.more {
                return deleted;
            }
        }
    }

    /// The second pass, to its end.
    async fn sweep(&self) -> u64 {
        let mut deleted = 0;
        let mut after = Some(Revision::ZERO);
        while let Some(from) = after {
            let swept = self.store.sweep_events(&HOLDER.into(), from).await.unwrap().unwrap();
            deleted += swept.deleted;
            after = swept.next;
        }
        deleted
    }

    async fn pruned_through(&mut self) -> i64 {
        sql::value(&mut self.owner, "SELECT pruned_through FROM onex_registry_state").await
    }

    async fn log(&mut self) -> Vec<(String, String)> {
        sql::kinds(&mut self.owner, 0).await
    }
}

async fn hold_lease(owner: &mut PgConnection, holder: &str) {
    let take = format!("UPDATE onex_registry_leases SET holder = '{holder}', expires_at = 'infinity'");
    sql::run(owner, take).await;
}

fn log(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(id, kind)| ((*id).to_owned(), (*kind).to_owned())).collect()
}

#[tokio::test]
async fn a_registered_node_keeps_its_revision_and_its_tag() {
    let mut setting = Setting::start().await;
    for (id, round) in [("a", 0), ("b", 0), ("gone", 0), ("b", 1), ("back", 0), ("maintained", 0)] {
        setting.register(id, round).await;
    }
    sql::run(
        &mut setting.owner,
        "UPDATE node_registrations SET maintenance = 'disk' WHERE node_id = 'maintained'",
    )
    .await;
    for id in ["gone", "back"] {
        assert_eq!(setting.server.delete(&node(id)).await.status, 204);
    }
    setting.register("back", 1).await;
    let of_life = "INSERT INTO node_events (revision, node_id, kind, actor, occurred_at)
                   VALUES (nextval('node_events_revision_seq'), 'a', 'stale', 'registry', NOW())";
    sql::run(&mut setting.owner, of_life).await;
    let before = setting.server.get("/v1/nodes").await;
    let tag = setting.server.get(&node("b")).await.header("etag").unwrap().to_owned();

    setting.let_a_week_pass().await;
    setting.register("young", 0).await;
    let newest = sql::newest(&mut setting.owner).await;
    assert_eq!(setting.prune(WEEK).await, 7);
    let kept = [
        ("a", "registered"),
        ("b", "updated"),
        ("maintained", "maintenance"),
        ("back", "registered"),
        ("young", "registered"),
    ];
    assert_eq!(setting.log().await, log(&kept));
    assert_eq!(setting.pruned_through().await, newest - 1);

    let after = setting.server.get("/v1/nodes").await.json();
    for old in before.json()["nodes"].as_array().unwrap() {
        assert!(after["nodes"].as_array().unwrap().contains(old), "{old} in {after}");
    }
    assert_eq!(after["revision"], newest);
    let same = [("if-match", tag.as_str())];
    let body = r#"{"node_type":"effect","metadata":{"round":1}}"#;
    let again = setting.server.send(Method::PUT, &node("b"), body, &same).await;
    assert_eq!(
        (again.status, again.header("etag").map(|new| new.split('.').next())),
        (200, Some(tag.split('.').next()))
    );
    setting.stop().await;
}

#[tokio::test]
async fn what_lies_behind_is_gone_and_the_pages_after_it_are_as_they_were() {
    let mut setting = Setting::start().await;
    for round in 0..30 {
        setting.register(&format!("n{}", round % 3), round).await;
    }
    setting.let_a_week_pass().await;
    for round in 30..60 {
        setting.register(&format!("n{}", round % 3), round).await;
    }
    let before = setting.server.get("/v1/events?after=35&limit=10").await.text;
    setting.prune(WEEK).await;
    assert_eq!(setting.pruned_through().await, 30);

    assert_eq!(setting.server.get("/v1/events?after=35&limit=10").await.text, before);
    for after in [0, 1, 29, 61] {
        setting.server.get(&format!("/v1/events?after={after}")).await.problem(410, "events-gone");
    }
    for query in ["after=30&limit=1000", "limit=1000"] {
        let page = setting.server.get(&format!("/v1/events?{query}")).await.json();
        let revisions: Vec<i64> = page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["revision"].as_i64().unwrap())
            .collect();
        assert_eq!(revisions, (31..=60).collect::<Vec<_>>(), "{query}");
    }
    // With nothing but what nodes need, the newest revision is still known.
    setting.let_a_week_pass().await;
    setting.server.delete(&node("n2")).await;
    setting.prune(Duration::ZERO).await;
    let end = setting.server.get("/v1/events").await;
    assert_eq!(
        (end.json(), end.header("registry-revision")),
        (json!({"events": [], "next_after": 61}), Some("61"))
    );
    assert_eq!(setting.server.get("/v1/nodes").await.json()["revision"], 61);
    setting.server.get("/v1/events?after=60").await.problem(410, "events-gone");
    setting.stop().await;
}

#[tokio::test]
async fn the_log_is_deleted_in_its_order_up_to_the_first_event_that_is_young() {
    let mut setting = Setting::start().await;
    for id in ["a", "b", "c", "d"] {
        setting.register(id, 0).await;
        setting.server.delete(&node(id)).await;
    }
    let old = |revisions: &str| {
        format!(
            "UPDATE node_events SET occurred_at = NOW() - interval '8 days' WHERE revision IN ({revisions})"
        )
    };
    // A clock was wrong: the third is younger than those after it.
    sql::run(&mut setting.owner, old("1, 2, 4, 5, 6")).await;
    assert_eq!(setting.prune(WEEK).await, 2);
    assert_eq!(setting.pruned_through().await, 2);
    sql::run(&mut setting.owner, old("3")).await;
    assert_eq!(setting.prune(WEEK).await, 4);
    assert_eq!((setting.pruned_through().await, setting.log().await.len()), (6, 2));
    assert_eq!(setting.prune(WEEK).await, 0);
    setting.stop().await;
}

#[tokio::test]
async fn batches_are_small_and_come_to_an_end() {
    let mut setting = Setting::start().await;
    sql::run(
        &mut setting.owner,
        "INSERT INTO node_registrations (node_id, node_type)
         SELECT 'n' || i, 'effect' FROM generate_series(1, 1250) AS i;
         UPDATE node_registrations SET metadata = '{\"x\": 1}'",
    )
    .await;
    setting.let_a_week_pass().await;
    for (deleted, more, through) in
        [(1_000, true, 1_000), (250, true, 2_000), (0, false, 2_500), (0, false, 2_500)]
    {
        let pruned = setting.store.prune_events(&HOLDER.into(), WEEK).await.unwrap().unwrap();
        assert_eq!((pruned.deleted, pruned.more), (deleted, more));
        assert_eq!(setting.pruned_through().await, through);
    }
    let first = setting.store.sweep_events(&HOLDER.into(), Revision::ZERO).await.unwrap().unwrap();
    assert_eq!((first.deleted, first.next.map(Revision::get)), (0, Some(2_250)), "1,250 are left");
    let last = setting.store.sweep_events(&HOLDER.into(), first.next.unwrap()).await.unwrap().unwrap();
    assert_eq!((last.deleted, last.next), (0, None));
    setting.stop().await;
}

#[tokio::test]
async fn what_was_kept_goes_when_no_node_needs_it_any_more() {
    let mut setting = Setting::start().await;
    for id in ["a", "b", "c", "d"] {
        setting.register(id, 0).await;
    }
    setting.let_a_week_pass().await;
    assert_eq!(setting.prune(WEEK).await, 0);
    assert_eq!(setting.sweep().await, 0);
    setting.register("a", 1).await;
    setting.server.delete(&node("b")).await;
    setting.server.delete(&node("c")).await;
    setting.register("c", 1).await;
    assert_eq!(setting.prune(WEEK).await, 0, "what is new is not old enough");
    assert_eq!(setting.sweep().await, 3);
    let left = [
        ("d", "registered"),
        ("a", "updated"),
        ("b", "deregistered"),
        ("c", "deregistered"),
        ("c", "registered"),
    ];
    assert_eq!(
        setting.log().await,
        log(&left),
        "the second pass touches nothing that a reader may still read"
    );
    assert_eq!(setting.pruned_through().await, 4);
    setting.stop().await;
}

#[tokio::test]
async fn only_who_has_the_lease_deletes() {
    let mut setting = Setting::start().await;
    setting.register("a", 0).await;
    setting.register("a", 1).await;
    setting.let_a_week_pass().await;
    hold_lease(&mut setting.owner, "another").await;
    assert_eq!(setting.store.prune_events(&HOLDER.into(), WEEK).await.unwrap(), None);
    assert_eq!(setting.store.sweep_events(&HOLDER.into(), Revision::ZERO).await.unwrap(), None);

    hold_lease(&mut setting.owner, HOLDER).await;
    assert_eq!(setting.pruned_through().await, 0);
    assert_eq!(setting.prune(WEEK).await, 1);
    setting.stop().await;
}
