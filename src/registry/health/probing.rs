//! Health checks: tells the prober what to probe while this replica leads, and writes down who answered.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::standing::Follow;
use super::{bounded, survive};
use crate::metrics::{HeartbeatSource, Metrics, ProbeOutcome};
use crate::node::{NodeKey, Revision, Ttl};
use crate::registry::RegistryError;
use crate::registry::prober::{Lane, Outcome, ProbeSettings, ProbeSink, Prober, ProberError, Target};
use crate::registry::writer::Writer;
use crate::store::Store;
use crate::store::health::{HealthEndpoint, Targets};

/// How often the events are read for what has to be probed from now on.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How often all of it is read again: there are changes that are no events, behind disabled triggers for example.
const READ_ALL_EVERY: Duration = Duration::from_mins(1);
/// For so long signs of life are gathered, to be written together.
const GATHER: Duration = Duration::from_millis(100);
/// The most that are written together.
const TOGETHER: usize = 10_000;

/// A prober, and what it tells of answers.
pub(super) fn prober(
    settings: ProbeSettings,
    metrics: &Arc<Metrics>,
) -> Result<(Prober, Arc<Answers>), ProberError> {
    let answers = Arc::new(Answers { nodes: Mutex::default(), metrics: Arc::clone(metrics) });
    let sink: Arc<dyn ProbeSink> = answers.clone();
    Ok((Prober::new(settings, sink)?, answers))
}

/// Who has answered since it was last written down. Each node once: it is bounded by the fleet.
///
/// A lock for an insertion, never held over an await.
pub(super) struct Answers {
    nodes: Mutex<HashSet<NodeKey>>,
    metrics: Arc<Metrics>,
}

impl Answers {
    fn take(&self) -> Vec<NodeKey> {
        mem::take(&mut *self.nodes.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

impl ProbeSink for Answers {
    fn alive(&self, node: &NodeKey) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
    }

    fn observed(&self, outcome: Outcome, took: Duration) {
        self.metrics.probes.ended(
            match outcome {
                Outcome::Success => ProbeOutcome::Success,
                Outcome::Status => ProbeOutcome::Status,
                Outcome::Timeout => ProbeOutcome::Timeout,
                Outcome::Refused => ProbeOutcome::Refused,
                Outcome::Resolve => ProbeOutcome::Resolve,
                Outcome::Tls => ProbeOutcome::Tls,
                Outcome::Connect => ProbeOutcome::Connect,
            },
            took,
        );
    }

    fn late(&self, _: Lane, by: Duration) {
        self.metrics.probes.begun(by);
    }
}

/// Writes down who answered, many at a time, until told to stop.
///
/// What can't be written is dropped: a sign of life counts from when it is written, and would be claimed for a later
/// time than it was given. The node is probed again soon.
pub(super) async fn write_down(answers: Arc<Answers>, writer: Arc<Writer>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_some() {
        let nodes = answers.take();
        for nodes in nodes.chunks(TOGETHER) {
            writer.heartbeat_all(HeartbeatSource::Probe, nodes.to_vec()).await;
        }
    }
}

/// Tells the prober what to probe.
pub(super) struct Probing {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) follow: Follow,
    pub(super) prober: Prober,
    pub(super) ttl: Ttl,
    pub(super) stop: CancellationToken,
}

impl Probing {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(Some(leadership)) = stop.run_until_cancelled(self.follow.until_leading()).await {
            let mut follow = self.follow.clone();
            tokio::select! {
                _ = survive("probing", self.keep_up()) => {}
                () = follow.until_deposed(leadership.term) => {}
                () = stop.cancelled() => {}
            }
            self.prober.clear();
            self.metrics.probes.set_targets(0);
        }
        self.prober.close().await;
    }

    /// Follows the changes for as long as it is let.
    async fn keep_up(&self) {
        let mut failing = false;
        let mut fleet = HashSet::new();
        let mut seen = None;
        let mut read_all_at = Instant::now() + READ_ALL_EVERY;
        loop {
            if Instant::now() >= read_all_at {
                read_all_at = Instant::now() + READ_ALL_EVERY;
                seen = None;
            }
            match self.read(&mut fleet, seen).await {
                Ok(revision) => {
                    seen = Some(revision);
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(
                            reason = crate::registry::reason(&error),
                            "what to probe can't be read"
                        );
                    }
                    failing = true;
                }
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }

    async fn read(
        &self,
        fleet: &mut HashSet<NodeKey>,
        since: Option<Revision>,
    ) -> Result<Revision, RegistryError> {
        let Targets { revision, complete, nodes, .. } = bounded(self.store.targets(since)).await?;
        if complete {
            let targets: Vec<Target> =
                nodes.into_iter().filter_map(|(id, at)| Some(self.target(id, at?))).collect();
            *fleet = targets.iter().map(|target| target.node_id.clone()).collect();
            self.prober.replace(targets);
        } else {
            for (node_id, endpoint) in nodes {
                if let Some(endpoint) = endpoint {
                    fleet.insert(node_id.clone());
                    self.prober.set(self.target(node_id, endpoint));
                } else {
                    fleet.remove(&node_id);
                    self.prober.forget(&node_id);
                }
            }
        }
        self.metrics.probes.set_targets(fleet.len() as u64);
        Ok(revision)
    }

    fn target(&self, node_id: NodeKey, endpoint: HealthEndpoint) -> Target {
        let ttl = endpoint.ttl_seconds.map_or(self.ttl, Ttl::from_seconds);
        Target { node_id, health_endpoint: endpoint.url, ttl }
    }
}
