//! The sweep: looks at the fleet, tells who came to life or turned stale, and removes who has been stale for too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::preservation::{Preservation, Turn};
use super::standing::{Follow, Report};
use crate::metrics::{Metrics, StatusChange};
use crate::node::Ttl;
use crate::registry::RegistryError;
use crate::store::Store;
use crate::store::health::{Census, ReplicaId, Rules};

/// The fleet is looked at this often, whatever the last look said: who registers with a short TTL was not in it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// And not more often than this, however many turn stale.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// So many are told of, or removed, in one transaction.
const TOGETHER: usize = 1_000;
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
        while let Some(Some(leadership)) =
            self.stop.clone().run_until_cancelled(self.follow.until_leading()).await
        {
            let mut preservation =
                Preservation::inherit(self.preservation_percent, self.ttl, leadership.inherited);
            let mut forget_at = Instant::now() + FORGET_EVERY;
            let mut failing = false;
            while self.follow.leadership().is_some_and(|now| now.term == leadership.term) {
                let pause = match self.sweep(&mut preservation).await {
                    Ok(pause) => {
                        failing = false;
                        pause
                    }
                    Err(error) => {
                        if !failing {
                            tracing::warn!(
                                reason = crate::registry::reason(&error),
                                "the fleet can't be seen to"
                            );
                        }
                        failing = true;
                        LONGEST_PAUSE
                    }
                };
                if Instant::now() >= forget_at {
                    forget_at = Instant::now() + FORGET_EVERY;
                    if let Err(error) = self.store.forget_the_gone().await {
                        tracing::warn!(
                            reason = crate::registry::reason(&error),
                            "the gone are not forgotten"
                        );
                    }
                }
                if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    break;
                }
            }
            self.report.set(None);
        }
    }

    /// One look at the fleet, and what follows from it; says when to look again.
    async fn sweep(&self, preservation: &mut Preservation) -> Result<Duration, RegistryError> {
        let rules =
            Rules { expire_after: self.expire_after, probing: self.probing, uptime: self.up_since.elapsed() };
        let census = self.store.census(&rules).await?;
        let turn = preservation.note(&census);
        self.report.set(Some(preservation.watch()));
        tell(turn, &census);
        for changes in census.changes.chunks(TOGETHER) {
            let told = self.store.announce(&self.replica, changes).await?;
            for (change, healthy) in [(StatusChange::Healthy, true), (StatusChange::Stale, false)] {
                let count = told.iter().filter(|told| told.healthy == healthy).count() as u64;
                self.metrics.life.status_changed(change, count);
            }
        }
        if !census.overdue.is_empty() && !preservation.is_on() {
            self.expire(&census, &rules).await;
        }
        Ok(pause(&census, preservation.is_on()))
    }

    async fn expire(&self, census: &Census, rules: &Rules) {
        for overdue in census.overdue.chunks(TOGETHER) {
            let results = self.store.expire(&self.replica, overdue, &census.horizon, rules).await;
            let expired = results.iter().filter(|result| matches!(result, Ok(true))).count();
            self.metrics.life.expired(expired as u64);
            if expired > 0 {
                tracing::info!(expired, "nodes were removed: they had been stale for too long");
            }
            // One that can't be removed, because a trigger of the owner's is against it, keeps nobody else.
            crate::registry::report("expire", results.iter().filter_map(|result| result.as_ref().err()));
        }
    }
}

fn tell(turn: Option<Turn>, census: &Census) {
    let counts = census.counts;
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
