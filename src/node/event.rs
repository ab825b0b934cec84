//! Events: what is recorded of each change.

/// What kind of change an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A node registered that was not registered before.
    Registered,
    /// A registration changed.
    Updated,
    /// A node was removed.
    Deregistered,
}

impl EventKind {
    /// Its name in the API and in `node_events`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Deregistered => "deregistered",
        }
    }
}

/// Who made a change: `anonymous`, or the name of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(String);

impl Actor {
    /// A client that did not say who it is.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
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
