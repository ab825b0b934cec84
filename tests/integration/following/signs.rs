//! Signs of life that other replicas have taken.

use onex_registry::store::IfHeld;
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{Position, Store as _};
use sqlx::PgConnection;

use super::{LEADER, Setting, another, effect, key};
use crate::harness::{Backend, TestDatabase, sql};

/// Two replicas, and the owner of the database.
struct Two {
    one: Setting,
    other: PostgresStore,
    owner: PgConnection,
    database: TestDatabase,
}

impl Two {
    async fn open() -> Self {
        let mut one = Setting::open(Backend::Postgres).await;
        one.register(&["a", "b", "c"], &effect(0)).await;
        let database = one.database.take().unwrap();
        Self { one, other: another(&database).await, owner: database.connect().await, database }
    }

    /// Who gave signs of life since a position, and who registered anew.
    async fn read(&self, position: &mut Position) -> Vec<(Vec<String>, Vec<String>)> {
        let followed = self.one.follow(position).await;
        *position = followed.position;
        let ids = |keys: Vec<onex_registry::node::NodeKey>| {
            keys.into_iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>()
        };
        followed.signs.into_iter().map(|signs| (ids(signs.alive), ids(signs.renewed))).collect()
    }
}

fn alive(ids: &[&str]) -> (Vec<String>, Vec<String>) {
    (ids.iter().map(|id| (*id).to_owned()).collect(), Vec::new())
}

const INSERT: &str =
    "INSERT INTO onex_registry_signs (at, replica, alive) VALUES (clock_timestamp(), 'third', ";

#[tokio::test]
async fn those_that_others_took_are_read_once_and_own_ones_never() {
    let two = Two::open().await;
    let mut position = two.one.here().await;
    let beaten = two.other.heartbeat(&["a", "b"].map(key), IfHeld::Wait).await;
    two.one.store.heartbeat(&[key("c")], IfHeld::Wait).await;
    let at = beaten[0].as_ref().unwrap().life.last_heartbeat.unwrap();
    let followed = two.one.follow(&position).await;
    assert_eq!(followed.signs.len(), 1);
    assert_eq!((followed.signs[0].at, &followed.signs[0].alive), (at, &["a", "b"].map(key).to_vec()));
    assert!(followed.horizon.at >= at && followed.events.is_empty());
    position = followed.position;
    assert_eq!(two.read(&mut position).await, []);

    let write = super::registration("c", &effect(0));
    two.other.register(std::slice::from_ref(&write), IfHeld::Wait).await.results.pop().unwrap().unwrap();
    two.one.store.register(&[write], IfHeld::Wait).await.results.pop().unwrap().unwrap();
    assert_eq!(two.read(&mut position).await, [(vec![], vec!["c".to_owned()])]);
    let ids: Vec<_> = (0..5_000).map(|number| key(&format!("n{number}"))).collect();
    two.other.heartbeat(&ids, IfHeld::Wait).await;
    assert_eq!(two.read(&mut position).await, [], "nobody of them is there");
}

/// A trigger of the owner's in which a batch waits for as long as somebody has a lock.
const SLOW: &str = "
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON node_registrations FOR EACH ROW EXECUTE FUNCTION slow();";

#[tokio::test]
async fn own_ones_whose_answer_was_lost_are_read() {
    let mut two = Two::open().await;
    let store = another(&two.database).await;
    // A statement is a transaction, and takes effect without us.
    store.sessions_are_ours();
    let mut one = Setting { store: std::sync::Arc::new(store.clone()), database: None, folder: None };
    std::mem::swap(&mut one, &mut two.one);
    let mut position = two.one.here().await;
    two.one.store.heartbeat(&[key("a")], IfHeld::Wait).await;
    assert_eq!(two.read(&mut position).await, [], "its answer has come");

    sql::run(&mut two.owner, format!("{SLOW} SELECT pg_advisory_lock(7)")).await;
    let lost = tokio::spawn(async move { store.heartbeat(&[key("b")], IfHeld::Wait).await });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    sql::eventually("it waits", async || sql::value::<i64>(&mut two.owner, waits).await == 1).await;
    lost.abort();
    lost.await.unwrap_err();
    sql::run(&mut two.owner, "SELECT pg_advisory_unlock(7)").await;
    let heard = "SELECT last_heartbeat IS NOT NULL FROM node_registrations WHERE node_id = 'b'";
    sql::eventually("it takes effect", async || sql::value::<bool>(&mut two.owner, heard).await).await;
    // With those before it: which of them was answered is not known.
    assert_eq!(two.read(&mut position).await, [alive(&["a"]), alive(&["b"])]);
    two.one.store.heartbeat(&[key("c")], IfHeld::Wait).await;
    assert_eq!(two.read(&mut position).await, []);
}

