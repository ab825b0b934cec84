//! The journal of signs of life: which rows have been read, and which are of no use any more.
//!
//! Its numbers are not in the order of commits: a transaction that took a low one may commit after one that took a
//! higher one was read. So the numbers that are missing are asked for again, for as long as a transaction of ours can
//! last; after that nobody has them.

use std::time::Duration;

use tokio::time::Instant;

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

/// Rows that every replica has read long since, the oldest first.
const FORGET: &str = "
DELETE FROM onex_registry_signs
 WHERE id IN (SELECT id FROM (SELECT id, at FROM onex_registry_signs ORDER BY id LIMIT 1000) AS oldest
               WHERE at < statement_timestamp() - interval '60 seconds')";
const FORGET_AT_ONCE: u64 = 1_000;
/// In one call: a few minutes of a large fleet.
const MOST_BATCHES: u32 = 50;

impl JournalPosition {
    /// The position of who has seen a snapshot with these rows.
    pub(super) fn of(seen: &[i64], now: Instant) -> Self {
        let mut position = Self::default();
        position.read(seen, now);
        position
    }

    /// The numbers to ask for again.
    pub(super) fn missing(&self) -> Vec<i64> {
        self.missing.iter().map(|(id, _)| *id).collect()
    }

    /// Notes that these rows have been read.
    pub(super) fn read(&mut self, ids: &[i64], now: Instant) {
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

    #[tokio::test]
    async fn who_is_missing_is_asked_for_until_nobody_can_have_the_number() {
        let begun = Instant::now();
        let mut position = JournalPosition::of(&[3, 5, 6], begun);
        assert_eq!((position.through, position.missing()), (6, vec![1, 2, 4]));
        position.read(&[4, 9, 7], begun + Duration::from_secs(10));
        assert_eq!((position.through, position.missing()), (9, vec![1, 2, 8]));
        position.read(&[], begun + LATE);
        assert_eq!((position.through, position.missing()), (9, vec![8]));
        position.read(&[8], begun + LATE);
        assert_eq!((position.through, position.missing()), (9, vec![]));
    }

    #[tokio::test]
    async fn a_sequence_that_jumps_is_not_gone_through() {
        let begun = Instant::now();
        let mut position = JournalPosition::of(&[1], begun);
        position.read(&[i64::MAX - 7], begun);
        assert_eq!(position.missing.len(), 4_999);
        position.read(&[i64::MAX], begun);
        assert_eq!(position.missing.len(), 5_000);
        assert_eq!(position.missing.last().map(|(id, _)| *id), Some(i64::MAX - 1));
    }
}
