//! What keeps the prober going: one task that begins the probes that are due, and one for each probe under way.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Answer, Client, Failure};
use super::clock::Clock;
use super::lanes::{Lane, Lanes, Slot};
use super::schedule::{Job, Schedule, TargetId};
use super::{Outcome, ProbeSink};

/// What the prober and its tasks share.
pub(super) struct Driver {
    /// A std mutex: it is held for moments, never over an await.
    state: Mutex<State>,
    client: Client,
    lanes: Lanes,
    sink: Arc<dyn ProbeSink>,
    /// What a lane's next probe is has changed.
    healthy_changed: Notify,
    failing_changed: Notify,
    /// [`Driver::drive`] and the probes under way; waited for in [`Driver::ended`].
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What changes.
pub(super) struct State {
    pub(super) schedule: Schedule,
    pub(super) clock: Clock,
    /// The probes under way, at most one of a target.
    under_way: HashMap<TargetId, AbortHandle>,
}

impl Driver {
    /// Without targets, and with its task begun.
    pub(super) fn start(
        schedule: Schedule,
        client: Client,
        lanes: Lanes,
        sink: Arc<dyn ProbeSink>,
    ) -> Arc<Self> {
        let driver = Arc::new(Self {
            state: Mutex::new(State { schedule, clock: Clock::start(), under_way: HashMap::new() }),
            client,
            lanes,
            sink,
            healthy_changed: Notify::new(),
            failing_changed: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        driver.tasks.spawn(Arc::clone(&driver).drive());
        driver
    }

    /// Begins no more probes and drops those under way.
    pub(super) fn stop(&self) {
        self.stop.cancel();
        self.change(|state| state.schedule.clear());
    }

    /// Waits until everything has ended that [`Driver::stop`] has stopped.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete, whatever the one who made it did next.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the targets, and drops probes of those that are none any longer.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let State { schedule, under_way, .. } = &mut *state;
        under_way.retain(|id, probe| {
            let known = schedule.knows(*id);
            if !known {
                probe.abort();
            }
            known
        });
        drop(state);
        self.healthy_changed.notify_one();
        self.failing_changed.notify_one();
    }

    /// The one task that begins probes.
    async fn drive(self: Arc<Self>) {
        let lanes = async { tokio::join!(self.drive_lane(Lane::Healthy), self.drive_lane(Lane::Failing)) };
        self.stop.run_until_cancelled(lanes).await;
    }

    async fn drive_lane(self: &Arc<Self>, lane: Lane) {
        loop {
            let (due, clock) = {
                let state = self.state();
                (state.schedule.next_due(lane), state.clock)
            };
            match due {
                Some(due) if due <= clock.now() => {
                    let Some(slot) = self.lanes.enter(lane).await else { return };
                    self.begin(lane, slot);
                }
                Some(due) => {
                    tokio::select! {
                        () = sleep_until(clock.instant(due)) => {}
                        () = self.changed(lane).notified() => {}
                    }
                }
                None => self.changed(lane).notified().await,
            }
        }
    }

    fn changed(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Healthy => &self.healthy_changed,
            Lane::Failing => &self.failing_changed,
        }
    }

    /// Begins the next probe of a lane, unless nothing is due any longer.
    fn begin(self: &Arc<Self>, lane: Lane, slot: Slot) {
        let mut state = self.state();
        let now = state.clock.now();
        let Some(job) = state.schedule.take(lane, now) else { return };
        self.sink.late(lane, job.late);
        let id = job.id;
        // It can't end before it is noted here: for that it needs the lock.
        let probe = self.tasks.spawn(Arc::clone(self).run(job, slot));
        state.under_way.insert(id, probe.abort_handle());
    }

    async fn run(self: Arc<Self>, job: Job, mut slot: Slot) {
        let mut report = Report { driver: &self, id: job.id, begun: Instant::now(), result: None };
        let deadline = report.begun + job.timeout;
        let answer = self.ask(&job, &mut slot, report.begun, deadline).await;
        let outcome = match &answer {
            Ok(answer) => answer.outcome(),
            Err(failure) => {
                let Failure { outcome, reason } = failure;
                tracing::debug!(
                    url = ?job.endpoint.url(),
                    outcome = outcome.as_str(),
                    reason,
                    "a health check failed"
                );
                *outcome
            }
        };
        report.result = Some((outcome, report.begun.elapsed()));
        if let Ok(answer) = answer {
            let until = deadline.min(Instant::now() + patience(job.timeout));
            // Too slow is as good as too long: the connection is not used again.
            let _ = timeout_at(until, self.client.keep(&job.endpoint, answer)).await;
        }
    }

    /// One probe within its time, and in the lane where it belongs.
    async fn ask(
        &self,
        job: &Job,
        slot: &mut Slot,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let timed_out = Failure { outcome: Outcome::Timeout, reason: None };
        let mut answer = pin!(self.client.get(&job.endpoint, deadline));
        let patient_until = begun + patience(job.timeout);
        if let Ok(answer) = timeout_at(patient_until, answer.as_mut()).await {
            return answer;
        }
        if !self.lanes.may_go_on(slot) {
            return Err(timed_out);
        }
        timeout_at(deadline, answer).await.unwrap_or(Err(timed_out))
    }

    fn finish(&self, id: TargetId, outcome: Outcome, took: Duration) {
        let mut state = self.state();
        state.under_way.remove(&id);
        let State { schedule, clock, .. } = &mut *state;
        let due = Lane::ALL.map(|lane| schedule.next_due(lane));
        let Some(node) = schedule.finish(id, outcome == Outcome::Success, clock.now()) else { return };
        if outcome == Outcome::Success {
            self.sink.alive(node);
        }
        self.sink.observed(outcome, took);
        // Most probes are due later than another one, and nobody has to be woken for them.
        let due_now = Lane::ALL.map(|lane| schedule.next_due(lane));
        drop(state);
        for ((lane, before), after) in Lane::ALL.into_iter().zip(due).zip(due_now) {
            if before != after {
                self.changed(lane).notify_one();
            }
        }
    }
}

/// How long a probe may stay among those of healthy targets, and how long the rest of an answer is waited for.
fn patience(timeout: Duration) -> Duration {
    (timeout / 10).clamp(Duration::from_millis(100), Duration::from_secs(1)).min(timeout)
}

/// Reports a probe when it is dropped, so that a target is probed again however its probe ended.
struct Report<'d> {
    driver: &'d Driver,
    id: TargetId,
    begun: Instant,
    /// `None` if it was dropped half-way. Then it is no target any longer and not reported; or the probe has panicked.
    result: Option<(Outcome, Duration)>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let (outcome, took) = self.result.unwrap_or((Outcome::Connect, self.begun.elapsed()));
        self.driver.finish(self.id, outcome, took);
    }
}
