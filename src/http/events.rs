//! The audit trail: what has happened, in the order in which it happened.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Problem, ProblemBody};
use super::query_string::{Parameter, QueryString};
use super::record::ShownAt;
use super::{App, headers};
use crate::node::{ColumnText, Event, EventKind, EventQuery, Faults};

/// Which events. Conditions of different names must all hold
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct EventParameters {
    /// Only events after this revision: `next_after` of the page before, or the revision of a list of nodes. Left out:
    /// from the oldest event that is kept
    #[param(required = false, minimum = 0)]
    after: i64,
    /// Events of the node with this id; repeated, up to 100 times: of any of these
    #[param(required = false, max_items = 100)]
    node_id: Vec<String>,
    /// Events of this kind; repeated: of any of these
    #[param(required = false, inline, value_type = Vec<EventKindName>)]
    kind: Vec<EventKindName>,
    /// How many events a page may have
    #[param(required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: u16,
}

const PARAMETERS: [Parameter; 4] = [
    Parameter::once("after"),
    Parameter::repeatable("node_id"),
    Parameter::repeatable("kind"),
    Parameter::once("limit"),
];

/// What happened
#[derive(Debug, ToSchema)]
#[schema(as = EventKind, rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the names of `EventKind` in the document")]
pub(super) enum EventKindName {
    /// A node registered that was not registered before
    Registered,
    /// A registration changed
    Updated,
    /// A node was removed
    Deregistered,
    /// A node was removed because it had been stale for too long
    Expired,
    /// A node came to life, for the first time or again
    Healthy,
    /// A node gave no sign of life for its TTL
    Stale,
    /// A node was taken out of service or put back into it
    Maintenance,
}

/// One change
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventBody<'a> {
    /// Its number, in the order in which changes took effect. Gaps are normal
    #[schema(minimum = 1, example = 42)]
    revision: i64,
    /// Whose registration or life changed
    #[schema(max_length = 255, example = "node_registration_orchestrator")]
    node_id: &'a str,
    /// registered, updated, deregistered, expired, healthy, stale or maintenance; a newer version of the server may
    /// have left others
    #[schema(example = "updated")]
    kind: &'a str,
    /// The columns that an update changed, else none
    #[schema(example = json!(["node_version", "capabilities"]))]
    changed: &'a [String],
    /// Who did it: `anonymous`, `registry`, the name of a key, or `sql:` and the user of the database who wrote to
    /// the table
    #[schema(example = "anonymous")]
    actor: &'a str,
    /// The correlation id of the request that did it; null if it was none
    #[schema(required = true, example = "5f0c6ab2-9a43-4ac1-9c39-9a2f5a8ff5b1")]
    correlation_id: Option<&'a str>,
    /// When, in the database's time. RFC 3339 in UTC with six decimals
    #[schema(value_type = String, example = "2026-07-01T12:00:00.000000Z")]
    occurred_at: ShownAt,
}

impl<'a> EventBody<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        Self {
            revision: event.revision.get(),
            node_id: event.node_id.as_str(),
            kind: &event.kind,
            changed: &event.changed,
            actor: &event.actor,
            correlation_id: event.correlation_id.as_deref(),
            occurred_at: ShownAt(event.occurred_at),
        }
    }
}

/// One page of the audit trail
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(super) struct EventPageBody<'a> {
    /// The events, in the order of their revisions
    events: Vec<EventBody<'a>>,
    /// The log was looked through up to here: `after` of the next page. A page with few events or none is the last one
    /// only if this equals `Registry-Revision`
    #[schema(minimum = 0, example = 115)]
    next_after: i64,
}

/// Read the audit trail
///
/// All changes, those by plain SQL too, in the order in which they took effect: whoever has read up to a revision
/// never finds an event at or below it later. So each event is seen once by reading on after `next_after`.
#[utoipa::path(
    get, path = "/v1/events", tag = "overview", operation_id = "listEvents",
    params(EventParameters),
    responses(
        (status = 200, description = "One page of events", body = EventPageBody, headers(("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 400, description = "The query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "What comes after this revision was deleted, or there never was such a revision because the database was restored: read the list of nodes again", body = ProblemBody, content_type = "application/problem+json", headers(("Registry-Revision" = i64, description = "The newest revision"))),
    )
)]
pub(super) async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = read(query.as_deref()).map_err(Problem::faults)?;
    let seen = app.registry.events(&query).await?;
    let body = EventPageBody {
        events: seen.value.events.iter().map(EventBody::new).collect(),
        next_after: seen.value.next_after.get(),
    };
    let page = serde_json::to_vec(&body).map_err(|_| Problem::internal())?;
    let page = app.page_room.hold(page)?;
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((headers::of_a_read(seen.revision), kind, page).into_response())
}

/// Reads which events, and says all that is wrong with it.
pub(super) fn read(query: Option<&str>) -> Result<EventQuery, Faults> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let mut given = QueryString::read(query, &[&PARAMETERS], &mut faults);
    let ids = given.all("node_id");
    if ids.len() > EventQuery::MAX_NODE_IDS {
        faults
            .parameter("node_id", format!("must not be given more than {} times", EventQuery::MAX_NODE_IDS));
    }
    let query = EventQuery {
        after: given.revision("after", &mut faults),
        // A value that no column can hold is left out: no event has it.
        node_ids: (!ids.is_empty()).then(|| ids.into_iter().filter_map(ColumnText::new).collect()),
        kinds: kinds(&mut given, &mut faults),
        limit: given.page_limit(&mut faults),
    };
    if faults.is_empty() { Ok(query) } else { Err(faults) }
}

/// The kinds that are asked for.
pub(super) fn kinds(given: &mut QueryString, faults: &mut Faults) -> Vec<EventKind> {
    given.named("kind", &EventKind::ALL.map(EventKind::as_str), EventKind::from_name, faults)
}

#[cfg(test)]
mod tests {
    use super::super::query_string::described_and_read;
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        described_and_read::<EventParameters>(&PARAMETERS);
    }
}
