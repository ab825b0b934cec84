//! Long polls: who is told that there may be something new, and then reads what there is.

use std::time::Duration;

use tokio::time::Instant;

use super::LOOKED_AT_ONCE;
use super::judge::Judge;
use crate::node::{DiscoveryQuery, Revision};
use crate::registry::Registry;
use crate::registry::catalog::Conditions;
use crate::registry::reads::PATIENCE;

impl Registry {
    /// Waits for a change after a revision that concerns nodes which match a query, or may have matched it; for so long at
    /// the most, and no longer than until the server stops. It may end without such a change, but none is missed.
    pub async fn await_change(&self, query: &DiscoveryQuery, since: Revision, at_most: Duration) {
        tokio::select! {
            () = self.change_concerns(query, since) => {}
            () = tokio::time::sleep(at_most) => {}
            () = self.watching.stopping.cancelled() => {}
        }
    }

    async fn change_concerns(&self, query: &DiscoveryQuery, since: Revision) {
        let conditions = Conditions::of(query);
        let mut pulse = self.watching.pulse.subscribe();
        let mut position = since;
        let patience = Instant::now() + PATIENCE;
        let mut reached = None;
        loop {
            // Before looking: what comes while we look wakes us up again.
            pulse.mark_unchanged();
            let mut is_ahead = false;
            match self.catalog.fleet() {
                // It isn't loaded yet. Nobody knows how long that takes, and it is told when it is.
                None => {}
                // It was loaded anew.
                Some(fleet) if reached.is_some_and(|epoch| epoch != fleet.epoch()) => return,
                // Another replica has said this number and we will hear of it, unless the database was restored.
                Some(fleet) if fleet.revision() < position && Instant::now() >= patience => return,
                Some(fleet) if fleet.revision() < position => is_ahead = true,
                Some(fleet) => {
                    reached = Some(fleet.epoch());
                    let Ok(changes) = fleet.changes_after(position, LOOKED_AT_ONCE) else { return };
                    let judge = Judge::new(&conditions, &fleet);
                    if changes.iter().any(|change| judge.concerns(change)) {
                        return;
                    }
                    match changes.last() {
                        Some(last) if changes.len() == LOOKED_AT_ONCE => {
                            position = last.event.revision;
                            tokio::task::yield_now().await;
                            continue;
                        }
                        _ => position = fleet.revision(),
                    }
                }
            }
            let woken = pulse.changed();
            let ended = if is_ahead {
                matches!(tokio::time::timeout_at(patience, woken).await, Ok(Err(_)))
            } else {
                woken.await.is_err()
            };
            if ended {
                return;
            }
        }
    }
}