#[tokio::test]
async fn what_was_loaded_is_not_read_again() {
    let two = Two::open().await;
    two.other.heartbeat(&["a", "b"].map(key), IfHeld::Wait).await;
    let (copy, loaded) = two.one.load().await;
    assert!(copy[&key("a")].last_heartbeat.is_some());
    let mut position = loaded.position;
    assert_eq!(two.read(&mut position).await, []);
    two.other.heartbeat(&[key("c")], IfHeld::Wait).await;
    assert_eq!(two.read(&mut position).await, [alive(&["c"])]);
}

#[tokio::test]
async fn who_commits_late_is_read_late_and_who_never_does_is_no_harm() {
    let mut two = Two::open().await;
    let database = &two.database;
    let (mut late, mut never) = (database.connect().await, database.connect().await);
    // One that has its number before the load, and one after.
    sql::run(&mut late, format!("BEGIN; {INSERT} '{{early}}')")).await;
    sql::run(&mut two.owner, format!("{INSERT} '{{loaded}}')")).await;
    let mut position = two.one.here().await;
    sql::run(&mut never, format!("BEGIN; {INSERT} '{{nobody}}')")).await;
    let mut later = database.connect().await;
    sql::run(&mut later, format!("BEGIN; {INSERT} '{{late}}')")).await;
    for round in 0..3 {
        let id = format!("r{round}");
        sql::run(&mut two.owner, format!("{INSERT} '{{{id}}}')")).await;
        assert_eq!(two.read(&mut position).await, [alive(&[&id])]);
    }
    sql::run(&mut never, "ROLLBACK").await;
    sql::run(&mut late, "COMMIT").await;
    assert_eq!(two.read(&mut position).await, [alive(&["early"])]);
    sql::run(&mut later, "COMMIT").await;
    assert_eq!(two.read(&mut position).await, [alive(&["late"])]);
    assert_eq!(two.read(&mut position).await, []);
    sql::run(&mut two.owner, format!("{INSERT} '{{on}}')")).await;
    assert_eq!(two.read(&mut position).await, [alive(&["on"])]);
}

#[tokio::test]
async fn those_that_nobody_needs_any_more_are_deleted_by_the_leader() {
    let mut two = Two::open().await;
    sql::run(
        &mut two.owner,
        "INSERT INTO onex_registry_signs (at, alive)
         SELECT clock_timestamp() - interval '61 seconds', '{old}'::text[] FROM generate_series(1, 2500)
         UNION ALL SELECT clock_timestamp() - interval '40 seconds', '{young}' FROM generate_series(1, 7)",
    )
    .await;
    let left = "SELECT count(*) FROM onex_registry_signs";
    two.one.store.forget_the_gone(&LEADER.into()).await.unwrap();
    assert_eq!(sql::value::<i64>(&mut two.owner, left).await, 2_507, "nobody leads");
    let lead = format!("UPDATE onex_registry_leases SET holder = '{LEADER}', expires_at = 'infinity'");
    sql::run(&mut two.owner, lead).await;
    two.one.store.forget_the_gone(&"another".into()).await.unwrap();
    assert_eq!(sql::value::<i64>(&mut two.owner, left).await, 2_507, "another leads");
    two.one.store.forget_the_gone(&LEADER.into()).await.unwrap();
    assert_eq!(sql::value::<i64>(&mut two.owner, left).await, 7);
    // Where the rows are that one has read is nobody's concern.
    let mut position = two.one.here().await;
    sql::run(&mut two.owner, format!("DELETE FROM onex_registry_signs; {INSERT} '{{next}}')")).await;
    assert_eq!(two.read(&mut position).await, [alive(&["next"])]);
}
