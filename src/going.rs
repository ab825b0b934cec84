//! What keeps a task going: a panic ends a part of the work and no more, and those who lost something together don't come
//! back together.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_not_all_the_same_and_none_is_longer() {
        let pause = Duration::from_secs(1);
        let pauses: Vec<Duration> = (0..100).map(|_| jittered(pause)).collect();
        assert!(pauses.iter().all(|jittered| (pause * 3 / 4..=pause).contains(jittered)));
        assert!(pauses.iter().any(|jittered| *jittered != pauses[0]));
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
