//! How many requests a client may send: so many per second in the long run, and so many at once.
//!
//! The memory that it takes is bounded, however many clients there are. (The crate `governor` keeps one entry for each
//! client that it has ever seen until it is told to clean up, and has no upper bound between two times.)

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use tokio::time::Instant;

use super::client::Client;
use super::problem::Problem;
use super::seldom::Seldom;
use crate::config::RateLimit;
use crate::keys::Key;
use crate::metrics::Metrics;

/// So many clients are told apart, some dozens of bytes each: those that have sent something of late. There are parts, so
/// that requests don't all wait for one lock.
const PARTS: usize = 16;
const MOST_PER_PART: usize = 16 * 1024;
/// To look for clients that can be forgotten takes a walk over all of a part.
const LEAST_BETWEEN_WALKS: Duration = Duration::from_millis(100);

/// Counts requests for the clients that send them.
pub(super) struct Counter {
    limiter: RateLimiter,
    metrics: Arc<Metrics>,
    told: Seldom,
}

impl Counter {
    pub(super) fn new(limit: RateLimit, metrics: Arc<Metrics>) -> Self {
        Self { limiter: RateLimiter::new(limit), metrics, told: Seldom::default() }
    }

    /// Counts a request for the key that it shows, or else for where it comes from.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) fn count(&self, request: &Request, key: Option<&Key>) -> Result<(), Problem> {
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        // Whoever looks whether the server is alive must not take it for dead.
        if matches!(route, Some("/livez" | "/readyz")) {
            return Ok(());
        }
        let Some(client) = Client::of(request, key) else { return Ok(()) };
        self.limiter.count(client).map_err(|wait| {
            self.metrics.door.rate_limited();
            if self.told.is_due() {
                // Who it is stands in the span of the request.
                tracing::warn!(
                    "a client sends more requests than it may (ONEX_REGISTRY_RATE_LIMIT), and is told to wait"
                );
            }
            Problem::too_many_requests(wait)
        })
    }
}

/// A bucket of tokens for each client, written as an instant (GCRA): up to when what it has sent is paid for at the
/// steady rate. The further that lies ahead, the emptier is the bucket.
struct RateLimiter {
    /// What one request costs.
    cost: Duration,
    /// How far ahead a client may be.
    burst: Duration,
    parts: Vec<Mutex<Part>>,
    hasher: RandomState,
    most_per_part: usize,
}

struct Part {
    paid_until: HashMap<Client, Instant>,
    /// All those that there is no room to tell apart.
    crowd: Instant,
    walked: Option<Instant>,
}

impl RateLimiter {
    fn new(limit: RateLimit) -> Self {
        Self::with(limit, MOST_PER_PART)
    }

    fn with(limit: RateLimit, most_per_part: usize) -> Self {
        let cost = Duration::from_secs(1) / limit.per_second.get();
        let part = || Mutex::new(Part { paid_until: HashMap::new(), crowd: Instant::now(), walked: None });
        Self {
            cost,
            burst: cost * limit.burst.get(),
            parts: std::iter::repeat_with(part).take(PARTS).collect(),
            hasher: RandomState::new(),
            most_per_part,
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait, if it is one too many. It is not counted then: who asks again too early is not punished for it.
    fn count(&self, client: Client) -> Result<(), Duration> {
        let now = Instant::now();
        // A remainder of the number of parts is one of them.
        let index = usize::try_from(self.hasher.hash_one(&client) % PARTS as u64).unwrap_or_default();
        // A std mutex: it is held for a look-up, and never over an await. No panic leaves a part half changed.
        let mut part = self.parts[index].lock().unwrap_or_else(PoisonError::into_inner);
        let Part { paid_until, crowd, walked } = &mut *part;
        if let Some(until) = paid_until.get_mut(&client) {
            return self.pay(until, now);
        }
        let is_full = paid_until.len() >= self.most_per_part;
        if is_full && walked.is_none_or(|walked| now - walked >= LEAST_BETWEEN_WALKS) {
            // Whose bucket is full is as one that was never seen.
            paid_until.retain(|_, until| *until > now);
            *walked = Some(now);
        }
        if paid_until.len() >= self.most_per_part {
            // More clients than can be told apart, and all of them busy: those that come now share one bucket. The
            // others are not forgotten for them, or whoever has many addresses could have itself forgotten.
            return self.pay(crowd, now);
        }
        let mut until = now;
        self.pay(&mut until, now)?;
        paid_until.insert(client, until);
        Ok(())
    }

    fn pay(&self, until: &mut Instant, now: Instant) -> Result<(), Duration> {
        let after = (*until).max(now) + self.cost;
        if let Some(too_far) = (after - now).checked_sub(self.burst).filter(|too_far| !too_far.is_zero()) {
            return Err(too_far);
        }
        *until = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limiter(per_second: u32, burst: u32, most_per_part: usize) -> RateLimiter {
        let number = |number| NonZeroU32::new(number).unwrap();
        let limit = RateLimit { per_second: number(per_second), burst: number(burst) };
        RateLimiter::with(limit, most_per_part)
    }

    fn client(number: u32) -> Client {
        Client::Address(std::net::Ipv4Addr::from_bits(number).into())
    }

    /// How many of so many requests at once are let through.
    fn let_through(limiter: &RateLimiter, client: &Client, requests: usize) -> usize {
        (0..requests).filter(|_| limiter.count(client.clone()).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_its_burst_and_then_its_rate() {
        let limiter = limiter(10, 3, 100);
        assert_eq!(let_through(&limiter, &client(1), 100), 3);
        assert_eq!(limiter.count(client(1)), Err(Duration::from_millis(100)));
        assert_eq!(let_through(&limiter, &client(2), 100), 3, "others are not concerned");
        assert_eq!(let_through(&limiter, &Client::Key("k".into()), 100), 3);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(let_through(&limiter, &client(1), 100), 1);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(let_through(&limiter, &client(1), 100), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_known_are_not_forgotten_for_the_new() {
        let limiter = limiter(1, 1, 4);
        let known = |limiter: &RateLimiter| {
            limiter.parts.iter().map(|part| part.lock().unwrap().paid_until.len()).sum::<usize>()
        };
        assert!(limiter.count(client(0)).is_ok());
        let passed = (1..10_000).filter(|number| limiter.count(client(*number)).is_ok()).count();
        assert_eq!(known(&limiter), 4 * PARTS);
        assert!(passed < 5 * PARTS, "all others share one bucket per part: {passed}");
        assert!(limiter.count(client(0)).is_err(), "it is remembered");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limiter.count(client(20_000)).is_ok(), "who is quiet makes room");
        assert!(known(&limiter) <= 4 * PARTS);
    }
}
