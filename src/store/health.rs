//! What a store keeps and finds out about the life of the fleet, for the one replica that sees to it.

use std::fmt;
use std::time::Duration;

use crate::node::{Horizon, NodeKey, Revision, Timestamp};

/// For so long a lease is good, in the database's time. Whoever dies with it is succeeded within that, and the time to
/// the next [`tick`](super::Store::tick).
pub const LEASE: Duration = Duration::from_secs(3);

/// The most nodes that a census names for anything. A look at the whole fleet is dear, and its snapshot keeps the room of
/// old row versions from being used again.
pub(super) const NAMED_AT_MOST: i64 = 10_000;

/// One running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaId(String);

impl ReplicaId {
    /// A new one, different from all others.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// As it stands in the lease.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ReplicaId {
    fn from(as_it_stands_in_the_lease: &str) -> Self {
        Self(as_it_stands_in_the_lease.to_owned())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a replica learns when it reports that it reached the database.
#[derive(Debug, Clone)]
pub struct Tick {
    /// The database's time, and the last outage.
    pub horizon: Horizon,
    /// Whether this replica is the one that sees to the fleet, for [`LEASE`] from now on.
    pub leads: bool,
    /// What the one that sees to the fleet has written down.
    pub watch: FleetWatch,
}

/// What the replica that sees to the fleet writes down for its successor and for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetWatch {
    /// Since when expiry pauses, because more of the fleet turned stale at once than is likely to have died.
    pub preserving_since: Option<Timestamp>,
    /// While it pauses: since when things have been calm again.
    pub calm_since: Option<Timestamp>,
    /// The numbers of the last census.
    pub counts: FleetCounts,
}

/// Numbers of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetCounts {
    /// Those that take part in health: they have given a sign of life, or have a health endpoint that is probed, and
    /// are in service.
    pub taking_part: u64,
    /// Those of them that are healthy.
    pub healthy: u64,
    /// Those that were healthy one TTL of theirs ago.
    pub were_healthy: u64,
    /// Those of them that are stale now, or have expired since.
    pub turned_stale: u64,
}

/// What life is judged by, beyond the TTLs.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long after it became stale a node is removed; `None`: never.
    pub expire_after: Option<Duration>,
    /// Whether health endpoints are probed. If nobody looks, nobody is to blame for not being seen.
    pub probing: bool,
    /// For how long this server has been up, by its own clock. No node is removed before that is its TTL.
    pub uptime: Duration,
}

/// The fleet at an instant.
#[derive(Debug, Clone)]
pub struct Census {
    /// What it was judged by.
    pub horizon: Horizon,
    /// How many are how.
    pub counts: FleetCounts,
    /// Nodes of whose life the events say something else. No more than are told of at a time.
    pub changes: Vec<LifeChange>,
    /// Nodes that have been stale for too long. No more than are removed at a time.
    pub overdue: Vec<NodeKey>,
    /// When the next node turns stale or is overdue, if none gives a sign of life until then.
    pub next_due: Option<Timestamp>,
}

impl Census {
    /// Whether there is more to do than it names.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        let most = usize::try_from(NAMED_AT_MOST).unwrap_or(usize::MAX);
        self.changes.len() >= most || self.overdue.len() >= most
    }
}

/// A node that came to life or turned stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeChange {
    /// Which one.
    pub node_id: NodeKey,
    /// Whether it is healthy, or else stale.
    pub healthy: bool,
    /// Since when: the sign of life that was seen, or the end of the one that wasn't followed.
    pub since: Timestamp,
}

/// Where nodes are to be probed.
#[derive(Debug, Clone)]
pub struct Targets {
    /// All changes up to this one are in it.
    pub revision: Revision,
    /// Whether these are all there are, or else what has changed since the revision that was asked for.
    pub complete: bool,
    /// The nodes, and where to probe them: `None` for those that are gone, or have no health endpoint any more.
    pub nodes: Vec<(NodeKey, Option<HealthEndpoint>)>,
    /// How long ago the oldest change in it was made.
    pub lag: Duration,
}

/// Where to probe a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEndpoint {
    /// The URL, whatever a foreign writer left there.
    pub url: String,
    /// The node's TTL in seconds; `None`: the server's.
    pub ttl_seconds: Option<i64>,
}
