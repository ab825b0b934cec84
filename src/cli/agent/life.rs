//! The node at the registry: registered, kept alive, registered again when it is forgotten, and deregistered at the end.
//!
//! What is said is a line per change of state, however often something fails.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::check::Check;
use super::node::OurNode;
use super::reap::Ours;
use crate::cli::asking::{Pauses, say};
use crate::client::{Client, ClientError, Condition, Query};
use crate::going::jittered;

/// The longest pause before a registry that is away or refuses us is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The first.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What the agent does for the node.
#[derive(Debug)]
pub(super) struct Life<'l> {
    client: &'l Client,
    node: &'l OurNode,
    /// Between two heartbeats.
    interval: Duration,
    check: Option<&'l Check>,
    ours: &'l Ours,
    /// What is known of our registration.
    registration: Known,
    /// What has been said last of the registry, if it isn't that all is well.
    trouble: Option<Trouble>,
    /// Whether the last check failed.
    is_unwell: bool,
    pauses: Pauses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// There is none of ours.
    None,
    /// It was sent, and what became of it is not known.
    Sent,
    /// It has this revision.
    Revision(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Away,
    NotAllowed,
    Refused,
    Other,
}

impl Trouble {
    fn of(error: &ClientError) -> Self {
        match error.status() {
            Some(401 | 403) => Self::NotAllowed,
            _ if error.is_transient() => Self::Away,
            Some(400..=499) => Self::Refused,
            _ => Self::Other,
        }
    }
}

impl<'l> Life<'l> {
    pub(super) fn new(
        client: &'l Client,
        node: &'l OurNode,
        interval: Duration,
        check: Option<&'l Check>,
        ours: &'l Ours,
    ) -> Self {
        Self {
            client,
            node,
            interval,
            check,
            ours,
            registration: Known::None,
            trouble: None,
            is_unwell: false,
            pauses: Pauses::new(FIRST_PAUSE.min(interval), LONGEST_PAUSE.min(interval)),
        }
    }

