//! The database is there, and answers nobody; or it is slow, and answers others.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgConnection;

use super::{STALE, put, start, until_back, until_open};
use crate::harness::proxy::Proxy;
use crate::harness::{Backend, TestDatabase, TestServer, sql};

/// Counts how often somebody has begun to write `b`, also where it came to nothing.
const COUNTED: &str = "
    CREATE SEQUENCE attempts;
    CREATE FUNCTION count_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.node_id = 'b' THEN PERFORM nextval('attempts'); END IF; RETURN NEW; END $$;
    CREATE TRIGGER count_attempts BEFORE INSERT ON node_registrations
        FOR EACH ROW EXECUTE FUNCTION count_attempts()";

async fn attempts(owner: &mut PgConnection) -> i64 {
    sql::value(owner, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM attempts").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_stopped_is_given_up_and_goes_on_where_it_was() {
    let (cluster, server) = start().await;
    assert_eq!(put(&server, "a").await.status, 201);
    sql::run(&mut cluster.connect().await, COUNTED).await;
    cluster.freeze();
    let begun = Instant::now();
    put(&server, "b").await.problem_of_an_outage();
    server.get("/v1/nodes?consistency=strong").await.problem_of_an_outage();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(server.ids("").await, ["a"]);
    until_open(&server).await;
    sql::eventually("it is said", async || server.get("/v1/nodes/a").await.header(STALE).is_some()).await;
    cluster.thaw();
    until_back(&server, "a").await;
    let mut owner = cluster.connect().await;
    let attempts = attempts(&mut owner).await;
    assert!(attempts <= 1, "it may have taken effect, and was tried {attempts} times");
    sql::eventually("all replicas see the same", async || {
        let strong = server.ids("consistency=strong").await;
        server.ids("").await == strong
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_in_the_middle_of_which_it_falls_silent_is_not_repeated() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database).await;
    let server = TestServer::start_on(proxy.url(), &super::SOON).await;
    assert_eq!(put(&server, "a").await.status, 201);
    // It takes effect after its answer can't be heard any more, and new connections are well.
    let mut owner = database.connect().await;
    sql::run(&mut owner, COUNTED).await;
    sql::run(&mut owner, "BEGIN; LOCK TABLE node_events IN ACCESS EXCLUSIVE MODE").await;
    let writing = put(&server, "b");
    let held = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'node_events'::regclass
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let mut other = database.connect().await;
        sql::eventually("it waits", async || sql::value::<i64>(&mut other, waits).await > 0).await;
        proxy.silence();
        sql::run(&mut owner, "ROLLBACK").await;
    };
    let (answer, ()) = futures_util::future::join(writing, held).await;
    // Its connection was lost, or found lost, before or after it took effect.
    if answer.status != 201 {
        answer.problem_of_an_outage();
    }
    until_back(&server, "c").await;
    assert_eq!(attempts(&mut owner).await, 1);
    server.stop().await;
}

/// It is not how long a call takes, but whether anybody is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_slow_is_waited_for() {
    let server =
        TestServer::start_with(Backend::Postgres, &["--database-silence=1s", "--breaker-failures=1"]).await;
    let mut owner = server.database.as_ref().unwrap().connect().await;
    sql::run(
        &mut owner,
        "CREATE FUNCTION own_pace() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$;
         CREATE TRIGGER own_pace BEFORE INSERT ON node_registrations FOR EACH ROW EXECUTE FUNCTION own_pace()",
    )
    .await;
    let begun = Instant::now();
    let answer = put(&server, "slow").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(server.get("/readyz").await.json()["breaker"], json!("closed"));
    server.stop().await;
}
