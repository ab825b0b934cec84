//! Writes go in batches: one transaction for many of them (group commit).
//!
//! What is to be written waits in a [`queue`], and a batch is made of what waits as soon as a place is free: a write that
//! comes alone goes at once, and the more there are, the more go together. Batches are tasks of their own: a caller who
//! hangs up undoes nobody's write, nor his own. There are two lanes, for writes and for signs of life, and beside each a
//! side way for items whose rows other transactions hold. At most two batches are under way in each.
//!
//! A batch ends in this order: the catalog has it, then its callers are being answered, so a write that is acknowledged is
//! seen by the next read on this replica. The next batch doesn't wait for all of them to have their answers ([`tell`]).
//! Where the catalog lacks what the write left as it was, `acquaint` sees to that.
//!
//! What is bounded, and what happens then:
//! - How much waits ([`slot::Limits`]), and less of it where the queue stands rather than moves
//!   ([`queue::STANDING`]): a fleet that registers at once is let in, and many more than can be written don't make each
//!   other wait ever longer. A request that doesn't fit is refused as a whole, at once: [`RegistryError::Busy`].
//! - How long it waits ([`queue::PATIENCE`]). Then it is answered in the same way and never tried: a client that has
//!   given up must not find its write done a minute later.
//! - What waited while a batch found the database away, and took long to find it ([`LONG_AWAY`]): nothing of it is
//!   tried, and the queue is empty when the database is back. What comes while it is known to be away is refused at
//!   once ([`RegistryError::Away`]).
//!
//! Nothing is written twice on our own account: an item that comes back from the store to be tried again had no effect.

mod acquaint;
mod batch;
mod count;
mod kinds;
mod line;
mod queue;
mod reply;
mod slot;
mod tell;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use self::batch::{Ended, Fate};
use self::queue::{Batch, Dropped, Item as _, Queue};
use self::reply::Reply;
use self::slot::{Lane, Limits};
use self::work::Work;
use super::breaker::Breaker;
use super::catalog::Catalog;
use super::follower::Suspicion;
use super::{Registered, RegistryError, SignOfLife, report};
use crate::metrics::{HeartbeatSource, Metrics, QueueLengths};
use crate::node::{NodeKey, Shown, Ttl};
use crate::store::{DeregisterWrite, Deregistered, MaintenanceWrite, RegisterWrite, Store};

/// A batch that takes so long to find the database away speaks for all that wait. A connection that was lost is found
/// quickly, and the next one may be well.
const LONG_AWAY: Duration = Duration::from_millis(500);

/// What a writer is made of.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ttl: Ttl,
    /// Calls that take longer are warned of.
    pub(super) slow: Duration,
    /// Where it is told of nodes that the catalog may have missed.
    pub(super) suspicions: mpsc::Sender<Suspicion>,
}

/// Writes in batches.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    /// Whether the store would be asked.
    breaker: Arc<Breaker>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    ttl: Ttl,
    slow: Duration,
    suspicions: mpsc::Sender<Suspicion>,
    /// A lock to put into the queue and to take a batch out of it, never held over an await.
    state: Mutex<State>,
    /// The batches under way, the callers who wait for what they wrote to be known here, and those who are being answered.
    /// Owned here, and waited for in [`Writer::close`].
    tasks: TaskTracker,
}

struct State {
    queue: Queue<Work>,
    /// Nothing is taken any more.
    closed: bool,
    /// Lanes that have refused something since they were half empty: the log is told once.
    overflowed: [bool; Lane::COUNT],
}

