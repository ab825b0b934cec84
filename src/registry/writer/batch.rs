//! A batch: given to the store, and what follows from what the store says.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::Writer;
use super::count::Beats;
use super::kinds::{Deregistrations, Kind, Maintenance, Registrations};
use super::queue::Batch;
use super::reply::Reply;
use super::slot::{Class, Slot};
use super::work::{Callers, Work};
use crate::going::{Turns, aside};
use crate::node::{NodeKey, Origin, Ttl};
use crate::registry::catalog::Catalog;
use crate::registry::{RegistryError, SignOfLife, report};
use crate::store::{Heartbeat, IfHeld, Recorded, Written};

/// While a batch is under way, what waits is looked at this often: nothing takes it out of the queue meanwhile.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The store bounds its own calls, and a database that answers nobody is given up soon. One call that takes longer than
/// this, while others are answered, is on a connection that nobody answers on, and must not stop the lane for ever.
///
/// Whether its writes have taken effect, or will, is not known: the callers are told that they were interrupted, the
/// catalog learns it from the log of events. Their ids are free again: a write that comes later finds the row locked, if
/// the database is still at work on it, and goes the side way.
const LONGEST_CALL: Duration = Duration::from_secs(12);

/// What is left to do when a batch has ended.
pub(super) struct Ended {
    pub(super) slot: Slot,
    pub(super) began: Instant,
    /// The ids, each with what becomes of it.
    pub(super) ids: Vec<(NodeKey, Fate)>,
    /// The database was away.
    pub(super) away: bool,
}

/// What becomes of an id.
pub(super) enum Fate {
    /// It is free for what waits next.
    Free,
    /// Its row was waited for in vain.
    Contended,
    /// Its row is held: this is to be tried again, aside.
    Held(Work),
}

/// What becomes of the ids of a batch, in their order.
#[derive(Default)]
struct Fates {
    fates: Vec<Fate>,
    away: bool,
}

impl Writer {
    /// Does a batch. All its callers have been answered when this returns, or are being answered, but those whose items go
    /// aside.
    pub(super) async fn execute(self: &Arc<Self>, batch: Batch<Work>) -> Ended {
        let Batch { slot, class, ids, items } = batch;
        let began = Instant::now();
        self.metrics.writes.batch_begun(slot.label(), items.len());
        let work = async {
            match class {
                Class::Register => self.write::<Registrations>(slot, &ids, items).await,
                Class::Deregister => self.write::<Deregistrations>(slot, &ids, items).await,
                Class::Maintain => self.write::<Maintenance>(slot, &ids, items).await,
                Class::Heartbeat => self.beat(slot, &ids, items).await,
            }
        };
        // A panic has dropped the replies, and that has answered them. The lane goes on.
        let Fates { fates, away } = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(?class, "a panic: the items of a batch were interrupted");
            Fates::default()
        });
        self.metrics.writes.batch_ended(slot.label(), began.elapsed());
        let fates = fates.into_iter().chain(std::iter::repeat_with(|| Fate::Free));
        Ended { slot, began, ids: ids.into_iter().zip(fates).collect(), away }
    }

    async fn write<K: Kind>(self: &Arc<Self>, slot: Slot, ids: &[NodeKey], items: Vec<Work>) -> Fates {
        // The queue makes batches of one kind.
        let (writes, replies): (Vec<_>, Vec<_>) = items.into_iter().filter_map(K::open).unzip();
        let call = K::call(&*self.store, &writes, if_held(slot));
        let origin = writes.first().map(K::origin);
        let Some(Written { results, recorded }) = self.bounded(K::OPERATION, origin, call).await else {
            K::count(&self.metrics, &silent(writes.len()));
            self.tell_all(replies.into_iter().map(|reply| (reply, Err(RegistryError::Silent))).collect());
            return Fates::default();
        };
        K::count(&self.metrics, &results);
        let failed = writes.iter().zip(&results).find(|(_, result)| is_failure(result));
        in_span_of(failed.map(|(write, _)| K::origin(write)), || {
            report(&*self.store, K::OPERATION, errors(&results));
        });

        let (catalog, ttl) = (Arc::clone(&self.catalog), self.ttl);
        let settle = move || settle::<K>(&catalog, ttl, writes.into_iter().zip(replies), results, &recorded);
        let settled = if ids.len() <= Turns::STEPS { Some(settle()) } else { aside(settle).await };
        let Some(Settled { fates, answers, unknown }) = settled else { return Fates::default() };
        let is_later = |(place, (_, answer)): &(usize, (_, Result<_, _>))| {
            answer.is_ok() && ids.get(*place).is_some_and(|id| unknown.contains(id))
        };
        let (later, now): (Vec<_>, Vec<_>) = answers.into_iter().partition(is_later);
        self.tell_all(now.into_iter().map(|(_, answer)| answer).collect());
        self.once_known(unknown, later.into_iter().map(|(_, answer)| answer).collect());
        fates
    }

    async fn beat(self: &Arc<Self>, slot: Slot, ids: &[NodeKey], items: Vec<Work>) -> Fates {
        let callers: Vec<Callers> = items.into_iter().filter_map(Work::into_callers).collect();
        let call = self.store.heartbeat(ids, if_held(slot));
        let Some(results) = self.bounded("heartbeat", None, call).await else {
            let replies = callers.into_iter().flat_map(Callers::replies);
            self.tell_all(replies.map(|reply| (reply, Err(RegistryError::Silent))).collect());
            return Fates::default();
        };
        report(&*self.store, "heartbeat", errors(&results));

        let mut fates = Fates::default();
        let mut counts = Beats::default();
        let mut beaten = Vec::with_capacity(results.len());
        let mut answers = Vec::with_capacity(results.len());
        for ((callers, id), result) in callers.into_iter().zip(ids).zip(results) {
            if let Err(RegistryError::Held) = result {
                fates.fates.push(Fate::Held(Work::Heartbeat(callers)));
                continue;
            }
            let result = result.map(|beat| self.sign_of_life(beat));
            counts.note(&callers, &result);
            match &result {
                Ok(sign) => {
                    beaten.push((id.clone(), sign.last_heartbeat));
                    fates.fates.push(Fate::Free);
                }
                Err(error) => fates.note(error),
            }
            answers.push((id.clone(), callers, result));
        }
        counts.count(&self.metrics);
        let mut unknown = HashSet::new();
        if !beaten.is_empty() {
            unknown.extend(self.catalog.beaten(&beaten));
        }
        let is_later =
            |(id, _, answer): &(NodeKey, Callers, Result<_, _>)| answer.is_ok() && unknown.contains(id);
        let (later, now): (Vec<_>, Vec<_>) = answers.into_iter().partition(is_later);
        let each = |(_, callers, answer): (NodeKey, Callers, Result<SignOfLife, RegistryError>)| {
            callers.replies().map(move |reply| (reply, answer.clone()))
        };
        self.tell_all(now.into_iter().flat_map(each).collect());
        self.once_known(unknown, later.into_iter().flat_map(each).collect());
        fates
    }

    fn sign_of_life(&self, beat: Heartbeat) -> SignOfLife {
        let at = beat.horizon.at;
        SignOfLife {
            at,
            last_heartbeat: beat.life.last_heartbeat.unwrap_or(at),
            status: beat.life.status(&beat.horizon, self.ttl),
        }
    }

    /// Waits for a call, but not for ever.
    async fn bounded<T>(
        self: &Arc<Self>,
        operation: &'static str,
        origin: Option<&Origin>,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let began = Instant::now();
        let mut call = pin!(call);
        while began.elapsed() < LONGEST_CALL {
            let Ok(done) = tokio::time::timeout(SWEEP_EVERY, &mut call).await else {
                self.sweep();
                continue;
            };
            let took = began.elapsed();
            if took > self.slow {
                in_span_of(origin, || {
                    tracing::warn!(operation, took_ms = took.as_millis(), "the database was slow");
                });
            }
            return Some(done);
        }
        in_span_of(origin, || {
            tracing::error!(
                operation,
                "the database did not answer in time; what became of a batch is not known"
            );
        });
        None
    }
}

