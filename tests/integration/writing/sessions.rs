//! How a batch gets to the database: in a transaction of several round trips, which any pooler takes, or as one named
//! statement, where sessions are known to be ours.

use onex_registry::node::Ttl;
use onex_registry::store::postgres::PostgresStore;
use onex_registry::store::{IfHeld, Store as _, StoreError};
use serde_json::json;
use sqlx::PgConnection;

use super::{key, open, register};
use crate::harness::{TestDatabase, sql};

/// A trigger of the owner's, which finds its table by the `search_path` of the writer.
const TELLS: &str = "
CREATE TABLE own_log (isolation TEXT, statement_timeout TEXT, named BOOLEAN);
CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO own_log VALUES (current_setting('transaction_isolation'), current_setting('statement_timeout'),
                                EXISTS (SELECT FROM pg_prepared_statements));
    RETURN NEW;
END $$;
CREATE TRIGGER own_rule BEFORE INSERT OR UPDATE ON node_registrations FOR EACH ROW EXECUTE FUNCTION own_rule()";

/// What the triggers have seen, each once.
async fn told(owner: &mut PgConnection) -> String {
    let told = "WITH gone AS (DELETE FROM own_log RETURNING *)
                SELECT string_agg(DISTINCT gone::text, ' ') FROM gone";
    sql::value(owner, told).await
}

#[tokio::test]
async fn a_batch_is_bounded_and_reads_committed_whatever_the_database_does_by_default() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let database = TestDatabase::create().await;
        let mut owner = database.connect().await;
        let name = database.name();
        let default = format!("ALTER DATABASE {name} SET default_transaction_isolation = '{level}'");
        sql::run(&mut owner, default).await;
        let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
        let store = open(&database).await;
        sql::run(&mut owner, TELLS).await;
        sql::run(&mut owner, read_only).await;
        for (ours, expected) in [(false, "(\"read committed\",10s,f)"), (true, "(\"read committed\",10s,t)")]
        {
            if ours {
                store.sessions_are_ours();
            }
            for round in 0..8 {
                let batch = ["a", "b"].map(|id| register(id, &json!({"round": [ours, round]})));
                for batch in [&batch[..1], &batch[..]] {
                    let written = store.register(batch, IfHeld::Wait).await;
                    assert!(written.results.iter().all(Result::is_ok), "{level} {:?}", written.results);
                }
                let beaten = store.heartbeat(&["a", "b"].map(key), IfHeld::Wait).await;
                assert!(beaten.iter().all(Result::is_ok), "{level} {beaten:?}");
            }
            assert_eq!(told(&mut owner).await, expected, "{level}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_at_commit_is_told_by_a_statement_that_is_a_transaction() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    store.sessions_are_ours();
    let mut owner = database.connect().await;
    sql::run(
        &mut owner,
        "CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.node_id = 'n7' THEN RAISE EXCEPTION 'own_rule'; END IF; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER own_rule AFTER INSERT OR UPDATE ON node_registrations DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION own_rule()",
    )
    .await;
    let batch: Vec<_> = (0..10).map(|n| register(&format!("n{n}"), &json!({}))).collect();
    let written = store.register(&batch, IfHeld::Wait).await;
    let refused: Vec<usize> = (0..10).filter(|n| written.results[*n].is_err()).collect();
    assert_eq!(refused, [7]);
    assert!(matches!(written.results[7], Err(StoreError::Refused(_))), "{:?}", written.results[7]);
    let alone = store.register(&batch[7..8], IfHeld::Wait).await;
    assert!(matches!(alone.results[0], Err(StoreError::Refused(_))), "{:?}", alone.results[0]);
    assert!(alone.recorded.is_empty());
    assert_eq!(sql::value::<i64>(&mut owner, "SELECT count(*) FROM node_events").await, 9);
}

#[tokio::test]
async fn connections_from_before_it_was_known_are_replaced() {
    let database = TestDatabase::create().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    let backends = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'onex-registry'";
    store.register(&[register("a", &json!({}))], IfHeld::Wait).await;
    let before: String = sql::value(&mut owner, backends).await;
    store.sessions_are_ours();
    for round in 0..20 {
        let written = store.register(&[register("a", &json!({ "round": round }))], IfHeld::Wait).await;
        assert!(written.results[0].is_ok());
    }
    sql::eventually("the old connections are closed", async || {
        let now: String = sql::value(&mut owner, backends).await;
        before.split(' ').all(|old| !now.split(' ').any(|pid| pid == old))
    })
    .await;
}

/// What is used one after another is the process whose caches are warm, and not each in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_one_after_another_go_over_the_connection_that_was_used_last() {
    let database = TestDatabase::create().await;
    let mut owner = database.connect().await;
    let store = open(&database).await;
    store.sessions_are_ours();
    sql::run(
        &mut owner,
        "CREATE TABLE own_log (pid INTEGER);
         CREATE FUNCTION own_rule() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO own_log VALUES (pg_backend_pid()); RETURN NEW; END $$;
         CREATE TRIGGER own_rule BEFORE INSERT OR UPDATE ON node_registrations FOR EACH ROW
            EXECUTE FUNCTION own_rule()",
    )
    .await;
    // There are as many connections as there may be.
    let at_once = (0..10).map(|n| {
        let batch = [register(&format!("n{n}"), &json!({}))];
        let store = &store;
        async move { store.register(&batch, IfHeld::Wait).await.results.into_iter().all(|done| done.is_ok()) }
    });
    assert!(futures_util::future::join_all(at_once).await.into_iter().all(|done| done));
    sql::run(&mut owner, "TRUNCATE own_log").await;
    for round in 0..100 {
        let written = store.register(&[register("a", &json!({ "round": round }))], IfHeld::Wait).await;
        assert!(written.results[0].is_ok());
    }
    // Others are told of it on one of them, and a machine that stands still makes one go back.
    let most = "SELECT max(n) FROM (SELECT count(*) AS n FROM own_log GROUP BY pid) AS of_a_process (n)";
    let most: i64 = sql::value(&mut owner, most).await;
    assert!(most >= 40, "no process has done more than {most} of 100");
}

