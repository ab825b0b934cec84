//! How many probes may be under way, and which of them.
//!
//! Targets that fail are mostly targets that hang, and a target that hangs holds its slot for the whole time-out. So they
//! have slots of their own, and what turns out to be slow has to move there or is given up: the slots for healthy targets
//! are always soon free again.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Which slots a probe takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// For targets whose last probe succeeded, and for new ones.
    Healthy,
    /// For targets whose last probe failed.
    Failing,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Healthy, Self::Failing];
}

/// The slots: three quarters for healthy targets, one for the failing.
pub(super) struct Lanes {
    healthy: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    /// A quarter of the failing lane, where only slow probes of healthy targets may go. Without it, targets that hang
    /// would fill the lane for ever, and a target that is healthy but slow would never get an answer through.
    slow: Arc<Semaphore>,
}

impl Lanes {
    /// So many slots in all, at least two.
    pub(super) fn new(concurrency: usize) -> Self {
        let slots = |number| Arc::new(Semaphore::new(number));
        let concurrency = concurrency.clamp(2, Semaphore::MAX_PERMITS);
        let quarter = (concurrency / 4).max(1);
        let slow = quarter / 4;
        Self { healthy: slots(concurrency - quarter), failing: slots(quarter - slow), slow: slots(slow) }
    }

    /// A slot in this lane, as soon as there is one.
    pub(super) async fn enter(&self, lane: Lane) -> Option<Slot> {
        let slots = match lane {
            Lane::Healthy => &self.healthy,
            Lane::Failing => &self.failing,
        };
        // `None` if the semaphore is closed, which nobody does.
        let permit = Arc::clone(slots).acquire_owned().await.ok()?;
        Some(Slot { lane, permit })
    }

    /// Moves a probe that takes long out of the healthy lane. If there is no room for it, it must end.
    pub(super) fn may_go_on(&self, slot: &mut Slot) -> bool {
        if slot.lane == Lane::Failing {
            return true;
        }
        let free = [&self.slow, &self.failing].into_iter().find_map(|slots| {
            let permit = Arc::clone(slots).try_acquire_owned();
            permit.ok()
        });
        let Some(permit) = free else { return false };
        *slot = Slot { lane: Lane::Failing, permit };
        true
    }
}

/// The right to have one probe under way; free again when dropped.
pub(super) struct Slot {
    lane: Lane,
    #[expect(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Takes slots of a lane until there is none.
    fn fill(lanes: &Lanes, lane: Lane) -> Vec<Slot> {
        std::iter::from_fn(|| lanes.enter(lane).now_or_never().flatten()).collect()
    }

    /// Moves as many as there is room for.
    fn move_all(lanes: &Lanes, slots: &mut [Slot]) -> usize {
        let healthy = slots.iter_mut().filter(|slot| slot.lane == Lane::Healthy);
        healthy.map(|slot| lanes.may_go_on(slot)).filter(|moved| *moved).count()
    }

    #[test]
    fn a_quarter_is_for_failing_targets_and_the_total_is_never_exceeded() {
        for (concurrency, expected_healthy) in [(256, 192), (8, 6), (4, 3), (3, 2), (2, 1), (1, 1), (0, 1)] {
            let lanes = Lanes::new(concurrency);
            let mut healthy = fill(&lanes, Lane::Healthy);
            let failing = fill(&lanes, Lane::Failing);
            assert_eq!(healthy.len(), expected_healthy, "{concurrency}");
            assert!(!failing.is_empty());
            let moved = move_all(&lanes, &mut healthy);
            assert_eq!(healthy.len() + failing.len() + moved, concurrency.max(2), "{concurrency}");
            assert_eq!(fill(&lanes, Lane::Healthy).len(), moved, "what moved left room behind");
        }
    }

    #[test]
    fn hanging_targets_leave_room_for_slow_ones() {
        let lanes = Lanes::new(256);
        let hanging = fill(&lanes, Lane::Failing);
        let mut healthy = fill(&lanes, Lane::Healthy);
        assert_eq!((hanging.len(), move_all(&lanes, &mut healthy)), (48, 16));
        drop(hanging);
        assert_eq!(move_all(&lanes, &mut healthy), 48);
    }
}