/// Who is told, and what.
type Told<A> = (Reply<A>, Result<A, RegistryError>);

/// What a kind of writes came to.
struct Settled<A> {
    fates: Fates,
    /// What is to be told, of the items at these places.
    answers: Vec<(usize, Told<A>)>,
    /// Nodes that the catalog doesn't know so yet.
    unknown: HashSet<NodeKey>,
}

/// Makes answers of what the store says, and tells the catalog: before the callers know, for what is acknowledged is seen
/// by the next read here.
fn settle<K: Kind>(
    catalog: &Catalog,
    ttl: Ttl,
    writes: impl Iterator<Item = (K::Write, Reply<K::Answer>)>,
    results: Vec<Result<K::Done, RegistryError>>,
    recorded: &[Recorded],
) -> Settled<K::Answer> {
    let mut fates = Fates::default();
    let mut outcomes = Vec::with_capacity(results.len());
    let mut answers = Vec::with_capacity(results.len());
    for (place, ((write, reply), result)) in writes.zip(results).enumerate() {
        match result {
            Ok(done) => {
                let (outcome, answer) = K::tell(write, done, ttl);
                outcomes.push(outcome);
                answers.push((place, (reply, Ok(answer))));
                fates.fates.push(Fate::Free);
            }
            Err(RegistryError::Held) => fates.fates.push(Fate::Held(K::close(write, reply))),
            Err(error) => {
                fates.note(&error);
                answers.push((place, (reply, Err(error))));
            }
        }
    }
    let mut unknown = HashSet::new();
    if !outcomes.is_empty() || !recorded.is_empty() {
        unknown.extend(catalog.written(recorded, outcomes));
    }
    Settled { fates, answers, unknown }
}

impl Fates {
    /// The next id's: it failed.
    fn note(&mut self, error: &RegistryError) {
        self.fates.push(match error {
            RegistryError::Contended => Fate::Contended,
            _ => Fate::Free,
        });
        self.away |=
            matches!(error, RegistryError::Unavailable(_) | RegistryError::Away | RegistryError::Silent);
    }
}

/// On the side way there is time.
fn if_held(slot: Slot) -> IfHeld {
    if slot.aside { IfHeld::Wait } else { IfHeld::ComeBack }
}

/// What went wrong, but for what is tried again.
fn errors<T>(results: &[Result<T, RegistryError>]) -> impl Iterator<Item = &RegistryError> {
    results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .filter(|error| !matches!(error, RegistryError::Held))
}

/// Whether the log is told of it.
fn is_failure<T>(result: &Result<T, RegistryError>) -> bool {
    !matches!(
        result,
        Ok(_) | Err(RegistryError::Held | RegistryError::NotFound | RegistryError::PreconditionFailed { .. })
    )
}

/// The log is told once of what many requests have met: with the correlation id of one of them.
fn in_span_of(origin: Option<&Origin>, tell: impl FnOnce()) {
    match origin.and_then(|origin| origin.correlation_id.as_deref()) {
        Some(correlation_id) => tracing::error_span!("batch", correlation_id).in_scope(tell),
        None => tell(),
    }
}

fn silent<T>(items: usize) -> Vec<Result<T, RegistryError>> {
    (0..items).map(|_| Err(RegistryError::Silent)).collect()
}
