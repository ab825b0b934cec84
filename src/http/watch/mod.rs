//! Watches: changes as they happen, as Server-Sent Events (WHATWG HTML, section 9.2).

mod message;
mod stream;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use utoipa::{IntoParams, ToSchema};

use super::context::RequestContext;
use super::events::{self, EventBody, EventKindName};
use super::filters::{self, FilterParameters};
use super::headers::LAST_EVENT_ID;
use super::peer::Peer;
use super::problem::{Problem, ProblemBody};
use super::query_string::{self, A_REVISION, Parameter, QueryString};
use super::record::RecordBody;
use super::{App, headers};
use crate::node::{Faults, Place, Revision};
use crate::registry::Freshness;
use crate::registry::watching::{From, WatchQuery};

pub(super) use self::message::Messages;

/// The type of a stream of events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// Which changes, and where to begin
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct WatchParameters {
    /// Changes of this kind; repeated: of any of these
    #[param(required = false, inline, value_type = Vec<EventKindName>)]
    kind: Vec<EventKindName>,
    /// Only changes after this revision: that of a list of nodes, or the last `id` of another watch. It wins over
    /// `Last-Event-ID`. Left out, without that: from now on
    #[param(required = false, minimum = 0)]
    after: i64,
    /// Begin with the nodes as they are. `Last-Event-ID` is not looked at then, so that whoever reconnects has the nodes
    /// anew. Not together with `after`
    #[param(required = false)]
    snapshot: bool,
}

const PARAMETERS: [Parameter; 3] =
    [Parameter::repeatable("kind"), Parameter::once("after"), Parameter::once("snapshot")];

/// Tells nginx and its likes to pass on each event at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the `data` of the events `change` and `removed` is
#[derive(Debug, ToSchema)]
#[schema(as = Change)]
#[allow(dead_code, reason = "describes in the document what `message` writes")]
pub(super) struct ChangeBody<'a> {
    /// What happened
    #[serde(flatten)]
    event: EventBody<'a>,
    /// The node as it is now: the change may have been followed by others. null if it is gone
    #[schema(required = true)]
    node: Option<RecordBody<'a>>,
}

