//! Self-preservation: when much of the fleet turns stale at once, it is more likely that we are cut off than that they
//! are all dead. Then nobody is removed, until the fleet is seen to be well.

use std::collections::VecDeque;

use crate::node::{Timestamp, Ttl};
use crate::store::health::{Census, FleetCounts, FleetWatch};

/// Fewer nodes say nothing about what is likely.
const SMALLEST_FLEET: u64 = 10;

/// After so long without a census, what was in between is not known.
const UNSEEN_MICROS: i64 = 10_000_000;

/// Whether expiry pauses, and why.
#[derive(Debug)]
pub(super) struct Preservation {
    /// More than so many in a hundred of those that were healthy one TTL ago must have turned stale.
    percent: u8,
    ttl: Ttl,
    watch: FleetWatch,
    /// Who was removed within the last TTL, and when: they were healthy and are stale like those that are still there.
    /// A successor doesn't know of them.
    expired: VecDeque<(Timestamp, u64)>,
    /// The census before.
    noted_at: Option<Timestamp>,
}

/// What a census changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Expiry pauses from now on.
    Began,
    /// Expiry goes on.
    Ended,
}

impl Preservation {
    /// With what a predecessor has written down.
    pub(super) fn inherit(percent: u8, ttl: Ttl, watch: FleetWatch) -> Self {
        Self { percent, ttl, watch, expired: VecDeque::new(), noted_at: None }
    }

    /// Whether expiry pauses.
    pub(super) fn is_on(&self) -> bool {
        self.watch.preserving_since.is_some()
    }

    /// What a successor has to know.
    pub(super) fn watch(&self) -> FleetWatch {
        self.watch
    }

    /// Takes note of nodes that were removed.
    pub(super) fn note_expired(&mut self, at: Timestamp, nodes: u64) {
        self.expired.push_back((at, nodes));
    }

    /// Takes note of a census.
    pub(super) fn note(&mut self, census: &Census) -> Option<Turn> {
        let at = census.horizon.at;
        let one_ttl_ago = at.minus_micros(self.ttl.micros());
        self.expired.retain(|(when, _)| *when >= one_ttl_ago);
        let gone: u64 = self.expired.iter().map(|(_, nodes)| nodes).sum();
        let mut counts = census.counts;
        counts.were_healthy += gone;
        counts.turned_stale += gone;
        self.watch.counts = counts;
        let unseen = self.noted_at.replace(at).is_some_and(|before| before < at.minus_micros(UNSEEN_MICROS));
        let is_small = counts.taking_part < SMALLEST_FLEET;
        if !self.is_on() {
            // Nor do the few that were there already, of a fleet that has just come up.
            let begins = !is_small && counts.were_healthy >= SMALLEST_FLEET && self.too_many_turned(counts);
            return begins.then(|| {
                self.watch.preserving_since = Some(at);
                self.watch.calm_since = None;
                Turn::Began
            });
        }
        if is_small {
            return Some(self.end());
        }
        if self.too_many_turned(counts) || counts.healthy * 2 < counts.taking_part {
            self.watch.calm_since = None;
            return None;
        }
        // Neither an outage nor a clock that went back, nor a time in which nobody looked, was seen to be calm.
        let calm_since = match (self.watch.calm_since, census.horizon.outage) {
            (Some(since), Some(outage)) if since < outage.ended => outage.ended,
            (Some(since), _) if since <= at && !unseen => since,
            _ => at,
        };
        self.watch.calm_since = Some(calm_since);
        (calm_since <= at.minus_micros(self.ttl.micros())).then(|| self.end())
    }

    fn too_many_turned(&self, counts: FleetCounts) -> bool {
        counts.turned_stale * 100 > counts.were_healthy * u64::from(self.percent)
    }

    fn end(&mut self) -> Turn {
        self.watch.preserving_since = None::<Timestamp>;
        self.watch.calm_since = None;
        Turn::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Horizon, Outage};

    const TTL: i64 = 90;

    fn preservation() -> Preservation {
        Preservation::inherit(15, Ttl::from_seconds(TTL), FleetWatch::default())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_micros(second * 1_000_000)
    }

    /// A census: of so many that take part, so many are healthy; of so many that were, so many turned stale.
    fn census(second: i64, taking_part: u64, healthy: u64, were_healthy: u64, turned_stale: u64) -> Census {
        Census {
            horizon: Horizon::at(at(second)),
            counts: FleetCounts { taking_part, healthy, were_healthy, turned_stale },
            changes: Vec::new(),
            overdue: Vec::new(),
            next_due: None,
        }
    }

    #[test]
    fn it_begins_when_more_than_the_share_turned_stale() {
        let mut preservation = preservation();
        assert_eq!(preservation.note(&census(0, 100, 85, 100, 15)), None, "15 % is not more than 15 %");
        assert_eq!(preservation.note(&census(1, 100, 84, 100, 16)), Some(Turn::Began));
        assert!(preservation.is_on());
        assert_eq!(preservation.watch().preserving_since, Some(at(1)));
    }