impl Writer {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts { store, breaker, catalog, metrics, ttl, slow, suspicions } = parts;
        let queue = Queue::new(Limits::default());
        Arc::new(Self {
            store,
            breaker,
            catalog,
            metrics,
            ttl,
            slow,
            suspicions,
            state: Mutex::new(State { queue, closed: false, overflowed: Default::default() }),
            tasks: TaskTracker::new(),
        })
    }

    pub(super) async fn register(
        self: &Arc<Self>,
        write: RegisterWrite,
    ) -> Result<Registered, RegistryError> {
        let (reply, answer) = Reply::one();
        let id = write.registration.node_id.key().clone();
        self.submit_one(id, Work::Register(Box::new(write), reply))?;
        answer.await
    }

    pub(super) async fn register_all(
        self: &Arc<Self>,
        batch: Vec<RegisterWrite>,
    ) -> Vec<Result<Registered, RegistryError>> {
        self.all(Lane::Writes, batch, |write, reply| {
            (write.registration.node_id.key().clone(), Work::Register(Box::new(write), reply))
        })
        .await
    }

    pub(super) async fn deregister(
        self: &Arc<Self>,
        write: DeregisterWrite,
    ) -> Result<Deregistered, RegistryError> {
        let (reply, answer) = Reply::one();
        self.submit_one(write.node_id.clone(), Work::Deregister(Box::new(write), reply))?;
        answer.await
    }

    pub(super) async fn deregister_all(
        self: &Arc<Self>,
        batch: Vec<DeregisterWrite>,
    ) -> Vec<Result<Deregistered, RegistryError>> {
        self.all(Lane::Writes, batch, |write, reply| {
            (write.node_id.clone(), Work::Deregister(Box::new(write), reply))
        })
        .await
    }

    pub(super) async fn set_maintenance(
        self: &Arc<Self>,
        write: MaintenanceWrite,
    ) -> Result<Shown, RegistryError> {
        let (reply, answer) = Reply::one();
        self.submit_one(write.node_id.clone(), Work::Maintain(Box::new(write), reply))?;
        answer.await
    }

    pub(super) async fn heartbeat(
        self: &Arc<Self>,
        source: HeartbeatSource,
        id: NodeKey,
    ) -> Result<SignOfLife, RegistryError> {
        let (reply, answer) = Reply::one();
        self.submit_one(id, Work::heartbeat(source, reply))?;
        answer.await
    }

    pub(super) async fn heartbeat_all(
        self: &Arc<Self>,
        source: HeartbeatSource,
        ids: Vec<NodeKey>,
    ) -> Vec<Result<SignOfLife, RegistryError>> {
        self.all(Lane::Heartbeats, ids, |id, reply| (id, Work::heartbeat(source, reply))).await
    }

    /// How much waits.
    pub(super) fn lengths(&self) -> QueueLengths {
        let state = self.lock();
        QueueLengths {
            writes: state.queue.waiting(Lane::Writes),
            heartbeats: state.queue.waiting(Lane::Heartbeats),
            held: state.queue.waiting_aside(),
        }
    }

    /// Takes no more, and waits for what waits and what is under way.
    pub(super) async fn close(&self) {
        self.lock().closed = true;
        // What was taken has been spawned, or is spawned by a batch that is under way.
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// All items of a request, or none of them.
    async fn all<I, T>(
        self: &Arc<Self>,
        lane: Lane,
        items: Vec<I>,
        work: impl Fn(I, Reply<T>) -> (NodeKey, Work),
    ) -> Vec<Result<T, RegistryError>> {
        let count = items.len();
        let (replies, answers) = Reply::many(count);
        let works: Vec<_> = items.into_iter().zip(replies).map(|(item, reply)| work(item, reply)).collect();
        match self.submit(lane, works) {
            Ok(()) => answers.await,
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    fn submit_one(self: &Arc<Self>, id: NodeKey, work: Work) -> Result<(), RegistryError> {
        self.submit(work.class().lane(), [(id, work)])
    }

    fn submit<W>(self: &Arc<Self>, lane: Lane, works: W) -> Result<(), RegistryError>
    where
        W: AsRef<[(NodeKey, Work)]> + IntoIterator<Item = (NodeKey, Work)>,
    {
        let callers = works.as_ref().len();
        if self.breaker.refuses() {
            self.breaker.refused(callers as u64);
            count::untried(&self.metrics, works.as_ref().iter().map(|(_, work)| work));
            return Err(RegistryError::Away);
        }
        let bytes = works.as_ref().iter().map(|(_, work)| work.bytes()).sum();
        let now = Instant::now();
        let mut state = self.lock();
        if state.closed || !state.queue.has_room(lane, callers, bytes, now) {
            let first = !state.closed && !std::mem::replace(&mut state.overflowed[lane as usize], true);
            drop(state);
            if first {
                tracing::warn!(?lane, "too many writes are waiting; what comes now is refused");
            }
            self.metrics.writes.rejected(lane.label(), callers as u64);
            count::untried(&self.metrics, works.as_ref().iter().map(|(_, work)| work));
            return Err(RegistryError::Busy);
        }
        for (id, work) in works {
            state.queue.push(id, work, now);
        }
        while let Some(batch) = start(&mut state, now) {
            self.spawn(batch);
        }
        self.go_on(state);
        Ok(())
    }

    /// Under the lock, under which it was seen that the writer isn't closed: whoever closes it waits for the batch.
    fn spawn(self: &Arc<Self>, batch: Batch<Work>) {
        let writer = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut next = Some(batch);
            while let Some(batch) = next {
                let ended = writer.execute(batch).await;
                next = writer.end(ended);
            }
        });
    }

    /// What becomes of the ids of a batch. The first batch that can begin now is returned, the others begin.
    fn end(self: &Arc<Self>, ended: Ended) -> Option<Batch<Work>> {
        let Ended { slot, began, ids, away } = ended;
        let now = Instant::now();
        let mut state = self.lock();
        guarded(|| state.queue.ended(slot));
        if away && now.duration_since(began) >= LONG_AWAY {
            guarded(|| state.queue.drop_older(slot.lane, now, Dropped::Away));
        }
        for (id, fate) in ids {
            guarded(|| match fate {
                Fate::Free => state.queue.release(id),
                Fate::Contended => {
                    state.queue.drop_line(&id);
                    state.queue.release(id);
                }
                Fate::Held(work) => state.queue.put_aside(id, work, now),
            });
        }
        let next = start(&mut state, now);
        while let Some(batch) = start(&mut state, now) {
            self.spawn(batch);
        }
        guarded(|| self.go_on(state));
        next
    }

    /// Answers what has waited for too long.
    fn sweep(self: &Arc<Self>) {
        let now = Instant::now();
        let mut state = self.lock();
        state.queue.sweep(now);
        let dropped = state.queue.take_dropped();
        drop(state);
        self.refuse(dropped);
    }

    /// All batches that can begin have begun. What has been dropped from the queue is answered.
    fn go_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        for lane in [Lane::Writes, Lane::Heartbeats] {
            if state.overflowed[lane as usize] && state.queue.is_half_empty(lane) {
                state.overflowed[lane as usize] = false;
            }
        }
        let dropped = state.queue.take_dropped();
        drop(state);
        self.refuse(dropped);
    }

    fn refuse(self: &Arc<Self>, dropped: Vec<(Work, Dropped)>) {
        if dropped.is_empty() {
            return;
        }
        count::untried(&self.metrics, dropped.iter().map(|(work, _)| work));
        let error = |why| match why {
            Dropped::Late => RegistryError::Busy,
            Dropped::Held => RegistryError::Contended,
            Dropped::Away => RegistryError::Away,
        };
        let errors: Vec<RegistryError> = dropped.iter().map(|(_, why)| error(*why)).collect();
        report(&*self.store, "wait for a turn", errors.iter());
        for (work, _) in dropped.iter().filter(|(_, why)| *why == Dropped::Late) {
            self.metrics.writes.rejected(work.class().lane().label(), work.callers() as u64);
        }
        self.tell_all(dropped.into_iter().map(|(work, _)| work).zip(errors).collect());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next batch that can begin.
fn start(state: &mut State, now: Instant) -> Option<Batch<Work>> {
    let mut next = None;
    guarded(|| next = state.queue.start(now));
    next
}

/// Keeps a panic from what is to be done besides: batches that are not under way any more must not be taken for it, or
/// their lane would stand still for ever.
fn guarded(step: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(step)).is_err() {
        tracing::error!("a panic: what waits for an id may wait in vain");
    }
}

#[cfg(test)]
mod tests;
