//! A look at the whole fleet finds what `Horizon` says of each node, in both stores, at one and the same instant.

mod both;
mod extremes;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use onex_registry::node::{Horizon, Timestamp, Ttl};
use onex_registry::store::Store as _;
use onex_registry::store::health::{Census, Rules};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use self::both::Both;
use crate::stores_agree::{holds, runtime};

/// The present instant of both stores, in microseconds.
const NOW: i64 = 1_790_000_000_123_456;
const SECOND: i64 = 1_000_000;
const YEAR: i64 = 365 * 86_400 * SECOND;
const SERVER_TTL_SECONDS: i64 = 90;
const SERVER_TTL: Ttl = Ttl::from_seconds(SERVER_TTL_SECONDS);

/// A row; times are microseconds before now.
#[derive(Debug, Clone)]
struct Node {
    last_heartbeat: Option<i64>,
    updated_at: i64,
    ttl_seconds: Option<i64>,
    maintenance: bool,
    health_endpoint: bool,
    told: Option<Told>,
}

/// What was told of a node, or of another one that had its id.
#[derive(Debug, Clone)]
struct Told {
    healthy: bool,
    of_this_life: bool,
    since: i64,
}

/// Until when the database was reached, and the last outage; times are microseconds before now.
#[derive(Debug, Clone)]
struct Served {
    until: Option<i64>,
    outage: Option<(i64, i64)>,
}

/// Ages at which something changes: of the TTLs below, of them and the time to expiry, and of outages.
fn age() -> impl Strategy<Value = i64> {
    let edges = select(vec![0, 1, 30, 60, 90, 120, 150, 180, 210, 240, 3_600, 3_660, 3_690, 7_200, 86_400]);
    prop_oneof![
        5 => (edges, -1..=1_i64).prop_map(|(seconds, micros)| seconds * SECOND + micros),
        2 => 0..300 * SECOND,
        1 => 0..40 * YEAR,
        1 => -100 * YEAR..0,
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let extremes = [0, -1, i64::from(i32::MIN), i64::from(i32::MAX)];
    let ttl = prop_oneof![4 => select(vec![1, 30, 60, 90, 3_600]), 1 => select(extremes.to_vec())];
    let told = (any::<bool>(), prop::bool::weighted(0.8), age())
        .prop_map(|(healthy, of_this_life, since)| Told { healthy, of_this_life, since });
    (
        option::weighted(0.8, age()),
        age(),
        option::of(ttl),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.3),
        option::weighted(0.6, told),
    )
        .prop_map(|(last_heartbeat, updated_at, ttl_seconds, maintenance, health_endpoint, told)| Node {
            last_heartbeat,
            updated_at,
            ttl_seconds,
            maintenance,
            health_endpoint,
            told,
        })
}

fn served() -> impl Strategy<Value = Served> {
    let until = prop_oneof![3 => Just(SECOND), 2 => age()];
    let outage = (age(), age()).prop_map(|(one, other)| (one.max(other), one.min(other)));
    (option::weighted(0.9, until), option::of(outage)).prop_map(|(until, outage)| Served { until, outage })
}

fn rules() -> impl Strategy<Value = Rules> {
    let expire_after = option::weighted(0.8, select(vec![0, 60, 3_600, 365 * 86_400]));
    let uptime = select(vec![0, 1, 60, 89, 90, 7_200, 100 * 365 * 86_400]);
    (expire_after, any::<bool>(), uptime).prop_map(|(expire_after, probing, uptime)| Rules {
        expire_after: expire_after.map(Duration::from_secs),
        probing,
        uptime: Duration::from_secs(uptime),
    })
}

/// What a census finds, but for what was one TTL ago.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    taking_part: u64,
    healthy: u64,
    changes: BTreeSet<(String, bool, i64)>,
    overdue: BTreeSet<String>,
    next_due: Option<i64>,
}

