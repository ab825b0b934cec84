//! The registered nodes.

use prometheus::{IntGaugeVec, Registry};

use super::family::clamped;
use super::{MetricsError, family};
use crate::node::{NodeType, Status};

/// The type of a row that another program wrote and the API would refuse.
const OTHER_TYPE: &str = "other";

/// How many nodes there are.
pub struct Nodes(IntGaugeVec);

impl Nodes {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let help = "Registered nodes by type and status; no sample while this server does not know them.";
        family::gauges(registry, "nodes", help, &["type", "status"]).map(Self)
    }

    /// How many nodes there are of each type and status. What is not named is 0, and what is named twice is added up.
    /// `None` is any type that the API would refuse.
    pub fn set(&self, counts: &[(Option<NodeType>, Status, u64)]) {
        for node_type in NodeType::ALL.into_iter().map(Some).chain([None]) {
            for status in Status::ALL {
                let count = counts
                    .iter()
                    .filter(|(of_type, of_status, _)| (*of_type, *of_status) == (node_type, status))
                    .fold(0_u64, |sum, (_, _, count)| sum.saturating_add(*count));
                let name = node_type.map_or(OTHER_TYPE, NodeType::as_str);
                self.0.with_label_values(&[name, status.as_str()]).set(clamped(count));
            }
        }
    }

    /// Nobody knows how many nodes there are.
    pub fn clear(&self) {
        self.0.reset();
    }
}
