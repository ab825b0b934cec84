//! Discovery: which nodes, and which page of them.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use utoipa::{IntoParams, ToSchema};

use super::answers::Answer;
use super::conditional::Known;
use super::consistency::ReadParameters;
use super::context::RequestContext;
use super::filters::FilterParameters;
use super::peer::{self, Peer};
use super::problem::{Problem, ProblemBody};
use super::query_string::{Parameter, QueryString};
use super::record::RecordBody;
use super::{App, conditional, consistency, filters, headers};
use crate::node::{Cursor, DiscoveryQuery, Faults, Revision, Shown};
use crate::registry::{Freshness, Listing};

/// Which page, and when
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct PageParameters {
    /// How many nodes a page may have
    #[param(required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: u16,
    /// `next_cursor` of the page before, with the same conditions
    #[param(required = false)]
    cursor: String,
    /// Together with `wait`: answer as soon as there is an event after this revision, the `revision` of the page before,
    /// that concerns a node which matches or may have matched. Events that are not known any more count. Not together
    /// with `cursor`
    #[param(required = false, minimum = 0)]
    since: i64,
    /// How long to wait for that, such as `30s` or `500ms`, at most `60s`: then the answer is the page as it is. Left
    /// out: not at all. Needs `since`
    #[param(required = false)]
    wait: String,
}

const PARAMETERS: [Parameter; 4] =
    [Parameter::once("limit"), Parameter::once("cursor"), Parameter::once("since"), Parameter::once("wait")];

