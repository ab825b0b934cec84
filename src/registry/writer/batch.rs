//! A batch: given to the store, and what follows from what the store says.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::Writer;
use super::count::Beats;
use super::kinds::{Deregistrations, Kind, Maintenance, Registrations};
use super::queue::Batch;
use super::slot::{Class, Slot};
use super::work::{Callers, Work};
use crate::node::NodeKey;
use crate::registry::{RegistryError, SignOfLife, report};
use crate::store::{Heartbeat, IfHeld, Written};

/// While a batch is under way, what waits is looked at this often: nothing takes it out of the queue meanwhile.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The store bounds its own calls. One that takes longer than this is on a connection that nobody answers on, and must
/// not stop the lane for ever.
///
/// Whether its writes have taken effect, or will, is not known: the callers are told that they were interrupted, the
/// catalog learns it from the log of events. Their ids are free again: a write that comes later finds the row locked, if
/// the database is still at work on it, and goes the side way.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// What is left to do when a batch has ended.
pub(super) struct Ended {
    pub(super) slot: Slot,
    pub(super) began: Instant,
    /// The ids, each with what becomes of it.
    pub(super) ids: Vec<(NodeKey, Fate)>,
    /// The database was away.
    pub(super) away: Option<RegistryError>,
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
    away: Option<RegistryError>,
}

impl Writer {
    /// Does a batch. All its callers have been answered when this returns, but those whose items go aside.
    pub(super) async fn execute(&self, batch: Batch<Work>) -> Ended {
        let Batch { slot, class, ids, items } = batch;
        let began = Instant::now();
        self.metrics.writes.batch_begun(slot.label(), items.len());
        let work = async {
            match class {
                Class::Register => self.write::<Registrations>(slot, items).await,
                Class::Deregister => self.write::<Deregistrations>(slot, items).await,
                Class::Maintain => self.write::<Maintenance>(slot, items).await,
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

    async fn write<K: Kind>(&self, slot: Slot, items: Vec<Work>) -> Fates {
        // The queue makes batches of one kind.
        let (writes, replies): (Vec<_>, Vec<_>) = items.into_iter().filter_map(K::open).unzip();
        let call = K::call(&*self.store, &writes, if_held(slot));
        let Some(Written { results, recorded }) = self.bounded(K::OPERATION, call).await else {
            K::count(&self.metrics, &interrupted(writes.len()));
            return Fates::default();
        };
        K::count(&self.metrics, &results);
        report(K::OPERATION, failures(&results));

        let mut fates = Fates::default();
        let mut outcomes = Vec::with_capacity(results.len());
        let mut answers = Vec::with_capacity(results.len());
        for ((write, reply), result) in writes.into_iter().zip(replies).zip(results) {
            match result {
                Ok(done) => {
                    let (outcome, answer) = K::tell(write, done, self.ttl);
                    outcomes.push(outcome);
                    answers.push((reply, Ok(answer)));
                    fates.fates.push(Fate::Free);
                }
                Err(RegistryError::Held) => fates.fates.push(Fate::Held(K::close(write, reply))),
                Err(error) => {
                    fates.note(&error);
                    answers.push((reply, Err(error)));
                }
            }
        }
        // Before the callers know: what is acknowledged is seen by the next read here.
        if !outcomes.is_empty() || !recorded.is_empty() {
            self.catalog.written(&recorded, outcomes);
        }
        for (reply, answer) in answers {
            reply.send(answer);
        }
        fates
    }

    async fn beat(&self, slot: Slot, ids: &[NodeKey], items: Vec<Work>) -> Fates {
        let callers: Vec<Callers> = items.into_iter().filter_map(Work::into_callers).collect();
        let call = self.store.heartbeat(ids, if_held(slot));
        let Some(results) = self.bounded("heartbeat", call).await else {
            return Fates::default();
        };
        report("heartbeat", failures(&results));

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
            answers.push((callers, result));
        }
        counts.count(&self.metrics);
        if !beaten.is_empty() {
            self.catalog.beaten(&beaten);
        }
        for (callers, answer) in answers {
            callers.tell(&answer);
        }
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
    async fn bounded<T>(&self, operation: &'static str, call: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let mut call = pin!(call);
        while began.elapsed() < LONGEST_CALL {
            let Ok(done) = tokio::time::timeout(SWEEP_EVERY, &mut call).await else {
                self.sweep();
                continue;
            };
            let took = began.elapsed();
            if took > self.slow {
                tracing::warn!(operation, took_ms = took.as_millis(), "the database was slow");
            }
            return Some(done);
        }
        tracing::error!(
            operation,
            "the database did not answer in time; what became of a batch is not known"
        );
        None
    }
}

impl Fates {
    /// The next id's: it failed.
    fn note(&mut self, error: &RegistryError) {
        self.fates.push(match error {
            RegistryError::Contended => Fate::Contended,
            _ => Fate::Free,
        });
        if let RegistryError::Unavailable(_) = error {
            self.away = Some(error.clone());
        }
    }
}

/// On the side way there is time.
fn if_held(slot: Slot) -> IfHeld {
    if slot.aside { IfHeld::Wait } else { IfHeld::ComeBack }
}

/// Those that came to an end, and a bad one.
fn failures<T>(results: &[Result<T, RegistryError>]) -> impl Iterator<Item = &RegistryError> {
    results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .filter(|error| !matches!(error, RegistryError::Held))
}

fn interrupted<T>(items: usize) -> Vec<Result<T, RegistryError>> {
    (0..items).map(|_| Err(RegistryError::Interrupted)).collect()
}