    /// Registers it before the command runs: it is not alive yet. Returns as well if the registry can't be asked now;
    /// `must`: then it is waited for, until it is told to end. What is on its way then is not to be dropped: it would arrive
    /// after the deregistration.
    ///
    /// # Errors
    /// The registry refuses it as it is.
    pub(super) async fn begin(&mut self, must: bool, end: &CancellationToken) -> Result<(), ClientError> {
        loop {
            match self.register(false).await {
                Ok(()) => return Ok(()),
                Err(error) if Trouble::of(&error) == Trouble::Refused => return Err(error),
                Err(error) => {
                    let pause = self.failed(&error);
                    if !must {
                        return Ok(());
                    }
                    if end.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Keeps it alive until it is told to end. What is on its way then is waited for: it must not arrive after the
    /// deregistration.
    pub(super) async fn keep(&mut self, end: &CancellationToken) {
        let mut is_first = true;
        while !end.is_cancelled() {
            let began = Instant::now();
            let is_well = tokio::select! {
                is_well = self.is_well() => is_well,
                () = end.cancelled() => return,
            };
            let asked = if is_well { self.beat().await } else { self.stay_known().await };
            let next = match asked {
                Ok(()) if std::mem::take(&mut is_first) => began + spread(self.interval),
                Ok(()) => began + jittered(self.interval),
                // The registry is given the pause that it asks for, however long the call took.
                Err(error) => Instant::now() + self.failed(&error),
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = end.cancelled() => return,
            }
        }
    }

    async fn is_well(&mut self) -> bool {
        let Some(check) = self.check else { return true };
        let checked = check.run(self.ours).await;
        let was_unwell = std::mem::replace(&mut self.is_unwell, checked.is_err());
        match checked {
            Err(reason) if !was_unwell => {
                say(&format!("the check {reason}; no heartbeats until it succeeds"));
            }
            Ok(()) if was_unwell => say("the check succeeds again"),
            _ => {}
        }
        !self.is_unwell
    }

    /// A sign of life. A node that the registry doesn't know is registered, which is one, too.
    async fn beat(&mut self) -> Result<(), ClientError> {
        if !matches!(self.registration, Known::Revision(_)) {
            return self.register(true).await;
        }
        match self.client.heartbeat(&self.node.id).await {
            Ok(_) => {
                self.succeeded();
                Ok(())
            }
            Err(error) if error.status() == Some(404) => {
                self.registration = Known::None;
                self.register(true).await
            }
            Err(error) => Err(error),
        }
    }

    /// A node that isn't well is registered all the same.
    async fn stay_known(&mut self) -> Result<(), ClientError> {
        match self.registration {
            Known::Revision(_) => Ok(()),
            _ => self.register(false).await,
        }
    }

    async fn register(&mut self, alive: bool) -> Result<(), ClientError> {
        let before = std::mem::replace(&mut self.registration, Known::Sent);
        let json = self.node.json.clone();
        match self.client.register(&self.node.id, json, alive, Condition::None).await {
            Ok(registered) => {
                let revision = registered.node.fields.revision;
                self.registration = Known::Revision(revision);
                self.succeeded();
                say(&format!("registered {}, revision {revision}", self.node.id));
                Ok(())
            }
            Err(error) => {
                if !may_be_done(&error) {
                    self.registration = before;
                }
                Err(error)
            }
        }
    }

    fn succeeded(&mut self) {
        self.pauses.begin_again();
        if self.trouble.take().is_some() {
            say("the registry is back");
        }
    }

    /// Says it, unless it has been said, and returns the pause.
    fn failed(&mut self, error: &ClientError) -> Duration {
        let trouble = Trouble::of(error);
        if self.trouble.replace(trouble) != Some(trouble) {
            say(&format!("{error}; trying again"));
        }
        self.pauses.after(error.retry_after())
    }

    /// Deregisters it, if it is ours: somebody may have registered another in its place, a newer version say.
    pub(super) async fn end(&mut self) {
        if self.registration == Known::None {
            return;
        }
        loop {
            match self.try_to_deregister().await {
                Ok(true) => return say(&format!("deregistered {}", self.node.id)),
                Ok(false) => return say("not deregistered: nothing of ours is registered any more"),
                Err(error) if error.is_transient() => tokio::time::sleep(self.failed(&error)).await,
                Err(error) => return say(&format!("not deregistered: {error}")),
            }
        }
    }

    /// Whether it was done. It is not if there is another there, or none.
    async fn try_to_deregister(&mut self) -> Result<bool, ClientError> {
        if let Known::Revision(revision) = self.registration {
            match self.client.deregister(&self.node.id, Condition::Revision(revision)).await {
                Err(error) if matches!(error.status(), Some(404 | 412)) => self.registration = Known::Sent,
                outcome => return outcome.map(|()| true),
            }
        }
        // Registered as it was, or taken out of service: that is ours, too.
        match self.our_revision().await? {
            Some(revision) => {
                self.registration = Known::Revision(revision);
                self.client.deregister(&self.node.id, Condition::Revision(revision)).await.map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// The revision of the node, if it is what we registered.
    async fn our_revision(&self) -> Result<Option<i64>, ClientError> {
        let mut query = Query::new();
        query.add("consistency", "strong");
        match self.client.node(&self.node.id, &query).await {
            Ok(node) => Ok(self.node.is_the_same_as(node.raw.get()).then_some(node.fields.revision)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a write may have taken effect. What is answered with a 5xx may.
fn may_be_done(error: &ClientError) -> bool {
    match error {
        ClientError::Away { may_be_done, .. } => *may_be_done,
        _ => error.status().is_some_and(|status| status >= 500),
    }
}

/// The pause before the second heartbeat: a fleet that was started at once is spread over the whole interval.
fn spread(interval: Duration) -> Duration {
    // From between three quarters and all, to between nothing and all.
    interval.saturating_sub(jittered(interval)) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_starts_at_once_does_not_beat_at_once() {
        let interval = Duration::from_secs(30);
        let pauses: Vec<Duration> = (0..200).map(|_| spread(interval)).collect();
        assert!(pauses.iter().all(|pause| *pause <= interval));
        assert!(pauses.iter().any(|pause| *pause < interval / 4));
        assert!(pauses.iter().any(|pause| *pause > interval * 3 / 4));
    }
}
