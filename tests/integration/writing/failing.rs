//! What becomes of a batch when it isn't one of its items that fails.

use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{IfHeld, Store as _, StoreError};
use serde_json::json;
use sqlx::PgConnection;

use super::{key, open, register};
use crate::harness::{TestDatabase, sql};

/// Puts a function in the place of one of ours, which is called in the same way and does this.
async fn replace(owner: &mut PgConnection, name: &str, body: &str) {
    let replace = format!(
        "DO $$ BEGIN
            EXECUTE (SELECT format('CREATE OR REPLACE FUNCTION %s(%s) LANGUAGE plpgsql AS %L', proname,
                                   pg_get_function_arguments(oid), 'BEGIN {body} END')
                       FROM pg_proc WHERE proname = '{name}');
         END $$"
    );
    sql::run(owner, replace).await;
}

/// A store on a database where attempts are counted, also those that are rolled back.
async fn counted(ours: bool) -> (PostgresStore, PgConnection, TestDatabase) {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    if ours {
        store.sessions_are_ours();
    }
    let mut owner = database.connect().await;
    sql::run(&mut owner, "CREATE SEQUENCE attempts").await;
    (store, owner, database)
}

async fn attempts(owner: &mut PgConnection) -> i64 {
    sql::value(owner, "SELECT nextval('attempts') - 1").await
}

#[tokio::test]
async fn what_the_database_cannot_do_at_all_is_tried_once() {
    for ours in [false, true] {
        let (store, mut owner, _database) = counted(ours).await;
        let body = "PERFORM nextval(''attempts''); PERFORM * FROM there_is_no_such_table;";
        replace(&mut owner, "onex_registry_register", body).await;
        let batch: Vec<_> = (0..100).map(|n| register(&format!("n{n}"), &json!({}))).collect();
        let written = store.register(&batch, IfHeld::Wait).await;
        let failed = |result: &Result<_, _>| matches!(result, Err(StoreError::Failed(_)));
        assert!(written.results.iter().all(failed), "{:?}", written.results[0]);
        assert_eq!(attempts(&mut owner).await, 1);

        sql::run(&mut owner, "ALTER FUNCTION onex_registry_heartbeat RENAME TO gone").await;
        let ids: Vec<_> = (0..100).map(|n| key(&format!("n{n}"))).collect();
        let beaten = store.heartbeat(&ids, IfHeld::Wait).await;
        assert!(beaten.iter().all(|result| matches!(result, Err(StoreError::Failed(_)))));
    }
}

#[tokio::test]
async fn what_a_trigger_cannot_do_for_one_row_harms_no_other() {
    let (store, mut owner, _database) = counted(true).await;
    sql::run(
        &mut owner,
        "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF NEW.node_id = 'n7' THEN PERFORM * FROM there_is_no_such_table; END IF; RETURN NEW; END $$;
         CREATE TRIGGER own_rule BEFORE INSERT OR UPDATE ON node_registrations
            FOR EACH ROW EXECUTE FUNCTION own_rule()",
    )
    .await;
    let batch: Vec<_> = (0..10).map(|n| register(&format!("n{n}"), &json!({}))).collect();
    let written = store.register(&batch, IfHeld::Wait).await;
    let failed: Vec<usize> = (0..10).filter(|n| written.results[*n].is_err()).collect();
    assert_eq!(failed, [7]);
}

#[tokio::test]
async fn what_was_committed_and_cannot_be_read_is_not_done_again() {
    for ours in [false, true] {
        let (store, mut owner, _database) = counted(ours).await;
        for (name, told) in [
            ("onex_registry_register", "stored := ''{1000}''; numbers := ''{7}'';"),
            (
                "onex_registry_heartbeat",
                "noted := ''{1000}''; heartbeats := ''{NULL}''; ttls := ''{NULL}''; in_maintenance := ''{f}'';",
            ),
        ] {
            let body = format!("PERFORM nextval(''attempts''); at := now(); {told}");
            replace(&mut owner, name, &body).await;
        }
        let batch: Vec<_> = (0..100).map(|n| register(&format!("n{n}"), &json!({}))).collect();
        let written = store.register(&batch, IfHeld::Wait).await;
        let interrupted = |result: &Result<_, _>| matches!(result, Err(StoreError::Interrupted));
        assert!(written.results.iter().all(interrupted), "{:?}", written.results[0]);
        assert_eq!(attempts(&mut owner).await, 1);
        let ids: Vec<_> = (0..100).map(|n| key(&format!("n{n}"))).collect();
        let beaten = store.heartbeat(&ids, IfHeld::Wait).await;
        let interrupted = |result: &Result<_, _>| matches!(result, Err(StoreError::Interrupted));
        assert!(beaten.iter().all(interrupted), "{:?}", beaten[0]);
        assert_eq!(attempts(&mut owner).await, 3, "and it was asked in between");
    }
}
