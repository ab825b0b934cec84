//! Whether the database is asked at all: a circuit breaker (M. Nygard, "Release It!").
//!
//! Closed, all calls go. After so many failures in a row it opens: calls of clients are refused at once, nothing is
//! sent. After a pause one of them goes as a trial (half-open); its failure begins another pause. Any answer of the
//! database closes it, whoever has asked: what follows the changes and what reports each second are never refused, so it
//! closes without a client, too. There is no herd then: nothing waits while it is open.
//!
//! A failure is that the database can't be reached, lets us in no more, or doesn't answer. That it refuses a row or a
//! query, or that somebody holds a row for too long, is an answer: a healthy database must not pay for those. Nor must it for calls
//! that began before it came back: one that fails speaks only of the time since the last answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::{BreakerPhase, Metrics};

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BreakerSettings {
    /// So many failures in a row open it.
    pub failures: u32,
    /// The pause before a trial.
    pub pause: Duration,
    /// A database that is another process, and answers nobody anything for so long, does not answer.
    pub silence: Duration,
}

/// The breaker. A lock for a few assignments, never held over an await.
pub(super) struct Breaker {
    settings: BreakerSettings,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Failures since the last answer.
    in_a_row: u32,
    /// When the database answered last; at first, when this began.
    answered: Instant,
    /// Calls that have failed, and that were refused, since the last answer: the log is told how many, and not of each.
    failed: u64,
    refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Until then nothing is tried.
    Open(Instant),
    /// A trial is under way.
    HalfOpen,
}

/// What a call has shown of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there.
    Answered,
    /// It can't be reached, or doesn't answer.
    Failed,
    /// Nothing.
    Nothing,
}

/// A call that may go. What it showed is to be told; one that is dropped before has shown nothing.
pub(super) struct Ticket<'b> {
    breaker: &'b Breaker,
    began: Instant,
    is_trial: bool,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings, metrics: Arc<Metrics>) -> Self {
        metrics.database.set_breaker(BreakerPhase::Closed);
        let state =
            State { phase: Phase::Closed, in_a_row: 0, answered: Instant::now(), failed: 0, refused: 0 };
        Self { settings, metrics, state: Mutex::new(state) }
    }

    /// How long the database may answer nobody.
    pub(super) fn silence(&self) -> Duration {
        self.settings.silence
    }

    /// A call of a client's, if it may go now.
    pub(super) fn admit(&self) -> Option<Ticket<'_>> {
        let now = Instant::now();
        let mut state = self.lock();
        let is_trial = state.admit(now)?;
        if is_trial {
            // Under the lock, here and below: or the gauge would say the last thing that was said, and not the last that
            // happened.
            self.metrics.database.set_breaker(BreakerPhase::HalfOpen);
            drop(state);
            // As often as there is a pause: no news for the log of every day.
            tracing::debug!("the breaker is half-open: one call tries whether the database is there");
        }
        Some(Ticket { breaker: self, began: now, is_trial })
    }

    /// A call that always goes.
    pub(super) fn pass(&self) -> Ticket<'_> {
        Ticket { breaker: self, began: Instant::now(), is_trial: false }
    }

    /// Whether a call would be refused now.
    pub(super) fn refuses(&self) -> bool {
        self.lock().refuses(Instant::now())
    }

    /// So many were refused.
    pub(super) fn refused(&self, calls: u64) {
        let mut state = self.lock();
        state.refused = state.refused.saturating_add(calls);
        drop(state);
        self.metrics.database.calls_refused(calls);
    }

    /// How it is.
    pub(super) fn phase(&self) -> BreakerPhase {
        self.lock().phase.label()
    }

    /// When the database answered last.
    pub(super) fn answered_at(&self) -> Instant {
        self.lock().answered
    }

    /// The database has answered a part of what it was asked for.
    pub(super) fn note_answer(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let silent = now.saturating_duration_since(state.answered);
        let closed = state.answer(now);
        if closed.is_some() {
            self.metrics.database.set_breaker(BreakerPhase::Closed);
        }
        drop(state);
        if let Some(Counts { failed, refused }) = closed {
            tracing::info!(
                failed,
                refused,
                silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
                "the breaker is closed: the database answers again"
            );
        }
    }

    fn note_failure(&self, began: Instant, is_trial: bool, reason: impl FnOnce() -> String) {
        let BreakerSettings { failures, pause, .. } = self.settings;
        let mut state = self.lock();
        let step = state.fail(began, is_trial, Instant::now(), failures, pause);
        if matches!(step, Step::Opened | Step::TrialFailed) {
            self.metrics.database.set_breaker(BreakerPhase::Open);
        }
        drop(state);
        self.metrics.database.call_failed();
        match step {
            Step::First => tracing::warn!(reason = reason(), "the database can't be asked"),
            Step::Opened => {
                self.metrics.database.breaker_opened();
                tracing::warn!(
                    failures,
                    reason = reason(),
                    "the breaker is open: the database is not asked by clients until it answers again"
                );
            }
            Step::TrialFailed | Step::None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has happened while the database was away.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    failed: u64,
    refused: u64,
}

/// What a failure has changed.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    None,
    First,
    Opened,
    TrialFailed,
}

