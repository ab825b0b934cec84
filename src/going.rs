//! What keeps tasks going: a panic ends a part of the work and no more, those who lost something together don't come back
//! together, and who has much to do lets others have their turn.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, TryStreamExt as _};

/// A pause between three quarters of this and all of it: those who lost something together don't come back together.
#[must_use]
pub(crate) fn jittered(pause: Duration) -> Duration {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    // A thousandth is fine enough.
    let parts = u32::try_from(random % 251).unwrap_or_default();
    pause * (1_000 - parts) / 1_000
}

/// The pause after a panic: what panics at once again should not take a core.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// Does a part of the work; `None` if a panic has ended it. Whoever calls this begins anew: a task that ended without a
/// word would be missed by nobody.
pub(crate) async fn survive<T>(work: &'static str, part: impl Future<Output = T>) -> Option<T> {
    let outcome = AssertUnwindSafe(part).catch_unwind().await;
    if outcome.is_err() {
        // The panic itself is on the standard error already.
        tracing::error!(work, "a panic; it begins anew");
        tokio::time::sleep(AFTER_A_PANIC).await;
    }
    outcome.ok()
}

/// Does what has no end, and begins anew after a panic.
pub(crate) async fn keep_going<P: Future>(work: &'static str, mut begin: impl FnMut() -> P) {
    while survive(work, begin()).await.is_none() {}
}

/// Work in many steps that may all be possible at once, so that none has to wait.
///
/// A thread of the runtime that is at work doesn't look at what comes from outside, and the others may all be asleep: as
/// long as a task takes no pause, nobody may be answered, and no timer runs out.
#[derive(Debug, Default)]
pub(crate) struct Turns(usize);

impl Turns {
    /// So many steps are made in a row.
    pub(crate) const STEPS: usize = 16;

    /// A step was made. If it is time, all others have their turn.
    pub(crate) async fn step(&mut self) {
        self.steps(1).await;
    }

    /// So many steps were made.
    pub(crate) async fn steps(&mut self, made: usize) {
        self.0 += made;
        if self.0 >= Self::STEPS {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Does what takes long on a thread where nobody waits behind it. A panic there is one here. `None`: the program ends.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// Takes each item of a stream that may always have a next one, such as the rows of a large answer.
///
/// # Errors
/// Those of the stream, and of `take`. What comes after is not taken.
pub(crate) async fn take_each<T, E>(
    mut items: impl Stream<Item = Result<T, E>> + Unpin,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let mut turns = Turns::default();
    while let Some(item) = items.try_next().await? {
        take(item)?;
        turns.step().await;
    }
    Ok(())
}

/// The same, for what is made of each.
///
/// # Errors
/// Those of the stream, and of `make`.
pub(crate) async fn collect_each<T, M, E>(
    items: impl Stream<Item = Result<T, E>> + Unpin,
    make: impl Fn(&T) -> Result<M, E>,
) -> Result<Vec<M>, E> {
    let mut all = Vec::new();
    take_each(items, |item| {
        all.push(make(&item)?);
        Ok(())
    })
    .await?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn pauses_are_not_all_the_same_and_none_is_longer() {
        let pause = Duration::from_secs(1);
        let pauses: Vec<Duration> = (0..100).map(|_| jittered(pause)).collect();
        assert!(pauses.iter().all(|jittered| (pause * 3 / 4..=pause).contains(jittered)));
        assert!(pauses.iter().any(|jittered| *jittered != pauses[0]));
    }

    #[tokio::test]
    async fn who_takes_much_lets_others_have_their_turn() {
        let since_others_had_it = Arc::new(AtomicUsize::new(0));
        let since = Arc::clone(&since_others_had_it);
        let others = tokio::spawn(async move {
            loop {
                since.store(0, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let items = futures_util::stream::iter((0..1_000).map(Ok::<usize, usize>));
        let mut taken = 0;
        let outcome = take_each(items, |item| {
            taken += 1;
            assert!(since_others_had_it.fetch_add(1, Ordering::Relaxed) < Turns::STEPS);
            if item < 900 { Ok(()) } else { Err(item) }
        });
        assert_eq!(outcome.await, Err(900));
        assert_eq!(taken, 901);
        others.abort();
    }

    #[tokio::test]
    async fn a_panic_ends_a_part_and_not_the_work() {
        let mut parts = 0;
        keep_going("a test", || {
            parts += 1;
            let is_first = parts == 1;
            async move { assert!(!is_first, "a mistake") }
        })
        .await;
        assert_eq!(parts, 2);
    }
}
