//! Deleting old events from SQLite: by the writer, between its batches.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use super::keep_if_sound;
use super::write::BEGIN;
use crate::node::Revision;
use crate::store::clock::Clock;
use crate::store::retention::{BATCH, Pruned, Range, Swept, micros};
use crate::store::sqlite::pool::Pool;

/// The next events up to the first one that is not old enough. A clock that went back or ahead may keep some for
/// longer than was asked for; it never deletes what comes after a younger one.
const OLD: &str = "
SELECT max(revision) AS through, count(*) AS events
  FROM (SELECT revision, min(occurred_at < ?3) OVER (ORDER BY revision) AS old
          FROM (SELECT revision, occurred_at FROM node_events WHERE revision > ?1 ORDER BY revision LIMIT ?2))
 WHERE old";

/// The next events of those that the first pass has left.
const LEFT: &str = "
SELECT max(revision) AS through, count(*) AS events
  FROM (SELECT revision FROM node_events WHERE revision > ?1 AND revision <= ?3 ORDER BY revision LIMIT ?2)";

/// Without those that carry the revision of a registered node: the newest of their kinds, of a node that is there.
const DELETE: &str = "
DELETE FROM node_events AS e
 WHERE e.revision > ?1 AND e.revision <= ?2
   AND NOT (e.kind IN ('registered', 'updated', 'maintenance')
            AND NOT EXISTS (SELECT 1 FROM node_events newer
                             WHERE newer.node_id = e.node_id AND newer.revision > e.revision
                               AND newer.kind IN ('registered', 'updated', 'maintenance'))
            AND EXISTS (SELECT 1 FROM node_registrations n WHERE n.node_id = e.node_id))";

const RAISE: &str = "UPDATE onex_registry_state SET pruned_through = max(pruned_through, ?1)";

pub(super) async fn pruned_through(connection: &mut SqliteConnection) -> Result<Revision, sqlx::Error> {
    let through: i64 =
        sqlx::query_scalar("SELECT pruned_through FROM onex_registry_state").fetch_one(connection).await?;
    Ok(Revision::new(through).unwrap_or_default())
}

pub(super) async fn prune(
    pool: &Pool,
    retention: Duration,
    clock: &dyn Clock,
) -> Result<Pruned, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        let mut tx = connection.begin_with(BEGIN).await?;
        let after = pruned_through(&mut tx).await?.get();
        let before = clock.now().minus_micros(micros(retention)).unix_micros();
        let old = range(&mut tx, OLD, after, before).await?;
        let deleted = delete(&mut tx, &old).await?;
        if let Some(through) = old.through {
            sqlx::query(RAISE).bind(through).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(Pruned { deleted, more: old.is_full() })
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

pub(super) async fn sweep(pool: &Pool, after: Revision) -> Result<Swept, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let attempt = async {
        let mut tx = connection.begin_with(BEGIN).await?;
        let through = pruned_through(&mut tx).await?.get();
        let left = range(&mut tx, LEFT, after.get(), through).await?;
        let deleted = delete(&mut tx, &left).await?;
        tx.commit().await?;
        Ok(left.swept(deleted))
    };
    let result = attempt.await;
    keep_if_sound(connection, &result).await;
    result
}

async fn range(
    connection: &mut SqliteConnection,
    statement: &'static str,
    after: i64,
    bound: i64,
) -> Result<Range, sqlx::Error> {
    let row = sqlx::query(statement).bind(after).bind(BATCH).bind(bound).fetch_one(connection).await?;
    Ok(Range { after, through: row.try_get("through")?, events: row.try_get("events")? })
}