    #[test]
    fn who_has_expired_still_counts_for_a_ttl() {
        let mut preservation = preservation();
        assert_eq!(preservation.note(&census(0, 100, 90, 100, 10)), None);
        preservation.note_expired(at(0), 10);
        assert_eq!(preservation.note(&census(1, 90, 84, 90, 5)), None, "15 of 100");
        assert_eq!(preservation.note(&census(2, 90, 84, 90, 6)), Some(Turn::Began), "16 of 100");
    }

    #[test]
    fn a_small_fleet_is_exempt() {
        let mut preservation = preservation();
        assert_eq!(preservation.note(&census(0, 9, 0, 9, 9)), None);
        assert_eq!(preservation.note(&census(1, 10, 0, 10, 10)), Some(Turn::Began));
        assert_eq!(preservation.note(&census(2, 9, 0, 9, 9)), Some(Turn::Ended));
    }

    #[test]
    fn the_few_that_were_there_say_nothing_of_a_fleet_that_has_just_come_up() {
        let mut preservation = preservation();
        assert_eq!(preservation.note(&census(0, 1_000, 991, 9, 9)), None);
        assert_eq!(preservation.note(&census(1, 1_000, 990, 10, 10)), Some(Turn::Began));
    }

    #[test]
    fn it_does_not_end_by_itself_as_a_cut_off_lasts() {
        let mut preservation = preservation();
        preservation.note(&census(0, 100, 0, 100, 100));
        for second in 1..10_000 {
            assert_eq!(preservation.note(&census(second, 100, 49, 49, 0)), None);
        }
        assert!(preservation.is_on());
    }

    #[test]
    fn it_ends_when_half_are_healthy_and_few_turn_stale_for_a_whole_ttl() {
        let mut preservation = preservation();
        preservation.note(&census(0, 100, 50, 100, 50));
        // Calm, and again not: it begins anew.
        assert_eq!(preservation.note(&census(10, 100, 50, 50, 0)), None);
        assert_eq!(preservation.note(&census(60, 100, 50, 60, 10)), None);
        for second in 100..100 + TTL {
            assert_eq!(preservation.note(&census(second, 100, 50, 50, 0)), None);
        }
        assert_eq!(preservation.note(&census(100 + TTL, 100, 50, 50, 0)), Some(Turn::Ended));
        assert_eq!(preservation.watch().calm_since, None);
    }

    #[test]
    fn a_successor_inherits_it() {
        let mut first = preservation();
        first.note(&census(0, 100, 0, 100, 100));
        first.note(&census(200, 100, 100, 100, 0));
        let mut second = Preservation::inherit(15, Ttl::from_seconds(TTL), first.watch());
        assert!(second.is_on());
        for now in 201..200 + TTL {
            assert_eq!(second.note(&census(now, 100, 100, 100, 0)), None);
        }
        assert_eq!(second.note(&census(200 + TTL, 100, 100, 100, 0)), Some(Turn::Ended));
    }

    #[test]
    fn neither_an_outage_nor_a_jump_of_the_clock_counts_as_calm() {
        let mut preservation = preservation();
        preservation.note(&census(0, 100, 0, 100, 100));
        preservation.note(&census(100, 100, 100, 100, 0));
        let after = |second| Census {
            horizon: Horizon { at: at(second), outage: Some(Outage { began: at(101), ended: at(1_000) }) },
            ..census(second, 100, 100, 100, 0)
        };
        for second in 1_000..1_000 + TTL {
            assert_eq!(preservation.note(&after(second)), None);
        }
        // Back by ten minutes: a whole TTL again.
        let back = |second| Census {
            horizon: Horizon { at: at(second), outage: Some(Outage { began: at(101), ended: at(500) }) },
            ..census(second, 100, 100, 100, 0)
        };
        for second in 500..500 + TTL {
            assert_eq!(preservation.note(&back(second)), None);
        }
        assert_eq!(preservation.note(&back(500 + TTL)), Some(Turn::Ended));
    }

    #[test]
    fn a_time_in_which_nobody_looked_does_not_count_as_calm() {
        let mut preservation = preservation();
        preservation.note(&census(0, 100, 0, 100, 100));
        assert_eq!(preservation.note(&census(10, 100, 100, 100, 0)), None);
        assert_eq!(preservation.note(&census(10 + TTL, 100, 100, 100, 0)), None);
        for second in 10 + TTL..10 + 2 * TTL {
            assert_eq!(preservation.note(&census(second, 100, 100, 100, 0)), None);
        }
        assert_eq!(preservation.note(&census(10 + 2 * TTL, 100, 100, 100, 0)), Some(Turn::Ended));
    }
}
