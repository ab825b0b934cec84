//! What no clock says and no client may send, but what a column can hold.

use std::time::Duration;

use onex_registry::store::Store as _;
use onex_registry::store::health::{ReplicaId, Rules};
use onex_registry::store::postgres::PostgresStore;

use super::SERVER_TTL;
use crate::harness::{TestDatabase, sql};

/// Every time with every other and every TTL.
const ROWS: &str = "
INSERT INTO node_registrations
       (node_id, node_type, last_heartbeat, updated_at, registered_at, ttl_seconds, health_endpoint)
SELECT 'n' || row_number() OVER (), 'effect', h.at, u.at, u.at, t.seconds, 'text'
  FROM (VALUES (NULL::timestamptz), ('-infinity'), ('4714-11-24 00:00:00+00 BC'), ('1826-01-01 00:00:00+00'),
               (now()), ('294276-12-31 23:59:59.999999+00'), ('infinity')) h (at),
       (VALUES ('-infinity'::timestamptz), ('4714-11-24 00:00:00+00 BC'), (now()),
               ('294276-12-31 23:59:59.999999+00'), ('infinity')) u (at),
       (VALUES (NULL::int), (-2147483648), (-1), (0), (1), (2147483647)) t (seconds)";

/// What stands in the state by a hand or a clock that is wrong.
const STATES: [&str; 5] = [
    "served_until = now(), outage_began = now() - interval '1 hour', outage_ended = now() - interval '1 minute'",
    "served_until = 'infinity', outage_began = '-infinity', outage_ended = 'infinity'",
    "served_until = '-infinity', outage_began = '-infinity', outage_ended = '-infinity'",
    "served_until = '4714-11-24 00:00:00+00 BC', outage_began = '4714-11-24 00:00:00+00 BC', outage_ended = now()",
    "served_until = NULL, outage_began = NULL, outage_ended = NULL",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_time_and_no_ttl_that_a_row_can_have_keeps_the_fleet_from_being_seen_to() {
    let database = TestDatabase::create().await;
    let store = PostgresStore::connect(&database.url(), 1, SERVER_TTL).await.unwrap();
    store.migrate().await.unwrap();
    let mut owner = database.connect().await;
    sql::run(&mut owner, ROWS).await;
    let leader = ReplicaId::random();
    assert!(store.tick(&leader, None, false).await.unwrap().leads);
    sql::run(&mut owner, "UPDATE onex_registry_leases SET expires_at = 'infinity'").await;
    let rules = |expire_after| Rules { expire_after, probing: true, uptime: Duration::MAX };
    let mut failed = Vec::new();
    for state in STATES {
        sql::run(&mut owner, format!("UPDATE onex_registry_state SET {state}")).await;
        for expire_after in [None, Some(Duration::ZERO), Some(Duration::from_hours(365 * 24))] {
            match store.census(&rules(expire_after)).await {
                Ok(census) => {
                    assert_eq!(census.counts.taking_part, 7 * 5 * 6, "{state}");
                    assert_eq!(census.changes.len(), 6 * 5 * 6, "{state}");
                }
                Err(error) => failed.push(format!("{state}, {expire_after:?}: {error:?}")),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    // Nor does it keep the others from being told of, and the dead from being removed.
    let rules = rules(Some(Duration::ZERO));
    let census = store.census(&rules).await.unwrap();
    let told = store.announce(&leader, &census.changes).await.unwrap();
    assert_eq!(told.len(), census.changes.len());
    let gone = store.expire(&leader, &census.overdue, &census.horizon, &rules).await;
    assert!(!gone.is_empty() && gone.into_iter().all(|gone| gone.unwrap()));
    let left = store.census(&rules).await.unwrap();
    assert!(left.changes.is_empty() && left.overdue.is_empty(), "{left:?}");
}
