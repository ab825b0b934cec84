use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::going::Turns;
use crate::node::{Actor, JsonObject, NodeId, NodeType, NodeVersion, Origin, Precondition, Registration};
use crate::registry::breaker::BreakerSettings;
use crate::registry::writer::slot::{Class, Slot};
use crate::store::clock::SystemClock;
use crate::store::sqlite::SqliteStore;

const WRITES: Slot = Slot { lane: Lane::Writes, aside: false };
const HELD: Slot = Slot { lane: Lane::Writes, aside: true };

async fn writer() -> (Arc<Writer>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("registry.db").display());
    let ttl = Ttl::from_seconds(90);
    let store = SqliteStore::open(&url, Arc::new(SystemClock), ttl).await.unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let settings =
        BreakerSettings { failures: 5, pause: Duration::from_secs(1), silence: Duration::from_secs(1) };
    let writer = Writer::new(Parts {
        store: Arc::new(store),
        breaker: Arc::new(Breaker::new(settings, Arc::clone(&metrics))),
        catalog: Arc::new(Catalog::new(ttl)),
        metrics,
        ttl,
        slow: Duration::from_mins(1),
        suspicions: mpsc::channel(1).0,
    });
    (writer, folder)
}

fn write(id: &str) -> RegisterWrite {
    RegisterWrite {
        registration: Registration {
            node_id: NodeId::parse(id).unwrap(),
            node_type: NodeType::Effect,
            node_version: NodeVersion::default(),
            capabilities: JsonObject::empty(),
            endpoints: JsonObject::empty(),
            metadata: JsonObject::empty(),
            health_endpoint: None,
            ttl_seconds: None,
        },
        alive: false,
        precondition: Precondition::None,
        origin: Origin { actor: Actor::anonymous(), correlation_id: None },
    }
}

/// Two ids that are under way, and whose batch nobody does.
fn taken(writer: &Writer) -> Batch<Work> {
    let mut state = writer.lock();
    for id in ["a", "b"] {
        let (reply, _) = Reply::one();
        let work = Work::Register(Box::new(write(id)), reply);
        state.queue.push(NodeKey::new(id).unwrap(), work, Instant::now());
    }
    state.queue.start(Instant::now()).unwrap()
}

#[tokio::test]
async fn a_panic_at_the_end_of_a_batch_stops_nothing_else() {
    let (writer, _folder) = writer().await;
    let batch = taken(&writer);
    assert_eq!((batch.slot, batch.class), (WRITES, Class::Register));
    // No batch is under way there, so it can't have ended.
    let ids = batch.ids.into_iter().map(|id| (id, Fate::Free)).collect();
    writer.end(Ended { slot: HELD, began: Instant::now(), ids, away: false });
    for id in ["a", "b"] {
        let registered = tokio::time::timeout(queue::PATIENCE / 2, writer.register(write(id))).await;
        assert!(registered.is_ok_and(|result| result.is_ok()), "{id} is still taken for under way");
    }
    writer.close().await;
}

/// On a runtime with one thread: each answer is work for the connection that it is for.
#[tokio::test]
async fn who_reads_does_not_wait_for_all_who_are_answered() {
    const CALLERS: usize = 200;
    let (writer, _folder) = writer().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let mut answers = Vec::new();
    for _ in 0..CALLERS {
        let (reply, answer) = Reply::<()>::one();
        let answered = Arc::clone(&answered);
        callers.spawn(async move {
            assert!(matches!(answer.await, Err(RegistryError::Contended)));
            answered.fetch_add(1, Ordering::Relaxed);
        });
        answers.push((reply, Err(RegistryError::Contended)));
    }
    // All of them wait now.
    tokio::task::yield_now().await;
    writer.tell_all(answers);
    let (mut before, mut longest) = (0, 0);
    while before < CALLERS {
        tokio::task::yield_now().await;
        let now = answered.load(Ordering::Relaxed);
        longest = longest.max(now - before);
        before = now;
    }
    assert!(longest <= Turns::STEPS, "{longest} were answered in a row");
    callers.join_all().await;
    writer.close().await;
}
