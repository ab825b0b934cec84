//! Who waits for changes, at a registry on an SQLite file.

use tempfile::TempDir;

use super::*;
use crate::metrics::Metrics;
use crate::node::fault::Path;
use crate::node::registration::IdFrom;
use crate::node::{Actor, DiscoveryQuery, Faults, Origin, Precondition, Registration};
use crate::registry::catalog::Catalog;
use crate::registry::health::HealthSettings;
use crate::registry::reads::PATIENCE;
use crate::registry::{BreakerSettings, Parts};
use crate::store::RegisterWrite;
use crate::store::clock::SystemClock;
use crate::store::sqlite::SqliteStore;

/// A registry that is loaded.
async fn registry(folder: &TempDir) -> Arc<Registry> {
    let registry = start(folder).await;
    registry.catalog.revision().wait_for(Option::is_some).await.unwrap();
    Arc::new(registry)
}

async fn start(folder: &TempDir) -> Registry {
    let ttl = Duration::from_secs(90);
    let url = format!("sqlite://{}", folder.path().join("registry.db").display());
    let store = SqliteStore::open(&url, Arc::new(SystemClock), ttl.into()).await.unwrap();
    let health =
        HealthSettings { expire_after: None, preservation_percent: 15, probing: None, event_retention: None };
    let parts = Parts {
        store: Arc::new(store),
        metrics: Arc::new(Metrics::new().unwrap()),
        ttl,
        health,
        compare_every: None,
        slow: ttl,
        breaker: BreakerSettings { failures: 5, pause: ttl, silence: ttl },
        is_open: true,
        snapshot: None,
        restored: None,
    };
    Registry::start(parts).unwrap()
}

const NODES: u64 = 60;

/// Registers nodes of about 180 kB: a few of them are more than a page holds.
async fn register(registry: &Registry, round: usize) {
    let filler = "x".repeat(60_000);
    let columns = format!(r#""capabilities":{{"a":"{filler}"}},"endpoints":{{"a":"{filler}"}}"#);
    let write = |n| {
        let body =
            format!(r#"{{"node_type":"effect",{columns},"metadata":{{"round":{round},"a":"{filler}"}}}}"#);
        let raw = serde_json::from_str(&body).unwrap();
        let id = format!("n{n}");
        let registration =
            Registration::read(raw, &Path::Root, IdFrom::Path(&id), &mut Faults::at_most(1)).unwrap();
        let origin = Origin { actor: Actor::anonymous(), correlation_id: None };
        RegisterWrite { registration, alive: false, precondition: Precondition::None, origin }
    };
    for n in 0..NODES {
        registry.register(write(n)).await.unwrap();
    }
}

async fn snapshot(registry: &Arc<Registry>) -> Watcher {
    let nodes = DiscoveryQuery::default();
    registry.watch(WatchQuery { nodes, kinds: vec![], from: From::Snapshot }).await.unwrap()
}

/// As if it had begun long ago.
fn age(watcher: &mut Watcher) {
    let Phase::Snapshot(_, begun) = &mut watcher.phase else { panic!("the snapshot is over") };
    *begun = begun.checked_sub(LONGEST_SNAPSHOT).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_takes_for_ever_keeps_no_old_fleet_alive() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder).await;
    register(&registry, 0).await;
    let mut quick = snapshot(&registry).await;
    let mut slow = snapshot(&registry).await;
    for watcher in [&mut quick, &mut slow] {
        assert!(matches!(watcher.next().await, Notice::Snapshot(nodes) if !nodes.is_empty()));
    }
    age(&mut slow);
    assert!(matches!(slow.next().await, Notice::Snapshot(_)), "all that has changed since is kept anyway");
    for round in 1..3 {
        register(&registry, round).await;
    }
    registry.catalog.trim_as_after(Duration::from_mins(1));
    assert!(matches!(slow.next().await, Notice::End(End::SlowReader)));
    assert!(!slow.is_in_snapshot(), "the fleet is let go of, whatever its client does");
    while let Notice::Snapshot(_) = quick.next().await {}
    assert!(matches!(quick.phase, Phase::Behind), "it was quick enough, and goes on with the log");
    drop((quick, slow));
    registry.close().await;
}

/// What takes long has turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_take_long_wait_for_their_turns() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder).await;
    register(&registry, 0).await;
    let turns =
        registry.asides.acquire_many(u32::try_from(registry.asides.available_permits()).unwrap()).await;
    let crowded = registry.summary().await;
    assert!(matches!(crowded, Err(RegistryError::Crowded)), "not for ever");
    let mut summary = std::pin::pin!(registry.summary());
    assert!(futures_util::poll!(summary.as_mut()).is_pending());
    drop(turns);
    assert_eq!(summary.await.unwrap().value.nodes, NODES);
    registry.close().await;
}

/// A catalog that can't be loaded is not looked at again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_sleeps_as_long_as_the_catalog_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = start(&folder).await;
    // Nobody loads this one.
    registry.catalog = Arc::new(Catalog::new(registry.ttl));
    let query = DiscoveryQuery::default();
    // Longer than a revision is waited for that is not known yet.
    let wait = PATIENCE + Duration::from_secs(1);
    let mut waiting = std::pin::pin!(registry.await_change(&query, Revision::ZERO, wait));
    let mut polls = 0;
    let begun = Instant::now();
    std::future::poll_fn(|cx| {
        polls += 1;
        waiting.as_mut().poll(cx)
    })
    .await;
    assert!(begun.elapsed() >= wait);
    assert!(polls < 50, "it was woken up {polls} times");
    registry.close().await;
}