/// Watch nodes
///
/// A stream of Server-Sent Events. It goes on until one side ends it, and a comment comes every 15 seconds if nothing
/// else does. Events are:
///
/// - `change`: something happened to a node that matches. `data` is the event as in `/v1/events`, and `node`, its present
///   record.
/// - `removed`: the node matched before that, or may have, and doesn't match now, or is gone. `data` is as above, and `node`
///   is `null` for one that is gone. It may come for a node that the client has never heard of.
/// - `snapshot`, with `snapshot=true`: `data` is a node that matches. Once all of them were sent, `synced` comes, and
///   changes follow without a gap. What was not sent until then is not there.
/// - `closing`: the server ends the stream. `data` is `{"reason": …}`: `shutdown`, of the server; `slow_reader`, for the
///   client reads more slowly than changes come; `reset`, for what comes next is not known any more: begin with
///   a snapshot; `key_revoked`, for the key is not valid any more, or has other rights. Connect again after the time that `retry` says.
///
/// Each change comes once, in the order of revisions. `id` is the revision of the change, and an `id` without an event says
/// how far the server has looked: connect again with the last one in `Last-Event-ID`, or as `after`, to go on from there. A
/// status that is asked for is judged when the change is sent, and heartbeats are no changes.
#[utoipa::path(
    get, path = "/v1/watch", tag = "overview", operation_id = "watch",
    params(
        FilterParameters,
        WatchParameters,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` that the client has seen: only changes after this revision. Anything but a revision is refused"),
    ),
    responses(
        (status = 200, description = "Changes, as they happen", body = String, content_type = "text/event-stream", headers(("Registry-Revision" = i64, description = "Changes after this one are in the stream")), example = "retry: 1000\nid: 41\n\nevent: change\nid: 42\ndata: {\"revision\":42,\"node_id\":\"n\",\"kind\":\"healthy\",…,\"node\":{\"node_id\":\"n\",…}}\n\n"),
        (status = 400, description = "The query string or a header is invalid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "What comes after this revision was deleted, or there never was such a revision because the database was restored: begin with a snapshot", body = ProblemBody, content_type = "application/problem+json", headers(("Registry-Revision" = i64, description = "The newest revision"))),
    )
)]
pub(super) async fn watch(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    peer: Option<Extension<Peer>>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let query = read(query.as_deref(), &request)?;
    let place = app.watchers.enter()?;
    let watcher = app.registry.watch(query).await?;
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
        (headers::REGISTRY_REVISION, headers::revision(watcher.position())),
    ];
    let peer = peer.map(|Extension(peer)| peer);
    let revoked = Box::pin(context.authority().revoked());
    let body = stream::body(watcher, place, peer, revoked, &app.messages, &app.metrics);
    let mut response = (fields, body).into_response();
    headers::note_stale(response.headers_mut(), app.registry.stale(Freshness::default()));
    Ok(response)
}

/// Reads what to watch, and says all that is wrong with it.
fn read(query: Option<&str>, request: &HeaderMap) -> Result<WatchQuery, Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let mut given = QueryString::read(query, &[&filters::PARAMETERS, &PARAMETERS], &mut faults);
    let nodes = filters::read(&mut given, &mut faults);
    let kinds = events::kinds(&mut given, &mut faults);
    let says_after = given.has("after");
    let after = given.revision("after", &mut faults);
    let snapshot = given.flag("snapshot", &mut faults);
    if says_after && snapshot {
        faults.parameter("after", "must not stand together with snapshot=true, which begins anew");
    }
    let from = match after {
        _ if snapshot => From::Snapshot,
        Some(after) => From::After(after),
        None if says_after => From::Now,
        None => last_event_id(request, &mut faults).map_or(From::Now, From::After),
    };
    if faults.is_empty() { Ok(WatchQuery { nodes, kinds, from }) } else { Err(Problem::faults(faults)) }
}

/// A client that has seen no event may send an empty id.
fn last_event_id(request: &HeaderMap, faults: &mut Faults) -> Option<Revision> {
    let value = request.get(LAST_EVENT_ID).filter(|value| !value.is_empty())?;
    let revision = value.to_str().ok().and_then(query_string::revision);
    if revision.is_none() {
        faults.add(Place::Header("Last-Event-ID"), A_REVISION);
    }
    revision
}

#[cfg(test)]
mod tests {
    use super::super::query_string::described_and_read;
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        described_and_read::<WatchParameters>(&PARAMETERS);
    }

    fn from(query: &str, last_event_id: Option<&'static str>) -> Option<From> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert(LAST_EVENT_ID, HeaderValue::from_static(id));
        }
        read(Some(query), &headers).ok().map(|query| query.from)
    }

    #[test]
    fn a_watch_begins_where_it_was_asked_to() {
        let after = |number| Some(From::After(Revision::new(number).unwrap()));
        for (query, last_event_id, expected) in [
            ("", None, Some(From::Now)),
            ("", Some(""), Some(From::Now)),
            ("", Some("7"), after(7)),
            ("after=9", Some("7"), after(9)),
            ("after=9", Some("junk"), after(9)),
            ("after=0", None, after(0)),
            ("snapshot=true", Some("junk"), Some(From::Snapshot)),
            ("snapshot=false", Some("7"), after(7)),
            ("", Some("junk"), None),
            ("", Some("-1"), None),
            ("", Some("9223372036854775808"), None),
            ("after=-1", None, None),
            ("after=9223372036854775808", None, None),
            ("after=", Some("7"), None),
            ("after=9&snapshot=true", None, None),
            ("snapshot=yes", None, None),
        ] {
            assert_eq!(from(query, last_event_id), expected, "{query} {last_event_id:?}");
        }
    }
}
