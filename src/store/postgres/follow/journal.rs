//! The journal of signs of life: which rows have been read, and which are of no use any more.
//!
//! Its numbers are not in the order of commits: a transaction that took a low one may commit after one that took a
//! higher one was read. So the numbers that are missing are asked for again, for as long as a transaction of ours can
//! last; after that nobody has them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::node::Timestamp;
use crate::store::StoreError;
use crate::store::follow::JournalPosition;
use crate::store::health::ReplicaId;
use crate::store::postgres::begin;
use crate::store::postgres::health::leads;
use crate::store::postgres::pool::Pool;

/// Time-outs end each statement of a transaction after ten seconds, and the pauses between them.
const LATE: Duration = Duration::from_secs(30);
/// No more numbers than these are asked for again: many are missing after a crash or an attack on the sequence only.
const MOST_MISSING: i64 = 5_000;

/// For so long all rows are kept, with some to spare for the time that a transaction takes: see [`FORGET`].
const KEPT_MICROS: i64 = 45_000_000;
/// Rows that every replica has read long since, the oldest first.
const FORGET: &str = "
DELETE FROM onex_registry_signs
 WHERE id IN (SELECT id FROM (SELECT id, at FROM onex_registry_signs ORDER BY id LIMIT 1000) AS oldest
               WHERE at < statement_timestamp() - interval '60 seconds')";
const FORGET_AT_ONCE: u64 = 1_000;
/// In one call: a few minutes of a large fleet.
const MOST_BATCHES: u32 = 50;

impl JournalPosition {
    /// The position of who has seen a snapshot with these rows, and marks his own with a tag.
    pub(super) fn of(seen: &[i64], own: Arc<str>, now: Instant, at: Timestamp) -> Self {
        let mut position = Self::default().passing_over(own);
        position.read(seen, now, at);
        position
    }

    /// The position of who passes over the rows with a tag from now on: if he has passed over others until now, those are
    /// to be read.
    pub(super) fn passing_over(&self, own: Arc<str>) -> Self {
        if self.own.as_ref() == Some(&own) { self.clone() } else { Self { own: Some(own), ..self.unread() } }
    }

    /// The numbers to ask for again.
    pub(super) fn missing(&self) -> Vec<i64> {
        self.missing.iter().map(|(id, _)| *id).collect()
    }

    /// Whether rows may have been deleted that were never read, for who reads now.
    pub(super) fn is_behind(&self, at: Timestamp) -> bool {
        self.read_at.is_some_and(|read_at| read_at < at.minus_micros(KEPT_MICROS))
    }

    /// Notes that these rows have been read, in a snapshot of an instant of the database's.
    pub(super) fn read(&mut self, ids: &[i64], now: Instant, at: Timestamp) {
        self.read_at = Some(at);
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let read = |id: i64| ids.binary_search(&id).is_ok();
        self.missing.retain(|(id, since)| !read(*id) && now.duration_since(*since) < LATE);
        let Some(newest) = ids.last().copied().filter(|newest| *newest > self.through) else { return };
        let from = self.through.max(newest.saturating_sub(MOST_MISSING)).saturating_add(1);
        self.missing.extend((from..newest).filter(|id| !read(*id)).map(|id| (id, now)));
        self.through = newest;
        let most = usize::try_from(MOST_MISSING).unwrap_or(usize::MAX);
        let surplus = self.missing.len().saturating_sub(most);
        self.missing.drain(..surplus);
    }
}

/// Deletes rows that are of no use any more, if the replica leads. Done by two, it does no harm.
pub(in crate::store::postgres) async fn forget(pool: &Pool, leader: &ReplicaId) -> Result<(), StoreError> {
    for _ in 0..MOST_BATCHES {
        let mut tx = pool.begin_with(begin::WRITE).await?;
        if !leads(&mut tx, leader).await? {
            return Ok(());
        }
        let done = sqlx::query(FORGET).persistent(false).execute(&mut *tx).await?;
        tx.commit().await?;
        if done.rows_affected() < FORGET_AT_ONCE {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_unix_micros(1_000_000_000);

    #[tokio::test]
    async fn who_is_missing_is_asked_for_until_nobody_can_have_the_number() {
        let begun = Instant::now();
        let mut position = JournalPosition::of(&[3, 5, 6], "me".into(), begun, AT);
        assert_eq!((position.through, position.missing()), (6, vec![1, 2, 4]));
        position.read(&[4, 9, 7], begun + Duration::from_secs(10), AT);
        assert_eq!((position.through, position.missing()), (9, vec![1, 2, 8]));
        position.read(&[], begun + LATE, AT);
        assert_eq!((position.through, position.missing()), (9, vec![8]));
        position.read(&[8], begun + LATE, AT);
        assert_eq!((position.through, position.missing()), (9, vec![]));
    }

    #[tokio::test]
    async fn who_was_away_for_long_may_have_missed_something() {
        let mut position = JournalPosition::of(&[3], "me".into(), Instant::now(), AT);
        let later = |seconds: i64| AT.plus_micros(seconds * 1_000_000);
        assert_eq!((position.is_behind(later(45)), position.is_behind(later(46))), (false, true));
        assert!(
            position.unread().is_behind(later(46)) && position.passing_over("I".into()).is_behind(later(46))
        );
        position.read(&[], Instant::now(), later(46));
        assert!(!position.is_behind(later(90)));
    }

    #[tokio::test]
    async fn who_has_another_tag_reads_from_the_begin() {
        let position = JournalPosition::of(&[3], "me".into(), Instant::now(), AT);
        assert_eq!(position.passing_over("me".into()).through, 3);
        let other = position.passing_over("I".into());
        assert_eq!((other.through, other.missing()), (0, vec![]));
        assert_eq!(position.unread().passing_over("me".into()).through, 0);
    }

    #[tokio::test]
    async fn a_sequence_that_jumps_is_not_gone_through() {
        let begun = Instant::now();
        let mut position = JournalPosition::of(&[1], "me".into(), begun, AT);
        position.read(&[i64::MAX - 7], begun, AT);
        assert_eq!(position.missing.len(), 4_999);
        position.read(&[i64::MAX], begun, AT);
        assert_eq!(position.missing.len(), 5_000);
        assert_eq!(position.missing.last().map(|(id, _)| *id), Some(i64::MAX - 1));
    }
}