impl Findings {
    fn of(census: &Census) -> Self {
        let changes = census
            .changes
            .iter()
            .map(|change| (change.node_id.as_str().to_owned(), change.healthy, change.since.unix_micros()));
        Self {
            taking_part: census.counts.taking_part,
            healthy: census.counts.healthy,
            changes: changes.collect(),
            overdue: census.overdue.iter().map(|id| id.as_str().to_owned()).collect(),
            next_due: census.next_due.map(Timestamp::unix_micros),
        }
    }

    /// Said plainly.
    fn expected(nodes: &[Node], horizon: &Horizon, rules: &Rules) -> Self {
        let mut found = Self::default();
        let mut due = Vec::new();
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| !node.maintenance) {
            let id = id(index);
            let ttl = node.ttl_seconds.map_or(SERVER_TTL, Ttl::from_seconds);
            if let Some(sign) = node.last_heartbeat.map(ago) {
                let (healthy, seen) = (horizon.is_alive(sign, ttl), sign.min(horizon.at));
                let fades = horizon.ends(seen, ttl);
                found.healthy += u64::from(healthy);
                due.push(fades);
                let told = node.told.as_ref().filter(|told| told.of_this_life).map(|told| told.healthy);
                if told != Some(healthy) {
                    let since = if healthy { seen } else { fades };
                    found.changes.insert((id.clone(), healthy, since.unix_micros()));
                }
            }
            if node.last_heartbeat.is_none() && !(rules.probing && node.health_endpoint) {
                continue;
            }
            found.taking_part += 1;
            if let Some(expire_after) =
                rules.expire_after.filter(|_| ttl.micros() <= Ttl::from(rules.uptime).micros())
            {
                let last = node.last_heartbeat.map(ago).max(Some(ago(node.updated_at))).unwrap();
                let stale = horizon.ends(last.min(horizon.at), ttl);
                // Not before a TTL has passed since an outage, not even who was stale before it.
                let grace = horizon.outage.map(|outage| outage.ended.plus_micros(ttl.micros()));
                let leaves = grace.max(Some(stale.plus_micros(Ttl::from(expire_after).micros()))).unwrap();
                due.push(leaves);
                if leaves < horizon.at {
                    found.overdue.insert(id);
                }
            }
        }
        found.next_due = due.into_iter().filter(|due| *due >= horizon.at).min().map(Timestamp::unix_micros);
        found
    }
}

fn ago(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(NOW - micros)
}

fn id(index: usize) -> String {
    format!("n{index:02}")
}

#[test]
fn both_stores_find_what_the_horizon_says() {
    let runtime = runtime();
    let both = RefCell::new(runtime.block_on(Both::new()));
    // A property of fleets of which nothing is to be said would hold of anything.
    let seen = RefCell::new([0; 6]);
    holds(150, &(vec(node(), 0..40), served(), vec(rules(), 3)), |(nodes, served, rules)| {
        let mut both = both.borrow_mut();
        runtime.block_on(both.hold(&nodes, &served));
        for rules in &rules {
            let ours = runtime.block_on(both.postgres.census(rules)).unwrap();
            let theirs = runtime.block_on(both.sqlite.census(rules)).unwrap();
            prop_assert_eq!((ours.horizon.at, ours.horizon), (ago(0), theirs.horizon));
            let expected = Findings::expected(&nodes, &ours.horizon, rules);
            prop_assert_eq!(&Findings::of(&ours), &expected, "PostgreSQL, {:?}, {:?}", rules, ours.horizon);
            prop_assert_eq!(&Findings::of(&theirs), &expected, "SQLite, {:?}, {:?}", rules, ours.horizon);
            let told = |healthy| expected.changes.iter().any(|change| change.1 == healthy);
            let found = [
                ours.horizon.outage.is_some(),
                ours.horizon.outage.is_none(),
                told(true),
                told(false),
                !expected.overdue.is_empty(),
                expected.next_due == Some(NOW),
            ];
            seen.borrow_mut().iter_mut().zip(found).for_each(|(seen, found)| *seen += u32::from(found));
        }
        Ok(())
    });
    let seen = seen.borrow();
    assert!(seen.iter().all(|seen| *seen > 10), "{seen:?}");
}