/// A connection that is kept at hand would be of no use to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_connection_gets_the_one_that_comes_back() {
    let database = TestDatabase::create().await;
    open(&database).await;
    let store = PostgresStore::connect(&database.url(), 2, Ttl::from_seconds(90)).await.unwrap();
    store.sessions_are_ours();
    let calls = (0..40).map(|n| {
        let store = &store;
        async move {
            for round in 0..10 {
                let batch = [register(&format!("n{n}"), &json!({ "round": round }))];
                let written = store.register(&batch, IfHeld::Wait).await;
                assert!(written.results[0].is_ok(), "{:?}", written.results);
                store.records(&[key("n0")]).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(calls).await;
    sql::eventually("all have come back", async || store.connections().in_use == 0).await;
    store.close().await;
    let mut owner = database.connect().await;
    let left = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'onex-registry'";
    sql::eventually("all are closed", async || sql::value::<i64>(&mut owner, left).await == 0).await;
}

/// Plans are kept, and are not made anew when the table has grown.
#[tokio::test]
async fn a_plan_for_an_empty_table_does_for_a_fleet() {
    let database = TestDatabase::create().await;
    let mut owner = database.connect().await;
    // With one connection, which keeps its plans, and without statistics.
    let store = PostgresStore::connect(&database.url(), 1, Ttl::from_seconds(90)).await.unwrap();
    store.migrate().await.unwrap();
    for table in ["node_registrations", "node_events"] {
        sql::run(&mut owner, format!("ALTER TABLE {table} SET (autovacuum_enabled = off)")).await;
    }
    sql::run(&mut owner, "VACUUM ANALYZE").await;
    store.sessions_are_ours();
    for first in (0..3_000).step_by(20) {
        let ids: Vec<String> = (first..first + 20).map(|n| format!("n{n:04}")).collect();
        for version in [1, 2, 2] {
            let batch: Vec<_> = ids.iter().map(|id| register(id, &json!({ "version": version }))).collect();
            assert!(store.register(&batch, IfHeld::Wait).await.results.iter().all(Result::is_ok));
        }
        let mut ids: Vec<_> = ids.iter().map(|id| key(id)).collect();
        ids.push(key("nobody"));
        assert_eq!(store.heartbeat(&ids, IfHeld::Wait).await.iter().filter(|beat| beat.is_ok()).count(), 20);
    }
    // A connection that is closed has told what it has read.
    store.close().await;
    let read = "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
                         WHERE relname IN ('node_registrations', 'node_events'))::bigint
                     + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables
                         WHERE relname IN ('node_registrations', 'node_events'))::bigint";
    let written = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'node_registrations'";
    sql::eventually("all is counted", async || sql::value::<i64>(&mut owner, written).await == 9_000).await;
    let read: i64 = sql::value(&mut owner, read).await;
    assert!(read < 10 * 12_000, "{read} rows were read to write 12000");
}