impl State {
    fn refuses(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed => false,
            Phase::Open(until) => now < until,
            Phase::HalfOpen => true,
        }
    }

    /// Whether it may go, and whether as a trial.
    fn admit(&mut self, now: Instant) -> Option<bool> {
        if self.refuses(now) {
            return None;
        }
        let is_trial = self.phase != Phase::Closed;
        if is_trial {
            self.phase = Phase::HalfOpen;
        }
        Some(is_trial)
    }

    /// What has happened until now, if it was not closed.
    fn answer(&mut self, now: Instant) -> Option<Counts> {
        let counts = Counts { failed: self.failed, refused: self.refused };
        let was = self.phase;
        *self = Self { phase: Phase::Closed, in_a_row: 0, answered: now, failed: 0, refused: 0 };
        (was != Phase::Closed).then_some(counts)
    }

    fn fail(&mut self, began: Instant, is_trial: bool, now: Instant, failures: u32, pause: Duration) -> Step {
        if began < self.answered {
            // It was answered since.
            return Step::None;
        }
        self.failed = self.failed.saturating_add(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
        match self.phase {
            Phase::Closed if self.in_a_row >= failures => {
                self.phase = Phase::Open(now + pause);
                Step::Opened
            }
            Phase::Closed if self.in_a_row == 1 => Step::First,
            Phase::HalfOpen if is_trial => {
                self.phase = Phase::Open(now + pause);
                Step::TrialFailed
            }
            // What always goes fails often, and must not put off the trial.
            Phase::Closed | Phase::Open(_) | Phase::HalfOpen => Step::None,
        }
    }

    /// A trial has shown nothing: the next call is one.
    fn trial_is_void(&mut self, now: Instant) {
        if self.phase == Phase::HalfOpen {
            self.phase = Phase::Open(now);
        }
    }
}

impl Phase {
    fn label(self) -> BreakerPhase {
        match self {
            Self::Closed => BreakerPhase::Closed,
            Self::Open(_) => BreakerPhase::Open,
            Self::HalfOpen => BreakerPhase::HalfOpen,
        }
    }
}

