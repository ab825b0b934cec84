//! A node as the table holds it, and its status at an instant.

use std::time::Duration;

use super::horizon::Horizon;
use super::id::NodeKey;
use super::json::JsonText;
use super::revision::Revision;
use super::timestamp::Timestamp;

/// How long a node counts as alive after a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    micros: i64,
}

impl Ttl {
    /// A TTL of so many seconds; what a foreign writer stored may be anything, and less than none is none.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        let micros = seconds.saturating_mul(1_000_000);
        Self { micros: if micros < 0 { 0 } else { micros } }
    }

    /// The TTL in microseconds.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.micros
    }
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self { micros: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
    }
}

/// What is known of a node's life. Derived, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The last sign of life is younger than the TTL.
    Healthy,
    /// The last sign of life is older than the TTL.
    Stale,
    /// Never seen alive.
    Unknown,
    /// Taken out of service on purpose.
    Maintenance,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Stale, Self::Unknown, Self::Maintenance];

    /// Its name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Maintenance => "maintenance",
        }
    }

    /// The status with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// A row of `node_registrations`, and the revision of its registration.
///
/// Wide on purpose: a row that a foreign writer left is shown as it is, whatever our API would say to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Unique id.
    pub node_id: NodeKey,
    /// One of the four types, if a registration wrote it.
    pub node_type: String,
    /// Semantic version, if a registration wrote it.
    pub node_version: String,
    /// What the node can do.
    pub capabilities: JsonText,
    /// Endpoint name to URL or `host:port`.
    pub endpoints: JsonText,
    /// Tags, labels, environment, region.
    pub metadata: JsonText,
    /// URL of its health check.
    pub health_endpoint: Option<String>,
    /// Last sign of life; `None` if never seen alive.
    pub last_heartbeat: Option<Timestamp>,
    /// First registration.
    pub registered_at: Timestamp,
    /// Last registration.
    pub updated_at: Timestamp,
    /// TTL in seconds; `None`: the server's.
    pub ttl_seconds: Option<i64>,
    /// Why the node is out of service; `None` if it is in service.
    pub maintenance: Option<String>,
    /// The number of the change that last changed the registration.
    pub revision: Revision,
}

impl NodeRecord {
    /// The status, judged by a horizon.
    #[must_use]
    pub fn status(&self, horizon: &Horizon, server_ttl: Ttl) -> Status {
        self.life().status(horizon, server_ttl)
    }

    /// What the status is derived from.
    #[must_use]
    pub fn life(&self) -> Life {
        Life {
            last_heartbeat: self.last_heartbeat,
            ttl_seconds: self.ttl_seconds,
            in_maintenance: self.maintenance.is_some(),
        }
    }
}

/// Those columns of a node that its status is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Last sign of life; `None` if never seen alive.
    pub last_heartbeat: Option<Timestamp>,
    /// TTL in seconds; `None`: the server's.
    pub ttl_seconds: Option<i64>,
    /// Whether the node is out of service.
    pub in_maintenance: bool,
}

impl Life {
    /// The status, judged by a horizon. A heartbeat that is exactly one TTL old is still a sign of life.
    #[must_use]
    pub fn status(&self, horizon: &Horizon, server_ttl: Ttl) -> Status {
        if self.in_maintenance {
            return Status::Maintenance;
        }
        let ttl = self.ttl_seconds.map_or(server_ttl, Ttl::from_seconds);
        match self.last_heartbeat {
            None => Status::Unknown,
            Some(heartbeat) if horizon.is_alive(heartbeat, ttl) => Status::Healthy,
            Some(_) => Status::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(
        last_heartbeat: Option<i64>,
        ttl_seconds: Option<i64>,
        maintenance: Option<&str>,
    ) -> NodeRecord {
        let empty = JsonText::from_database("{}");
        NodeRecord {
            node_id: NodeKey::new("n").unwrap(),
            node_type: "effect".into(),
            node_version: "1.0.0".into(),
            capabilities: empty.clone(),
            endpoints: empty.clone(),
            metadata: empty,
            health_endpoint: None,
            last_heartbeat: last_heartbeat.map(Timestamp::from_unix_micros),
            registered_at: Timestamp::from_unix_micros(0),
            updated_at: Timestamp::from_unix_micros(0),
            ttl_seconds,
            maintenance: maintenance.map(str::to_owned),
            revision: Revision::ZERO,
        }
    }

    #[test]
    fn status_follows_heartbeat_ttl_and_maintenance() {
        let horizon = Horizon::at(Timestamp::from_unix_micros(100_000_000));
        let server = Ttl::from_seconds(90);
        for (heartbeat, ttl, maintenance, expected) in [
            (None, None, None, Status::Unknown),
            (Some(10_000_000), None, None, Status::Healthy),
            (Some(9_999_999), None, None, Status::Stale),
            (Some(9_999_999), Some(91), None, Status::Healthy),
            (Some(98_999_999), Some(1), None, Status::Stale),
            (Some(i64::MAX), None, None, Status::Healthy),
            (Some(i64::MIN), None, None, Status::Stale),
            (Some(200_000_000), Some(1), None, Status::Healthy),
            (Some(100_000_000), None, Some("disk swap"), Status::Maintenance),
            (None, None, Some(""), Status::Maintenance),
        ] {
            let record = record(heartbeat, ttl, maintenance);
            assert_eq!(record.status(&horizon, server), expected, "{record:?}");
        }
    }
}
