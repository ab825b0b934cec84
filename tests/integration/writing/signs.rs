//! The journal of signs of life, which other replicas read.

use onex_registry::node::Timestamp;
use onex_registry::store::{IfHeld, RegisterWrite, Store as _};
use serde_json::json;
use sqlx::{PgConnection, Row as _};

use super::{key, open, register};
use crate::harness::{TestDatabase, sql};

/// A row of the journal; its instant in microseconds.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    at: i64,
    replica: String,
    alive: Vec<String>,
    renewed: Vec<String>,
}

/// Takes all rows out of the journal.
async fn take(connection: &mut PgConnection) -> Vec<Row> {
    let rows = sqlx::query(
        "WITH taken AS (DELETE FROM onex_registry_signs RETURNING *)
         SELECT (extract(epoch FROM at) * 1000000)::bigint AS at, replica, alive, renewed FROM taken ORDER BY id",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    rows.iter()
        .map(|row| Row {
            at: row.get("at"),
            replica: row.get("replica"),
            alive: row.get("alive"),
            renewed: row.get("renewed"),
        })
        .collect()
}

fn alive(id: &str) -> RegisterWrite {
    RegisterWrite { alive: true, ..register(id, &json!({})) }
}

#[tokio::test]
async fn a_batch_of_heartbeats_is_one_row_of_those_that_were_noted() {
    let database = TestDatabase::create().await;
    let (store, other) = (open(&database).await, open(&database).await);
    let mut owner = database.connect().await;
    store.register(&["a", "b", "c"].map(|id| register(id, &json!({}))), IfHeld::Wait).await;
    let beaten = store.heartbeat(&["c", "nobody", "a"].map(key), IfHeld::Wait).await;
    let rows = take(&mut owner).await;
    let noted = beaten[0].as_ref().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].alive.as_slice(), rows[0].renewed.len()), (&["a".to_owned(), "c".to_owned()][..], 0));
    assert_eq!(Some(rows[0].at), noted.life.last_heartbeat.map(Timestamp::unix_micros));
    other.heartbeat(&[key("b")], IfHeld::Wait).await;
    let others = take(&mut owner).await;
    assert_eq!(others[0].alive, ["b"]);
    assert_ne!(others[0].replica, rows[0].replica, "each replica knows its own");

    store.heartbeat(&["nobody", "no one"].map(key), IfHeld::Wait).await;
    store.heartbeat(&[], IfHeld::Wait).await;
    assert_eq!(take(&mut owner).await, [], "nothing was noted");
}

#[tokio::test]
async fn registrations_that_change_nothing_are_told_of_and_others_have_an_event() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    store.register(&[alive("a"), alive("b"), register("c", &json!({}))], IfHeld::Wait).await;
    assert_eq!(take(&mut owner).await, [], "they are new, and have an event each");
    let changed = RegisterWrite { alive: true, ..register("b", &json!({"new": 1})) };
    let again = store.register(&[alive("a"), changed, register("c", &json!({}))], IfHeld::Wait).await;
    let rows = take(&mut owner).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].alive.as_slice(), rows[0].renewed.as_slice()),
        (&["a".to_owned()][..], &["a".to_owned(), "c".to_owned()][..])
    );
    let record = &again.results[0].as_ref().unwrap().record;
    assert_eq!(rows[0].at, record.updated_at.unix_micros());
    assert_eq!(record.last_heartbeat, Some(record.updated_at));
}

#[tokio::test]
async fn what_was_rolled_back_is_not_in_the_journal() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    store.register(&["a", "b"].map(|id| register(id, &json!({}))), IfHeld::Wait).await;
    sql::run(
        &mut owner,
        "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.node_id = 'b' THEN RAISE EXCEPTION 'own_rule'; END IF; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER own_rule AFTER UPDATE ON node_registrations DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION own_rule()",
    )
    .await;
    store.heartbeat(&["a", "b"].map(key), IfHeld::Wait).await;
    let told: Vec<Vec<String>> = take(&mut owner).await.into_iter().map(|row| row.alive).collect();
    assert_eq!(told, [["a"]]);
}