impl Ticket<'_> {
    /// When the call began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The call has ended.
    pub(super) fn tell(mut self, verdict: Verdict, reason: impl FnOnce() -> String) {
        match verdict {
            Verdict::Answered => self.breaker.note_answer(),
            Verdict::Failed => {
                let is_trial = std::mem::take(&mut self.is_trial);
                self.breaker.note_failure(self.began, is_trial, reason);
            }
            // Dropping it says so.
            Verdict::Nothing => return,
        }
        self.is_trial = false;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.lock().trial_is_void(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(500);
    const FAILURES: u32 = 3;

    struct Driven {
        state: State,
        now: Instant,
    }

    impl Driven {
        fn new() -> Self {
            let now = Instant::now();
            let state = State { phase: Phase::Closed, in_a_row: 0, answered: now, failed: 0, refused: 0 };
            Self { state, now }
        }

        fn passes(&mut self, time: Duration) {
            self.now += time;
        }

        /// A call that began now has failed at once.
        fn fail(&mut self, is_trial: bool) -> Step {
            self.state.fail(self.now, is_trial, self.now, FAILURES, PAUSE)
        }

        fn opened() -> Self {
            let mut driven = Self::new();
            let steps: Vec<Step> = (0..FAILURES).map(|_| driven.fail(false)).collect();
            assert_eq!(steps, [Step::First, Step::None, Step::Opened]);
            driven
        }

        fn admit(&mut self) -> Option<bool> {
            self.state.admit(self.now)
        }
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row() {
        let mut driven = Driven::new();
        for _ in 0..FAILURES - 1 {
            driven.fail(false);
        }
        assert_eq!(driven.state.answer(driven.now), None);
        driven.passes(PAUSE);
        for _ in 0..FAILURES - 1 {
            driven.fail(false);
        }
        assert_eq!(driven.admit(), Some(false), "they were not in a row");
        assert_eq!(driven.fail(false), Step::Opened);
        assert_eq!(driven.admit(), None);
    }

    #[test]
    fn one_call_tries_after_the_pause_and_its_failure_begins_another() {
        let mut driven = Driven::opened();
        driven.passes(PAUSE.saturating_sub(Duration::from_millis(1)));
        assert_eq!(driven.admit(), None);
        driven.passes(Duration::from_millis(1));
        assert_eq!(driven.admit(), Some(true));
        assert_eq!(driven.admit(), None, "one is enough");
        assert_eq!(driven.fail(false), Step::None, "it is not the trial that has failed");
        assert_eq!(driven.admit(), None);
        assert_eq!(driven.fail(true), Step::TrialFailed);
        assert_eq!(driven.admit(), None);
        driven.passes(PAUSE);
        assert_eq!(driven.admit(), Some(true));
        assert_eq!(driven.state.answer(driven.now), Some(Counts { failed: 5, refused: 0 }));
        assert_eq!(driven.admit(), Some(false));
    }

    #[test]
    fn a_trial_that_shows_nothing_is_followed_by_another_at_once() {
        let mut driven = Driven::opened();
        driven.passes(PAUSE);
        assert_eq!(driven.admit(), Some(true));
        driven.state.trial_is_void(driven.now);
        assert_eq!(driven.admit(), Some(true));
    }

    #[test]
    fn any_answer_closes_it() {
        let mut driven = Driven::opened();
        driven.state.refused = 7;
        assert_eq!(driven.state.answer(driven.now), Some(Counts { failed: 3, refused: 7 }));
        assert_eq!(driven.admit(), Some(false));
        assert_eq!(driven.state.failed, 0);
    }

    #[test]
    fn what_fails_late_says_nothing_of_a_database_that_has_answered_since() {
        let mut driven = Driven::new();
        let began = driven.now;
        driven.passes(PAUSE);
        driven.state.answer(driven.now);
        driven.passes(PAUSE);
        for _ in 0..2 * FAILURES {
            let step = driven.state.fail(began, false, driven.now, FAILURES, PAUSE);
            assert_eq!(step, Step::None);
        }
        assert_eq!(driven.admit(), Some(false));
    }

    #[test]
    fn a_ticket_that_is_dropped_gives_the_trial_back() {
        let settings = BreakerSettings { failures: 1, pause: Duration::ZERO, silence: PAUSE };
        let breaker = Breaker::new(settings, Arc::new(Metrics::new().unwrap()));
        breaker.admit().unwrap().tell(Verdict::Failed, String::new);
        assert_eq!(breaker.phase(), BreakerPhase::Open);
        let trial = breaker.admit().unwrap();
        assert!(breaker.refuses() && breaker.admit().is_none());
        drop(trial);
        let trial = breaker.admit().unwrap();
        trial.tell(Verdict::Nothing, String::new);
        breaker.admit().unwrap().tell(Verdict::Answered, String::new);
        assert_eq!(breaker.phase(), BreakerPhase::Closed);
    }
}
