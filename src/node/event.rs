//! Events: what is recorded of each change.

use super::id::NodeKey;
use super::revision::Revision;
use super::timestamp::Timestamp;

/// What kind of change an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A node registered that was not registered before.
    Registered,
    /// A registration changed.
    Updated,
    /// A node was removed.
    Deregistered,
    /// A node was removed because it had been stale for too long.
    Expired,
    /// A node came to life, for the first time or again.
    Healthy,
    /// A node gave no sign of life for its TTL.
    Stale,
    /// A node was taken out of service, put back into it, or is out of it for another reason.
    Maintenance,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Registered,
        Self::Updated,
        Self::Deregistered,
        Self::Expired,
        Self::Healthy,
        Self::Stale,
        Self::Maintenance,
    ];

    /// Its name in the API and in `node_events`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Deregistered => "deregistered",
            Self::Expired => "expired",
            Self::Healthy => "healthy",
            Self::Stale => "stale",
            Self::Maintenance => "maintenance",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number, in the order of commits.
    pub revision: Revision,
    /// Whose registration or life changed.
    pub node_id: NodeKey,
    /// What happened. A newer version may know kinds that this one doesn't.
    pub kind: String,
    /// The changed columns of an update, else none.
    pub changed: Vec<String>,
    /// Who did it.
    pub actor: String,
    /// The correlation id of the request that did it.
    pub correlation_id: Option<String>,
    /// When, in the database's time.
    pub occurred_at: Timestamp,
}

impl Event {
    /// Whether it is of one of these kinds; of none named: of any.
    #[must_use]
    pub fn is_of(&self, kinds: &[EventKind]) -> bool {
        kinds.is_empty() || kinds.iter().any(|kind| kind.as_str() == self.kind)
    }
}

/// Who made a change: `anonymous`, the name of a key, or the registry itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(String);

impl Actor {
    /// A client that did not say who it is.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// The registry itself: what it finds out, and what it does of its own accord.
    #[must_use]
    pub fn registry() -> Self {
        Self("registry".to_owned())
    }

    /// A client that showed a key, by the name of the key: it can't be that of another actor.
    #[must_use]
    pub(crate) fn of_key(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name as it stands in events.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a change comes from: what the audit trail keeps of the request that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Who made it.
    pub actor: Actor,
    /// The correlation id of the request.
    pub correlation_id: Option<String>,
}
