//! Query strings, as the calls that take the most of them read them.
//!
//! Public for `fuzz/`, which is a crate of its own: through a server, a thousand times fewer would be tried. Nobody else
//! needs it, so it is in no documentation.

use std::time::Duration;

use super::{discover, events};
use crate::node::{DiscoveryQuery, EventQuery, Fault, Faults, Revision};
use crate::registry::Freshness;

/// What discovery is asked.
#[derive(Debug)]
pub struct Question {
    /// Which nodes.
    pub query: DiscoveryQuery,
    /// How fresh.
    pub freshness: Freshness,
    /// After which revision to wait, and for how long.
    pub poll: Option<(Revision, Duration)>,
}

/// Reads the query string of discovery.
///
/// # Errors
/// All that is wrong with it.
pub fn discovery(query: &str) -> Result<Question, Vec<Fault>> {
    let discover::Question { query, freshness, poll } =
        discover::read(Some(query)).map_err(Faults::into_vec)?;
    Ok(Question { query, freshness, poll: poll.map(|poll| (poll.since, poll.wait)) })
}

/// Reads the query string of the audit trail.
///
/// # Errors
/// All that is wrong with it.
pub fn events(query: &str) -> Result<EventQuery, Vec<Fault>> {
    events::read(Some(query)).map_err(Faults::into_vec)
}
