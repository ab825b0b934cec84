//! Asking again, as long as that may help, with pauses that grow.

use std::time::{Duration, Instant};

use crate::client::ClientError;
use crate::going::jittered;

/// What a server asks for is waited for, up to this.
const LONGEST_ASKED: Duration = Duration::from_mins(1);

/// The pauses between attempts.
#[derive(Debug)]
pub(in crate::cli) struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// Each is twice the one before it, up to the longest.
    pub(in crate::cli) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// The pause after a failure; at least what the server asks for.
    pub(in crate::cli) fn after(&mut self, asked: Option<Duration>) -> Duration {
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        pause.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// After a success.
    pub(in crate::cli) fn begin_again(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

/// Does it until it is done, or no waiting mends it, or this long has passed since it was first tried. `tell` is told once
/// why it takes longer.
pub(in crate::cli) async fn persistently<T>(
    patience: Duration,
    tell: impl Fn(&str),
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let began = Instant::now();
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut is_told = false;
    loop {
        let error = match attempt().await {
            Err(error) if error.is_transient() => error,
            outcome => return outcome,
        };
        let pause = pauses.after(error.retry_after());
        if began.elapsed() + pause > patience {
            return Err(error);
        }
        if !std::mem::replace(&mut is_told, true) {
            tell(&format!("{error}; trying again"));
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_what_is_asked_for_within_reason() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(5));
        let all: Vec<Duration> = (0..6).map(|_| pauses.after(None)).collect();
        for (pause, most) in all.iter().zip([1, 2, 4, 5, 5, 5]) {
            let most = Duration::from_secs(most);
            assert!((most * 3 / 4..=most).contains(pause), "{all:?}");
        }
        assert_eq!(pauses.after(Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(pauses.after(Some(Duration::from_hours(1))), LONGEST_ASKED);
        pauses.begin_again();
        assert!(pauses.after(None) <= Duration::from_secs(1));
    }
}
