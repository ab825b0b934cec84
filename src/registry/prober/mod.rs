//! Health checks: asks every `health_endpoint` whether its node is alive, in a steady rhythm.
//!
//! It is told its targets and reports to a [`ProbeSink`]; it knows of no store, no lease and no server. Read
//! `schedule` (when), `lanes` (how many at a time), `client` (how) and `addresses` (where to); `driver` puts them
//! together.
//!
//! - The status alone decides: any 2xx is a success, as soon as the head of the answer has arrived. The body is read only
//!   so that the connection can be used again, and neither its length nor its pace changes the outcome.
//! - A probe that has taken longer than a tenth of the time-out leaves the slots of the healthy targets. If there is no
//!   room for it among the failing, it has timed out.
//! - Failures are reported as outcomes for metrics and have no other effect: the node's TTL speaks.

mod addresses;
mod client;
mod clock;
mod connection;
mod driver;
mod endpoint;
mod lanes;
mod names;
mod schedule;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_rustls::rustls::RootCertStore;

use self::client::Client;
use self::clock::Clock;
use self::driver::Driver;
use self::lanes::Lanes;
use self::names::{Resolve, SystemNames};
use self::schedule::Schedule;
use crate::node::{NodeKey, Ttl};

pub use self::addresses::AddressPolicy;
pub use self::lanes::Lane;

/// How to probe.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// From one probe of a node to the next; at least 1 s, and at most a third of the node's TTL.
    pub interval: Duration,
    /// How long a probe may take, from the look-up of the name to the head of the answer; at most the interval.
    pub timeout: Duration,
    /// How many probes may be under way, at least 2. A quarter of it is for targets that fail.
    pub concurrency: usize,
    /// How many connections may be kept between probes. Each is an open file: the server needs some for itself.
    pub idle_connections: usize,
    /// Where probes may go.
    pub addresses: AddressPolicy,
}

/// What to probe.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose health it is.
    pub node_id: NodeKey,
    /// The URL, whatever it is: one that can't be probed is [`Outcome::Refused`] each time.
    pub health_endpoint: String,
    /// The TTL that the node is judged by: its own, or the server's.
    pub ttl: Ttl,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A 2xx.
    Success,
    /// Any other status; redirects are not followed.
    Status,
    /// No head of an answer in time, or no room to wait for it.
    Timeout,
    /// The address policy permits none of its addresses, or it is no URL that is probed.
    Refused,
    /// The name has no address.
    Resolve,
    /// No TLS, or no valid certificate.
    Tls,
    /// No connection, or no HTTP on it.
    Connect,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Success, Self::Status, Self::Timeout, Self::Refused, Self::Resolve, Self::Tls, Self::Connect];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Resolve => "resolve",
            Self::Tls => "tls",
            Self::Connect => "connect",
        }
    }
}

/// Who is told. The calls must return at once and must not call the prober: its lock is held, so that nothing is
/// reported of a target after [`Prober::clear`] or [`Prober::forget`] has returned.
pub trait ProbeSink: Send + Sync + 'static {
    /// A node has answered with success.
    fn alive(&self, node: &NodeKey);
    /// A probe has ended, after so long.
    fn observed(&self, outcome: Outcome, took: Duration);
    /// A probe begins, so long after its time.
    fn late(&self, lane: Lane, by: Duration);
}

/// Why there can be no prober.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// The resolver of names.
    #[error("the resolver of names can't be set up: {0}")]
    Names(#[source] hickory_resolver::net::NetError),
    /// TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(#[source] tokio_rustls::rustls::Error),
}

/// Probes targets until it is closed.
pub struct Prober(Arc<Driver>);

impl Prober {
    /// A prober without targets. To be called within a Tokio runtime, where its tasks are spawned.
    ///
    /// # Errors
    /// See [`ProberError`].
    pub fn new(settings: ProbeSettings, sink: Arc<dyn ProbeSink>) -> Result<Self, ProberError> {
        let names = SystemNames::new().map_err(ProberError::Names)?;
        Self::with(settings, sink, Box::new(names), tls::system_roots())
    }

    fn with(
        settings: ProbeSettings,
        sink: Arc<dyn ProbeSink>,
        names: Box<dyn Resolve>,
        roots: RootCertStore,
    ) -> Result<Self, ProberError> {
        let ProbeSettings { interval, timeout, concurrency, idle_connections, addresses } = settings;
        let parking = Arc::new(Semaphore::new(idle_connections.min(Semaphore::MAX_PERMITS)));
        let tls = tls::connector(roots).map_err(ProberError::Tls)?;
        let client = Client { addresses, names, tls, parking };
        // As many new targets are probed early as could be probed at once.
        let schedule = Schedule::new(interval, timeout, concurrency);
        Ok(Self(Driver::start(schedule, client, Lanes::new(concurrency), sink)))
    }

    /// Probes these and no others. What is known of those that stay is kept, and new ones begin in their rhythm.
    pub fn replace(&self, targets: Vec<Target>) {
        self.0.change(|state| {
            if state.schedule.is_empty() {
                // Another replica may have probed them until now: its rhythm is the wall clock's.
                state.clock = Clock::start();
            }
            state.schedule.replace(targets, state.clock.now());
        });
    }

    /// Probes this one as well. If it is new or has a new URL, then within a second or so.
    pub fn set(&self, target: Target) {
        self.0.change(|state| state.schedule.set(target, state.clock.now()));
    }

    /// Probes this one no longer. A probe of it that is under way is dropped and not reported.
    pub fn forget(&self, node: &NodeKey) {
        self.0.change(|state| state.schedule.forget(node));
    }

    /// Probes nothing any more. Probes under way are dropped and not reported.
    pub fn clear(&self) {
        self.0.change(|state| state.schedule.clear());
    }

    /// Ends the probes and waits until they have ended. What is set after that is not probed.
    pub async fn close(&self) {
        self.0.stop();
        self.0.ended().await;
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.stop();
    }
}