async fn delete(connection: &mut SqliteConnection, range: &Range) -> Result<u64, sqlx::Error> {
    let Some(through) = range.through else { return Ok(0) };
    Ok(sqlx::query(DELETE).bind(range.after).bind(through).execute(connection).await?.rows_affected())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::node::fault::Path;
    use crate::node::registration::IdFrom;
    use crate::node::{
        Actor, DiscoveryQuery, EventQuery, Faults, NodeKey, Origin, Precondition, Registration, Timestamp,
        Ttl,
    };
    use crate::store::sqlite::SqliteStore;
    use crate::store::{DeregisterWrite, IfHeld, RegisterWrite, Store as _, StoreError};

    const HOUR: Duration = Duration::from_hours(1);

    /// A clock that is set by hand.
    struct HandClock(AtomicI64);

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst))
        }
    }

    struct Setting {
        clock: Arc<HandClock>,
        store: SqliteStore,
        _folder: tempfile::TempDir,
    }

    fn origin() -> Origin {
        Origin { actor: Actor::anonymous(), correlation_id: None }
    }

    impl Setting {
        async fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("registry.db").display());
            let clock = Arc::new(HandClock(AtomicI64::new(1_790_000_000_000_000)));
            let store =
                SqliteStore::open(&url, Arc::clone(&clock) as _, Ttl::from_seconds(90)).await.unwrap();
            Self { clock, store, _folder: folder }
        }

        fn pass(&self, micros: i64) {
            self.clock.0.fetch_add(micros, Ordering::SeqCst);
        }

        async fn register(&self, id: &str, node_type: &str) {
            self.register_all(&[id.to_owned()], node_type).await;
        }

        async fn register_all(&self, ids: &[String], node_type: &str) {
            let raw = serde_json::value::to_raw_value(&serde_json::json!({"node_type": node_type})).unwrap();
            let write = |id: &String| {
                let mut faults = Faults::at_most(1);
                let registration =
                    Registration::read(&raw, &Path::Root, IdFrom::Path(id), &mut faults).unwrap();
                RegisterWrite {
                    registration,
                    alive: false,
                    precondition: Precondition::None,
                    origin: origin(),
                }
            };
            let writes: Vec<RegisterWrite> = ids.iter().map(write).collect();
            assert!(self.store.register(&writes, IfHeld::Wait).await.results.iter().all(Result::is_ok));
        }

        async fn deregister(&self, id: &str) {
            self.deregister_all(&[id.to_owned()]).await;
        }

        async fn deregister_all(&self, ids: &[String]) {
            let write = |id: &String| {
                let node_id = NodeKey::new(id.as_str()).unwrap();
                DeregisterWrite { node_id, precondition: Precondition::None, origin: origin() }
            };
            let writes: Vec<DeregisterWrite> = ids.iter().map(write).collect();
            assert!(self.store.deregister(&writes, IfHeld::Wait).await.results.iter().all(Result::is_ok));
        }

        async fn prune(&self) -> Pruned {
            self.store.prune_events(&"".into(), HOUR).await.unwrap().unwrap()
        }

        async fn sweep(&self, after: i64) -> Swept {
            self.store.sweep_events(&"".into(), Revision::new(after).unwrap()).await.unwrap().unwrap()
        }

        /// The revisions of the log, and of the nodes in the order of their ids.
        async fn revisions(&self) -> (Vec<i64>, Vec<i64>) {
            let log = sqlx::query_scalar("SELECT revision FROM node_events ORDER BY revision");
            let nodes = self.store.discover(&DiscoveryQuery::default()).await.unwrap().value.records;
            (
                log.fetch_all(&mut *self.store.writer.acquire().await.unwrap()).await.unwrap(),
                nodes.iter().map(|record| record.revision.get()).collect(),
            )
        }

        async fn read(&self, after: Option<i64>) -> Result<Vec<i64>, StoreError> {
            let after = after.and_then(Revision::new);
            let query = EventQuery { after, ..EventQuery::default() };
            let page = self.store.events(&query).await?;
            assert_eq!(page.value.next_after, page.revision);
            Ok(page.value.events.iter().map(|event| event.revision.get()).collect())
        }
    }

    #[tokio::test]
    async fn what_is_older_than_the_retention_goes_and_what_nodes_need_stays() {
        let setting = Setting::open().await;
        setting.register("a", "effect").await;
        setting.register("b", "effect").await;
        setting.register("b", "compute").await;
        setting.register("gone", "effect").await;
        setting.deregister("gone").await;
        setting.pass(1);
        setting.register("young", "effect").await;
        setting.pass(3_600_000_000 - 1);
        assert_eq!(setting.prune().await, Pruned { deleted: 0, more: false }, "an hour old is not older");
        setting.pass(1);
        assert_eq!(setting.prune().await, Pruned { deleted: 3, more: false });
        assert_eq!(setting.revisions().await, (vec![1, 3, 6], vec![1, 3, 6]));

        for after in [Some(5), None] {
            assert_eq!(setting.read(after).await.unwrap(), [6], "{after:?}");
        }
        for after in [0, 4, 7] {
            let refused = setting.read(Some(after)).await;
            assert!(matches!(refused, Err(StoreError::EventsGone { .. })), "{after} {refused:?}");
        }

        setting.pass(1);
        assert_eq!(setting.prune().await.deleted, 0);
        assert!(setting.read(Some(5)).await.is_err() && setting.read(Some(6)).await.unwrap().is_empty());
        // Numbers go on, though the newest event is behind what was deleted.
        setting.register("b", "reducer").await;
        setting.deregister("a").await;
        assert_eq!(setting.read(Some(6)).await.unwrap(), [7, 8]);
        assert_eq!(setting.sweep(0).await, Swept { deleted: 2, next: None });
        assert_eq!(setting.revisions().await, (vec![6, 7, 8], vec![7, 6]));
    }

    #[tokio::test]
    async fn the_log_is_deleted_in_its_order_and_in_small_batches() {
        let setting = Setting::open().await;
        let ids: Vec<String> = (0..BATCH).map(|n| format!("n{n}")).collect();
        setting.register_all(&ids, "effect").await;
        setting.deregister_all(&ids).await;
        setting.register("n", "effect").await;
        // The clock goes back: what comes after a younger event waits for it.
        setting.pass(-3_600_000_000);
        setting.register("n", "compute").await;
        setting.pass(2 * 3_600_000_000);
        assert_eq!(setting.prune().await, Pruned { deleted: 0, more: false });
        setting.pass(1);
        for _ in 0..2 {
            assert_eq!(setting.prune().await, Pruned { deleted: 1_000, more: true });
        }
        assert_eq!(setting.prune().await, Pruned { deleted: 1, more: false });
        assert_eq!(setting.revisions().await, (vec![2_002], vec![2_002]));
    }

    #[tokio::test]
    async fn the_second_pass_goes_on_where_it_was() {
        let setting = Setting::open().await;
        let ids: Vec<String> = (0..=BATCH).map(|n| format!("n{n}")).collect();
        setting.register_all(&ids, "effect").await;
        setting.pass(4_000_000_000);
        assert_eq!((setting.prune().await.more, setting.prune().await.more), (true, false));
        setting.deregister("n0").await;
        setting.deregister(&format!("n{BATCH}")).await;
        let first = setting.sweep(0).await;
        assert_eq!(first, Swept { deleted: 1, next: Revision::new(BATCH) });
        assert_eq!(setting.sweep(BATCH).await, Swept { deleted: 1, next: None });
    }
}
