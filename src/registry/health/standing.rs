//! What this replica last heard from the database, and whether it is the one that sees to the fleet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, SelfPreservation};
use crate::store::Store;
use crate::store::health::{FleetWatch, LEASE, ReplicaId};

/// How often a replica reports to the database.
const TICK: Duration = Duration::from_secs(1);
/// Whoever leads stops so long before another can take the lease: what it has begun is done by then.
const MARGIN: Duration = Duration::from_millis(500);

/// What is known of the whole, as of the last tick.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Whether this replica leads.
    pub leadership: Option<Leadership>,
    /// What the one that leads has written down.
    pub watch: FleetWatch,
}

impl Standing {
    /// Whether this replica leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leadership.as_ref().is_some_and(|leadership| leadership.until > Instant::now())
    }
}

/// The leadership of this replica.
#[derive(Debug, Clone)]
pub struct Leadership {
    /// Counts how often this replica came to lead.
    pub term: u64,
    /// Unless it is renewed, it ends then.
    pub until: Instant,
}

/// What the one that leads wants written down with the next tick. A lock for a copy, never held over an await.
#[derive(Debug, Default)]
pub(super) struct Report(Mutex<Option<FleetWatch>>);

impl Report {
    pub(super) fn set(&self, watch: Option<FleetWatch>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    fn get(&self) -> Option<FleetWatch> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports to the database every second, until told to stop.
pub(super) struct Ticker {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) replica: ReplicaId,
    pub(super) report: Arc<Report>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) stop: CancellationToken,
}

impl Ticker {
    pub(super) async fn run(self) {
        let mut term = 0;
        let mut reached = true;
        let mut was_away = true;
        while !self.stop.is_cancelled() {
            let asked = Instant::now();
            let report = self.report.get();
            let tick = self.store.tick(&self.replica, report.as_ref(), was_away);
            let outcome = tokio::time::timeout(LEASE, tick).await;
            was_away = !matches!(outcome, Ok(Ok(_)));
            match outcome {
                Ok(Ok(tick)) => {
                    if !reached {
                        tracing::info!(at = %tick.horizon.at, "the database answers again");
                    }
                    reached = true;
                    if tick.leads && self.leadership().is_none() {
                        term += 1;
                        tracing::info!(replica = %self.replica, "this replica looks after the fleet from now on");
                    }
                    let leadership =
                        tick.leads.then(|| Leadership { term, until: asked + LEASE.saturating_sub(MARGIN) });
                    self.metrics.life.set_leader(tick.leads);
                    self.metrics.life.set_self_preservation(SelfPreservation {
                        on: tick.watch.preserving_since.is_some(),
                        stale: tick.watch.counts.turned_stale,
                        of: tick.watch.counts.were_healthy,
                    });
                    self.metrics.database.set_up(true);
                    self.standing.send_replace(Standing { leadership, watch: tick.watch });
                }
                outcome => {
                    let reason = match outcome {
                        Ok(Err(error)) => crate::registry::reason(&error),
                        _ => "it took too long".to_owned(),
                    };
                    if reached {
                        tracing::warn!(reason, "the database does not take this replica's report");
                    }
                    reached = false;
                    self.metrics.database.set_up(false);
                    self.metrics.life.set_leader(self.leadership().is_some());
                }
            }
            let next = asked + TICK;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// The leadership that has not ended yet.
    fn leadership(&self) -> Option<Leadership> {
        self.standing.borrow().leadership.clone().filter(|leadership| leadership.until > Instant::now())
    }
}

/// The side of those that do what the one that leads does.
#[derive(Debug, Clone)]
pub(super) struct Follow(pub(super) watch::Receiver<Standing>);

impl Follow {
    /// The leadership, if this replica has it.
    pub(super) fn leadership(&self) -> Option<Leadership> {
        self.0.borrow().leadership.clone().filter(|leadership| leadership.until > Instant::now())
    }

    /// What the one that leads has written down: at the begin of a term, what the predecessor has.
    pub(super) fn watch(&self) -> FleetWatch {
        self.0.borrow().watch
    }

    /// Waits until this replica leads. `None` if it never will, because the server stops.
    pub(super) async fn until_leading(&mut self) -> Option<Leadership> {
        loop {
            if let Some(leadership) = self.leadership() {
                return Some(leadership);
            }
            self.0.changed().await.ok()?;
        }
    }

    /// Waits until this replica doesn't lead any more, or not in the same term.
    pub(super) async fn until_deposed(&mut self, term: u64) {
        loop {
            let Some(leadership) = self.leadership().filter(|leadership| leadership.term == term) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(leadership.until) => {}
                changed = self.0.changed() => if changed.is_err() { return },
            }
        }
    }
}