/// The longest that a request may wait for a change. Proxies give up on what takes longer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// One page of nodes, in the order of their ids
#[derive(Debug, ToSchema)]
#[schema(as = NodePage)]
#[allow(dead_code, reason = "describes in the document what `page` writes")]
pub(super) struct PageBody<'a> {
    /// The nodes
    nodes: Vec<RecordBody<'a>>,
    /// All changes up to this one are in the answer
    #[schema(minimum = 0, example = 115)]
    revision: i64,
    /// Where the next page begins; null at the end, and only there. A page may end early to stay below 4 MiB
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Discover nodes
///
/// In the order of their ids, bytewise. Pages are stable: no node that stays registered is skipped or repeated. With
/// `since` and `wait` it is a long poll; heartbeats don't end it, but a status that changes does.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", operation_id = "discoverNodes",
    params(
        FilterParameters,
        PageParameters,
        ReadParameters,
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if the page still has this entity tag"),
    ),
    responses(
        (status = 200, description = "One page of nodes", body = PageBody, headers(("ETag" = String, description = "Weak entity tag over ids, revisions and statuses"), ("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 304, description = "The page is as the client has it", headers(("ETag" = String, description = "Weak entity tag over ids, revisions and statuses"), ("Registry-Revision" = i64, description = "All changes up to this one are in the answer"))),
        (status = 400, description = "The query string is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn discover(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    Extension(context): Extension<Arc<RequestContext>>,
    peer: Option<Extension<Peer>>,
    known: Known,
) -> Result<Response, Problem> {
    let text = query.as_deref().unwrap_or_default();
    let edition = app.registry.edition();
    if let Some(answer) = edition.and_then(|edition| app.answers.get(text, edition)) {
        return Ok(respond(&app, &known, &answer, Freshness::default()));
    }
    let Question { query, freshness, poll } = read(query.as_deref()).map_err(Problem::faults)?;
    let waits = poll.is_some();
    if let Some(Poll { since, wait }) = poll {
        let _place = app.watchers.enter()?;
        context.extend(wait);
        let (_waiting, begun) = (app.metrics.watches.polled(), Instant::now());
        tokio::select! {
            () = app.registry.await_change(&query, since, wait) => {}
            () = peer::hung_up(peer.as_deref()) => {}
            () = context.authority().revoked() => return Err(Problem::key_not_valid()),
        }
        context.note_waited(begun.elapsed());
    }
    let seen = app.registry.discover(&query, freshness).await?;
    let Listing { nodes, more } = &seen.value;
    let next = nodes.last().filter(|_| *more).map(|last| {
        let after = last.record.node_id().clone();
        Cursor { after, fingerprint: query.fingerprint() }.encode()
    });
    let body = page(nodes, seen.revision, next.as_deref());
    let answer = Arc::new(Answer {
        body: app.page_room.hold(body)?,
        tag: conditional::page_tag(nodes, *more),
        revision: headers::revision(seen.revision),
    });
    if let Some(edition) = edition.filter(|_| !waits && freshness == Freshness::default()) {
        app.answers.keep(text, edition, &answer);
    }
    Ok(respond(&app, &known, &answer, freshness))
}

/// How old the answer may be is not part of it: that grows while nothing changes.
fn respond(app: &App, known: &Known, answer: &Answer, freshness: Freshness) -> Response {
    let mut response = answer.response();
    headers::note_stale(response.headers_mut(), app.registry.stale(freshness));
    known.or_not_modified(response)
}

/// A page as JSON. A cursor needs no escapes.
fn page(nodes: &[Shown], revision: Revision, next: Option<&str>) -> Vec<u8> {
    let room = nodes.iter().map(|node| node.record.len() + 1).sum::<usize>();
    let mut out = Vec::with_capacity(room + 512);
    out.extend_from_slice(br#"{"nodes":["#);
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        node.write(&mut out);
    }
    // Writing to memory can't fail.
    let _ = match next {
        Some(cursor) => write!(out, r#"],"revision":{revision},"next_cursor":"{cursor}"}}"#),
        None => write!(out, r#"],"revision":{revision},"next_cursor":null}}"#),
    };
    out
}

/// What a client asks.
pub(super) struct Question {
    pub(super) query: DiscoveryQuery,
    pub(super) freshness: Freshness,
    pub(super) poll: Option<Poll>,
}

/// What a client waits for.
pub(super) struct Poll {
    pub(super) since: Revision,
    pub(super) wait: Duration,
}

/// Reads what to find, and says all that is wrong with it.
pub(super) fn read(query: Option<&str>) -> Result<Question, Faults> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let allowed = [&filters::PARAMETERS[..], &PARAMETERS, &consistency::PARAMETERS];
    let mut given = QueryString::read(query, &allowed, &mut faults);
    let freshness = consistency::read(&mut given, &mut faults);
    let mut query = filters::read(&mut given, &mut faults);
    query.limit = given.page_limit(&mut faults);
    let cursor = given.one("cursor");
    let poll = poll(&mut given, cursor.is_some(), &mut faults);
    if let Some(text) = cursor {
        match Cursor::decode(&text) {
            Some(cursor) if cursor.fingerprint == query.fingerprint() => query.after = Some(cursor.after),
            // With other faults, it may belong to the conditions that were meant.
            Some(_) if !faults.is_empty() => {}
            Some(_) => faults.parameter("cursor", "belongs to a query with other conditions"),
            None => faults.parameter("cursor", "must be the next_cursor of a page"),
        }
    }
    if faults.is_empty() { Ok(Question { query, freshness, poll }) } else { Err(faults) }
}

fn poll(given: &mut QueryString, has_cursor: bool, faults: &mut Faults) -> Option<Poll> {
    // Said at all, whether rightly or not.
    let (says_since, says_wait) = (given.has("since"), given.has("wait"));
    let since = given.revision("since", faults);
    let wait = given.one("wait").and_then(|text| duration(&text, faults));
    if says_since && has_cursor {
        faults.parameter("since", "must not stand together with cursor: a page that follows doesn't wait");
    }
    if says_wait && !says_since {
        faults.parameter("wait", "needs since, the revision of the page that the client has");
    }
    Some(Poll { since: since?, wait: wait? })
}

fn duration(text: &str, faults: &mut Faults) -> Option<Duration> {
    let wait = humantime::parse_duration(text).ok().filter(|wait| *wait <= LONGEST_WAIT);
    if wait.is_none() {
        let longest = humantime::format_duration(LONGEST_WAIT);
        faults.parameter("wait", format!("must be a time such as 30s or 500ms, and {longest} at most"));
    }
    wait
}

#[cfg(test)]
mod tests {
    use super::super::query_string::described_and_read;
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        described_and_read::<PageParameters>(&PARAMETERS);
    }
}
