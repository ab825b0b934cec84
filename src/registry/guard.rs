//! Stands before the store: no call waits for a database that doesn't answer, and clients' calls don't go to one that is
//! known to be away.
//!
//! How long a call may take is not bounded here, but how long the database may be silent: one that is stopped, or behind
//! a network that has swallowed it, answers nobody, while one that is busy with a call still answers others. If nobody
//! has been answered for half of that time, whoever waits asks it whether it is there. A call that is given up may have
//! taken effect, or may yet: it is [`StoreError::Silent`] and is not repeated. An SQLite file is no other process, and
//! has time-outs of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout_at};

use super::breaker::{Breaker, Ticket, Verdict};
use super::reason;
use crate::node::{DiscoveryQuery, Event, EventQuery, Horizon, NodeKey, NodeRecord, Revision, Summary};
use crate::store::health::{Census, FleetWatch, LifeChange, ReplicaId, Rules, Targets, Tick};
use crate::store::{
    Connections, DeregisterWrite, Deregistered, Digest, EventPage, Followed, Heartbeat, Hints, IfHeld,
    Loaded, Maintained, MaintenanceWrite, Page, Position, Pruned, RegisterWrite, Registered, Seen, Store,
    StoreError, Swept, Unrecorded, Written,
};

/// A store that is asked only if it is likely to answer.
pub(super) struct Guarded {
    store: Arc<dyn Store>,
    breaker: Arc<Breaker>,
    /// Whether the database has all that serving needs. Before that, nothing is asked of it.
    is_open: AtomicBool,
    /// The turn of the one that asks whether the database is there.
    asking: Semaphore,
}

impl Guarded {
    pub(super) fn new(store: Arc<dyn Store>, breaker: Arc<Breaker>, is_open: bool) -> Self {
        Self { store, breaker, is_open: AtomicBool::new(is_open), asking: Semaphore::new(1) }
    }

    /// The database has all that serving needs.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// A call for clients, or for what can wait until they are served.
    async fn ask<A: Answer>(&self, items: usize, call: impl Future<Output = A>) -> A {
        if let Some(ticket) = self.breaker.admit().filter(|_| self.is_open()) {
            return self.go(ticket, items, call).await;
        }
        self.breaker.refused(1);
        A::failed(&StoreError::Away, items)
    }

    /// A call of what finds out that the database is back.
    async fn always<A: Answer>(&self, call: impl Future<Output = A>) -> A {
        if self.is_open() {
            self.go(self.breaker.pass(), 1, call).await
        } else {
            A::failed(&StoreError::Away, 1)
        }
    }

    async fn go<A: Answer>(&self, ticket: Ticket<'_>, items: usize, call: impl Future<Output = A>) -> A {
        let answer = match self.unless_silent(&ticket, call).await {
            Ok(answer) => answer,
            Err(silent) => A::failed(&silent, items),
        };
        let (verdict, error) = judge(&answer, self.store.can_fall_silent());
        ticket.tell(verdict, || error.map(reason).unwrap_or_default());
        answer
    }

    /// Waits for a call as long as the database answers somebody.
    async fn unless_silent<T>(
        &self,
        ticket: &Ticket<'_>,
        call: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        if !self.store.can_fall_silent() {
            return Ok(call.await);
        }
        let silence = self.breaker.silence();
        let mut call = pin!(call);
        loop {
            let last = self.breaker.answered_at().max(ticket.began());
            let has_answered = || self.breaker.answered_at() > last;
            if let Ok(done) = timeout_at(last + silence / 2, &mut call).await {
                return Ok(done);
            }
            if has_answered() {
                continue;
            }
            tokio::select! {
                biased;
                done = &mut call => return Ok(done),
                () = self.find_out(silence) => {}
                () = sleep_until(last + silence) => {}
            }
            if !has_answered() {
                // What has come in the last instant counts.
                let done = timeout_at(last + silence, &mut call).await;
                if !has_answered() {
                    return done.map_err(|_| StoreError::Silent);
                }
                if let Ok(done) = done {
                    return Ok(done);
                }
            }
        }
    }

    /// Asks whether the database is there, unless somebody does already. Ends when it has said so.
    async fn find_out(&self, at_most: Duration) {
        if let Ok(_turn) = self.asking.try_acquire()
            && matches!(tokio::time::timeout(at_most, self.store.ping()).await, Ok(Ok(())))
        {
            self.breaker.note_answer();
        } else {
            std::future::pending::<()>().await;
        }
    }
}

/// What a call comes to.
trait Answer: Send {
    /// All items have failed like this.
    fn failed(error: &StoreError, items: usize) -> Self;
    /// Whether there is something that has not failed, and what has.
    fn parts(&self) -> impl Iterator<Item = Option<&StoreError>>;
}

impl<T: Send> Answer for Result<T, StoreError> {
    fn failed(error: &StoreError, _: usize) -> Self {
        Err(error.clone())
    }

    fn parts(&self) -> impl Iterator<Item = Option<&StoreError>> {
        std::iter::once(self.as_ref().err())
    }
}

impl<T: Send> Answer for Vec<Result<T, StoreError>> {
    fn failed(error: &StoreError, items: usize) -> Self {
        (0..items).map(|_| Err(error.clone())).collect()
    }

    fn parts(&self) -> impl Iterator<Item = Option<&StoreError>> {
        self.iter().map(|result| result.as_ref().err())
    }
}

impl<T: Send> Answer for Written<T> {
    fn failed(error: &StoreError, items: usize) -> Self {
        Self { results: Answer::failed(error, items), recorded: Vec::new() }
    }

