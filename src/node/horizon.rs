//! The instant at which life is judged, and the outages that nobody is to be blamed for.

use std::time::Duration;

use super::record::Ttl;
use super::timestamp::Timestamp;

/// For so long nobody may have reached the database before it counts as an outage. Replicas report every second.
const LONGEST_SILENCE_MICROS: i64 = 3_000_000;
/// The same for a replica that has just started, or could not report: it knows that it was away itself.
const SHORTEST_OUTAGE_MICROS: i64 = 1_300_000;

/// A time in which no heartbeat could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Until then heartbeats were taken.
    pub began: Timestamp,
    /// Since then they are again.
    pub ended: Timestamp,
}

/// Until when heartbeats were taken, as all replicas have written it down, in the database's time.
///
/// A jump of the database's clock looks like an outage, and is to be treated like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Availability {
    /// A replica reached the database then, and none later. `None`: no replica ever did.
    pub served_until: Option<Timestamp>,
    /// The last outage that is known to be over.
    pub outage: Option<Outage>,
}

impl Availability {
    /// What is to be written down by a replica that reaches the database now, and was away before or not.
    #[must_use]
    pub fn reached(self, now: Timestamp, server_ttl: Ttl, was_away: bool) -> Self {
        let silence = if was_away { SHORTEST_OUTAGE_MICROS } else { LONGEST_SILENCE_MICROS };
        Self { served_until: Some(now), outage: self.outage_after(silence, now, server_ttl) }
    }

    /// What life is judged by now. An outage that nobody has written down yet ends with this.
    #[must_use]
    pub fn horizon(self, now: Timestamp, server_ttl: Ttl) -> Horizon {
        Horizon { at: now, outage: self.outage_after(LONGEST_SILENCE_MICROS, now, server_ttl) }
    }

    fn outage_after(self, silence_micros: i64, now: Timestamp, server_ttl: Ttl) -> Option<Outage> {
        let silent_since = self.served_until.filter(|until| *until < now.minus_micros(silence_micros));
        // Of a clock that went back, what is still to come is not known yet.
        let known = self
            .outage
            .filter(|outage| outage.began <= now)
            .map(|outage| Outage { ended: outage.ended.min(now), ..outage });
        match (silent_since, known) {
            (None, known) => known,
            // Who was still in the grace after the one before had no full TTL in between.
            (Some(since), Some(before)) if before.ended >= since.minus_micros(server_ttl.micros()) => {
                Some(Outage { began: before.began, ended: now })
            }
            (Some(since), _) => Some(Outage { began: since, ended: now }),
        }
    }
}

/// What life is judged by: an instant of the database's up to which all heartbeats are known, and the last outage
/// before it. Who was not stale when the outage began has a TTL of grace after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The instant.
    pub at: Timestamp,
    /// The last outage.
    pub outage: Option<Outage>,
}

impl Horizon {
    /// An instant without an outage before it.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self { at, outage: None }
    }

    /// For how long there has been an outage that is not known to be over; `None` if there is none.
    #[must_use]
    pub fn stands_still(&self) -> Option<Duration> {
        let outage = self.outage.filter(|outage| outage.ended >= self.at)?;
        let micros = self.at.unix_micros().saturating_sub(outage.began.unix_micros());
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
    }

    /// Whether a sign of life still counts. One that is exactly one TTL old does.
    #[must_use]
    pub fn is_alive(&self, sign_of_life: Timestamp, ttl: Ttl) -> bool {
        self.ends(sign_of_life, ttl) >= self.at
    }

    /// When a sign of life ceases to count.
    #[must_use]
    pub fn ends(&self, sign_of_life: Timestamp, ttl: Ttl) -> Timestamp {
        let ends = sign_of_life.plus_micros(ttl.micros());
        match self.outage {
            Some(outage) if ends >= outage.began => ends.max(outage.ended.plus_micros(ttl.micros())),
            _ => ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Ttl = Ttl::from_seconds(90);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000)
    }

    fn outage(began: i64, ended: i64) -> Outage {
        Outage { began: at(began), ended: at(ended) }
    }

    #[test]
    fn a_sign_of_life_counts_for_one_ttl() {
        let horizon = Horizon::at(at(100));
        assert!(horizon.is_alive(at(10), TTL) && horizon.is_alive(at(200), TTL));
        assert!(!horizon.is_alive(at(9), TTL));
        assert!(
            horizon.is_alive(Timestamp::INFINITY, TTL) && !horizon.is_alive(Timestamp::NEG_INFINITY, TTL)
        );
    }

    #[test]
    fn who_was_alive_when_an_outage_began_has_a_ttl_of_grace_after_it() {
        let horizon = |now| Horizon { at: at(now), outage: Some(outage(1_000, 2_000)) };
        assert!(horizon(2_090).is_alive(at(910), TTL));
        assert!(!horizon(2_091).is_alive(at(910), TTL), "the grace is one TTL");
        assert!(!horizon(2_000).is_alive(at(909), TTL), "it was stale before");
        assert!(horizon(2_095).is_alive(at(2_005), TTL));
    }

    #[test]
    fn silence_is_an_outage_for_who_looks_and_for_who_writes_it_down() {
        let served = Availability { served_until: Some(at(100)), outage: None };
        assert_eq!(served.horizon(at(103), TTL).outage, None);
        assert_eq!(served.horizon(at(500), TTL).outage, Some(outage(100, 500)));
        let after = served.reached(at(500), TTL, false);
        assert_eq!(after, Availability { served_until: Some(at(500)), outage: Some(outage(100, 500)) });
        assert_eq!(after.horizon(at(501), TTL).outage, Some(outage(100, 500)));
        // A clock that went back is no silence.
        assert_eq!(
            served.reached(at(50), TTL, true),
            Availability { served_until: Some(at(50)), outage: None }
        );
        assert_eq!(Availability::default().horizon(at(500), TTL).outage, None);
    }

    #[test]
    fn who_was_away_itself_takes_a_shorter_silence_for_an_outage() {
        let served = Availability { served_until: Some(at(100)), outage: None };
        assert_eq!(served.reached(at(102), TTL, false).outage, None);
        assert_eq!(served.reached(at(102), TTL, true).outage, Some(outage(100, 102)));
        assert_eq!(served.reached(at(101), TTL, true).outage, None);
    }

    #[test]
    fn an_outage_is_not_in_the_future() {
        let served = Availability { served_until: Some(at(1_000)), outage: Some(outage(101, 1_000)) };
        assert_eq!(served.horizon(at(500), TTL).outage, Some(outage(101, 500)));
        assert_eq!(served.horizon(at(100), TTL).outage, None);
    }

    #[test]
    fn outages_in_quick_succession_are_one() {
        let first = Availability { served_until: Some(at(190)), outage: Some(outage(50, 100)) };
        assert_eq!(first.horizon(at(300), TTL).outage, Some(outage(50, 300)));
        let later = Availability { served_until: Some(at(191)), ..first };
        assert_eq!(later.horizon(at(300), TTL).outage, Some(outage(191, 300)));
    }
}
