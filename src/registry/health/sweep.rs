//! The sweep: looks at the fleet, tells who came to life or turned stale, and removes who has been stale for too long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::preservation::{Preservation, Turn};
use super::standing::{Follow, Report};
use super::{bounded, survive};
use crate::metrics::{Metrics, StatusChange};
use crate::node::{NodeKey, Ttl};
use crate::registry::RegistryError;
use crate::store::Store;
use crate::store::health::{Census, FleetCounts, ReplicaId, Rules};

/// The fleet is looked at this often, whatever the last look said: who registers with a short TTL was not in it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// And not more often than this, however many turn stale.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// So many are told of, or removed, in one transaction.
const TOGETHER: usize = 1_000;
/// For so long a node is left alone that the database refused to remove.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// How often what was told of nodes that are gone is forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// Sees to the fleet while this replica leads.
pub(super) struct Sweeper {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) replica: ReplicaId,
    pub(super) follow: Follow,
    pub(super) report: Arc<Report>,
    pub(super) expire_after: Option<Duration>,
    pub(super) probing: bool,
    pub(super) preservation_percent: u8,
    pub(super) ttl: Ttl,
    /// When this server came up, by its own clock.
    pub(super) up_since: Instant,
    pub(super) stop: CancellationToken,
}

impl Sweeper {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(Some(leadership)) = stop.run_until_cancelled(self.follow.until_leading()).await {
            let preservation =
                Preservation::inherit(self.preservation_percent, self.ttl, self.follow.watch());
            let term = Term { sweeper: &self, number: leadership.term, preservation, kept: HashMap::new() };
            survive("sweep", term.run()).await;
            self.report.set(None);
        }
    }
}

/// One term of leading.
struct Term<'a> {
    sweeper: &'a Sweeper,
    number: u64,
    preservation: Preservation,
    /// Nodes that the database refused to remove, a trigger of the owner's for example, and when to try again.
    kept: HashMap<NodeKey, Instant>,
}

impl Term<'_> {
    async fn run(mut self) {
        let mut forget_at = Instant::now() + FORGET_EVERY;
        let mut failing = false;
        while self.goes_on() {
            let result = self.sweep().await;
            if let Err(error) = &result
                && !failing
            {
                tracing::warn!(reason = crate::registry::reason(error), "the fleet can't be looked after");
            }
            failing = result.is_err();
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_EVERY;
                self.forget().await;
            }
            let pause = tokio::time::sleep(result.unwrap_or(LONGEST_PAUSE));
            if self.sweeper.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Whether this replica still leads, and has done so since the term began.
    fn goes_on(&self) -> bool {
        self.sweeper.follow.leadership().is_some_and(|now| now.term == self.number)
    }

    /// One look at the fleet, and what follows from it; says when to look again.
    async fn sweep(&mut self) -> Result<Duration, RegistryError> {
        let Sweeper { store, metrics, replica, report, expire_after, probing, up_since, .. } = self.sweeper;
        let rules = Rules { expire_after: *expire_after, probing: *probing, uptime: up_since.elapsed() };
        let census = bounded(store.census(&rules)).await?;
        let turn = self.preservation.note(&census);
        report.set(Some(self.preservation.watch()));
        tell(turn, self.preservation.watch().counts);
        for changes in census.changes.chunks(TOGETHER) {
            if !self.goes_on() {
                return Ok(SHORTEST_PAUSE);
            }
            let told = bounded(store.announce(replica, changes)).await?;
            for (change, healthy) in [(StatusChange::Healthy, true), (StatusChange::Stale, false)] {
                let count = told.iter().filter(|told| told.healthy == healthy).count() as u64;
                metrics.life.status_changed(change, count);
            }
        }
        if !self.preservation.is_on() {
            self.expire(&census, &rules).await?;
        }
        Ok(pause(&census, self.preservation.is_on()))
    }

    async fn expire(&mut self, census: &Census, rules: &Rules) -> Result<(), RegistryError> {
        let Sweeper { store, metrics, replica, .. } = self.sweeper;
        let now = Instant::now();
        self.kept.retain(|_, until| *until > now);
        let overdue: Vec<NodeKey> =
            census.overdue.iter().filter(|id| !self.kept.contains_key(id)).cloned().collect();
        for overdue in overdue.chunks(TOGETHER) {
            if !self.goes_on() {
                return Ok(());
            }
            let expiring = store.expire(replica, overdue, &census.horizon, rules);
            let results = bounded(async { Ok(expiring.await) }).await?;
            let expired = results.iter().filter(|result| matches!(result, Ok(true))).count() as u64;
            metrics.life.expired(expired);
            if expired > 0 {
                self.preservation.note_expired(census.horizon.at, expired);
                tracing::info!(expired, "nodes were removed: they had been stale for too long");
            }
            for (id, result) in overdue.iter().zip(&results) {
                if matches!(result, Err(RegistryError::Refused(_))) {
                    self.kept.insert(id.clone(), now + KEPT_FOR);
                }
            }
            crate::registry::report(
                &*self.sweeper.store,
                "expire",
                results.iter().filter_map(|result| result.as_ref().err()),
            );
        }
        Ok(())
    }

    async fn forget(&self) {
        let Sweeper { store, replica, .. } = self.sweeper;
        if let Err(error) = bounded(store.forget_the_gone(replica)).await {
            tracing::warn!(reason = crate::registry::reason(&error), "the gone are not forgotten");
        }
    }
}

fn tell(turn: Option<Turn>, counts: FleetCounts) {
    let (were_healthy, turned_stale) = (counts.were_healthy, counts.turned_stale);
    let (taking_part, healthy) = (counts.taking_part, counts.healthy);
    match turn {
        Some(Turn::Began) => tracing::warn!(
            were_healthy,
            turned_stale,
            taking_part,
            healthy,
            "self-preservation begins: so many turned stale that it is likelier that we are cut off; no node expires"
        ),
        Some(Turn::Ended) => {
            tracing::info!(were_healthy, turned_stale, taking_part, healthy, "self-preservation ends");
        }
        None => {}
    }
}

/// How long to the next look: to the instant at which the next node turns stale or is overdue.
fn pause(census: &Census, preserving: bool) -> Duration {
    if !census.changes.is_empty() && census.is_cut_short() || census.is_cut_short() && !preserving {
        return SHORTEST_PAUSE;
    }
    let due = census.next_due.map(|due| {
        let micros = due.unix_micros().saturating_sub(census.horizon.at.unix_micros());
        // Stale is who is past that instant.
        Duration::from_micros(u64::try_from(micros).unwrap_or_default() + 1_000)
    });
    due.unwrap_or(LONGEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}