    fn parts(&self) -> impl Iterator<Item = Option<&StoreError>> {
        self.results.parts()
    }
}

/// What an answer shows of the database, and what has failed if it is away. One item that it has failed for may be the
/// last of many that it has done: it is away now.
fn judge<A: Answer>(answer: &A, is_remote: bool) -> (Verdict, Option<&StoreError>) {
    let mut verdict = Verdict::Nothing;
    for error in answer.parts() {
        match error {
            Some(error) if error.is_unreachable(is_remote) => return (Verdict::Failed, Some(error)),
            // Nobody may have been asked.
            Some(
                StoreError::Contended
                | StoreError::Busy
                | StoreError::Crowded
                | StoreError::Behind
                | StoreError::Loading
                | StoreError::Away
                | StoreError::Interrupted
                | StoreError::Silent,
            ) => {}
            Some(StoreError::Unavailable(_)) if !is_remote => {}
            _ => verdict = Verdict::Answered,
        }
    }
    (verdict, None)
}

#[async_trait]
impl Store for Guarded {
    async fn register(&self, batch: &[RegisterWrite], if_held: IfHeld) -> Written<Registered> {
        self.ask(batch.len(), self.store.register(batch, if_held)).await
    }

    async fn deregister(&self, batch: &[DeregisterWrite], if_held: IfHeld) -> Written<Deregistered> {
        self.ask(batch.len(), self.store.deregister(batch, if_held)).await
    }

    async fn heartbeat(&self, ids: &[NodeKey], if_held: IfHeld) -> Vec<Result<Heartbeat, StoreError>> {
        self.ask(ids.len(), self.store.heartbeat(ids, if_held)).await
    }

    async fn set_maintenance(&self, batch: &[MaintenanceWrite], if_held: IfHeld) -> Written<Maintained> {
        self.ask(batch.len(), self.store.set_maintenance(batch, if_held)).await
    }

    async fn load(&self, take: &mut (dyn FnMut(NodeRecord) + Send)) -> Result<Loaded, StoreError> {
        self.always(self.store.load(take)).await
    }

    async fn follow(&self, position: &Position) -> Result<Followed, StoreError> {
        self.always(self.store.follow(position)).await
    }

    async fn hints(&self) -> Result<Option<Box<dyn Hints>>, StoreError> {
        self.always(self.store.hints()).await
    }

    async fn digests(&self, take: &mut (dyn FnMut(NodeKey, Digest) + Send)) -> Result<Seen<()>, StoreError> {
        self.ask(1, self.store.digests(take)).await
    }

    async fn records(&self, ids: &[NodeKey]) -> Result<Seen<Vec<NodeRecord>>, StoreError> {
        self.ask(1, self.store.records(ids)).await
    }

    async fn repair(
        &self,
        leader: &ReplicaId,
        changed: &[Unrecorded],
    ) -> Result<Option<Vec<Event>>, StoreError> {
        self.ask(1, self.store.repair(leader, changed)).await
    }

    async fn get(&self, id: &NodeKey) -> Result<Seen<Option<NodeRecord>>, StoreError> {
        self.ask(1, self.store.get(id)).await
    }

    async fn discover(&self, query: &DiscoveryQuery) -> Result<Seen<Page>, StoreError> {
        self.ask(1, self.store.discover(query)).await
    }

    async fn tick(
        &self,
        replica: &ReplicaId,
        watch: Option<&FleetWatch>,
        was_away: bool,
    ) -> Result<Tick, StoreError> {
        self.always(self.store.tick(replica, watch, was_away)).await
    }

    async fn resign(&self, replica: &ReplicaId) -> Result<(), StoreError> {
        self.ask(1, self.store.resign(replica)).await
    }

    async fn census(&self, rules: &Rules) -> Result<Census, StoreError> {
        self.ask(1, self.store.census(rules)).await
    }

    async fn announce(
        &self,
        leader: &ReplicaId,
        changes: &[LifeChange],
    ) -> Result<Vec<LifeChange>, StoreError> {
        self.ask(1, self.store.announce(leader, changes)).await
    }

    async fn forget_the_gone(&self, leader: &ReplicaId) -> Result<(), StoreError> {
        self.ask(1, self.store.forget_the_gone(leader)).await
    }

    async fn expire(
        &self,
        leader: &ReplicaId,
        overdue: &[NodeKey],
        horizon: &Horizon,
        rules: &Rules,
    ) -> Vec<Result<bool, StoreError>> {
        self.ask(overdue.len(), self.store.expire(leader, overdue, horizon, rules)).await
    }

    async fn targets(&self, since: Option<Revision>) -> Result<Targets, StoreError> {
        self.ask(1, self.store.targets(since)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Seen<EventPage>, StoreError> {
        self.ask(1, self.store.events(query)).await
    }

    async fn summary(&self) -> Result<Seen<Summary>, StoreError> {
        self.ask(1, self.store.summary()).await
    }

    async fn prune_events(
        &self,
        leader: &ReplicaId,
        retention: Duration,
    ) -> Result<Option<Pruned>, StoreError> {
        self.ask(1, self.store.prune_events(leader, retention)).await
    }

    async fn sweep_events(&self, leader: &ReplicaId, after: Revision) -> Result<Option<Swept>, StoreError> {
        self.ask(1, self.store.sweep_events(leader, after)).await
    }

    fn connections(&self) -> Connections {
        self.store.connections()
    }

    fn can_fall_silent(&self) -> bool {
        self.store.can_fall_silent()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask(1, self.store.ping()).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
