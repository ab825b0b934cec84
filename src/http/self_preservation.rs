//! Whether expiry pauses, as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use super::record::ShownAt;
use crate::registry::health::FleetWatch;

/// Whether expiry pauses because more of the fleet turned stale at once than is likely to have died
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SelfPreservation)]
pub(super) struct SelfPreservationBody {
    /// Whether it does
    active: bool,
    /// Since when; null if it doesn't
    #[schema(required = true, value_type = Option<String>, example = "2026-07-01T12:00:00.000000Z")]
    since: Option<ShownAt>,
    /// Nodes that take part in health: in service, and seen alive or with a health endpoint that is probed
    #[schema(minimum = 0, example = 112)]
    taking_part: u64,
    /// Those of them that are healthy
    #[schema(minimum = 0, example = 110)]
    healthy: u64,
    /// Those that were healthy one TTL of theirs ago
    #[schema(minimum = 0, example = 111)]
    were_healthy: u64,
    /// Those of these that are stale now, or have expired since
    #[schema(minimum = 0, example = 1)]
    turned_stale: u64,
}

impl SelfPreservationBody {
    pub(super) fn new(watch: FleetWatch) -> Self {
        Self {
            active: watch.preserving_since.is_some(),
            since: watch.preserving_since.map(ShownAt),
            taking_part: watch.counts.taking_part,
            healthy: watch.counts.healthy,
            were_healthy: watch.counts.were_healthy,
            turned_stale: watch.counts.turned_stale,
        }
    }
}
