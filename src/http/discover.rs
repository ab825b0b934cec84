//! Discovery: which nodes, and which page of them.

use std::io::Write as _;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::consistency::ConsistencyName;
use super::problem::{Problem, ProblemBody};
use super::query_string::{Parameter, QueryString};
use super::record::{RecordBody, StatusName};
use super::{App, conditional, consistency, headers};
use crate::node::{
    ColumnText, Cursor, DiscoveryQuery, Faults, Filter, JsonObject, Place, Revision, Shown, Status,
};
use crate::registry::{Freshness, Listing};

/// What to find. Conditions of different names must all hold
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct DiscoveryParameters {
    /// Nodes of this type, such as `effect`; repeated: of any of these
    #[param(required = false, example = json!(["effect"]))]
    node_type: Vec<String>,
    /// The node with this id; repeated: with any of these. A value that no node has gives an empty list
    #[param(required = false)]
    node_id: Vec<String>,
    /// Nodes of exactly this version, such as `1.0.0`; repeated: of any of these
    #[param(required = false)]
    node_version: Vec<String>,
    /// Ids that begin with this, such as `node_auth`
    #[param(required = false)]
    node_id_prefix: String,
    /// Nodes of this status; repeated: of any of these
    #[param(required = false, inline, value_type = Vec<StatusName>)]
    status: Vec<StatusName>,
    /// A JSON object that the node's `capabilities` must contain, as PostgreSQL's `@>` defines it. For example
    /// `{"capabilities": ["registration"]}`
    #[param(required = false)]
    capabilities: String,
    /// A JSON object that the node's `metadata` must contain. For example `{"environment": "dev"}`
    #[param(required = false)]
    metadata: String,
    /// A range of versions in Cargo's grammar, such as `^1.2` or `>=1.0, <2.0`
    #[param(required = false)]
    version_req: String,
    /// How many nodes a page may have
    #[param(required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: u16,
    /// `next_cursor` of the page before, with the same conditions
    #[param(required = false)]
    cursor: String,
    /// `strong`: answered by the database
    #[param(required = false, inline)]
    consistency: ConsistencyName,
}

const PARAMETERS: [Parameter; 11] = [
    Parameter::repeatable("node_type"),
    Parameter::repeatable("node_id"),
    Parameter::repeatable("node_version"),
    Parameter::once("node_id_prefix"),
    Parameter::repeatable("status"),
    Parameter::once("capabilities"),
    Parameter::once("metadata"),
    Parameter::once("version_req"),
    Parameter::once("limit"),
    Parameter::once("cursor"),
    Parameter::once("consistency"),
];

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
/// In the order of their ids, bytewise. Pages are stable: no node that stays registered is skipped or repeated.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", operation_id = "discoverNodes",
    params(
        DiscoveryParameters,
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
    request: HeaderMap,
) -> Result<Response, Problem> {
    let (query, freshness) = read(query.as_deref())?;
    let seen = app.registry.discover(&query, freshness).await?;
    let Listing { nodes, more } = &seen.value;
    let next = nodes.last().filter(|_| *more).map(|last| {
        let after = last.record.node_id().clone();
        Cursor { after, fingerprint: query.fingerprint() }.encode()
    });
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, conditional::page_tag(nodes, *more)),
        (headers::REGISTRY_REVISION, headers::revision(seen.revision)),
    ];
    let body = page(nodes, seen.revision, next.as_deref());
    Ok(conditional::unless_not_modified(&request, (fields, body).into_response()))
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

/// Reads what to find, and says all that is wrong with it.
fn read(query: Option<&str>) -> Result<(DiscoveryQuery, Freshness), Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let mut given = QueryString::read(query, &PARAMETERS, &mut faults);
    let freshness = consistency::read(&mut given, &mut faults);
    let filter = |name: &&str| {
        let values = given.all(name);
        if values.is_empty() { None } else { Filter::new(name, values) }
    };
    let filters = Filter::NAMES.iter().filter_map(filter).collect();
    let mut query = DiscoveryQuery {
        filters,
        node_id_prefix: given.one("node_id_prefix").and_then(|text| prefix(&text, &mut faults)),
        status: statuses(&given.all("status"), &mut faults),
        capabilities: object("capabilities", &mut given, &mut faults),
        metadata: object("metadata", &mut given, &mut faults),
        version_req: given.one("version_req").and_then(|text| range(&text, &mut faults)),
        limit: given.page_limit(&mut faults),
        after: None,
    };
    if let Some(text) = given.one("cursor") {
        match Cursor::decode(&text) {
            Some(cursor) if cursor.fingerprint == query.fingerprint() => query.after = Some(cursor.after),
            // With other faults, it may belong to the conditions that were meant.
            Some(_) if !faults.is_empty() => {}
            Some(_) => fault(&mut faults, "cursor", "belongs to a query with other conditions"),
            None => fault(&mut faults, "cursor", "must be the next_cursor of a page"),
        }
    }
    if faults.is_empty() { Ok((query, freshness)) } else { Err(Problem::faults(faults)) }
}

fn fault(faults: &mut Faults, name: &str, detail: impl Into<String>) {
    faults.add(Place::Parameter(name.to_owned()), detail);
}

fn prefix(text: &str, faults: &mut Faults) -> Option<ColumnText> {
    let prefix = ColumnText::new(text);
    if prefix.is_none() {
        fault(faults, "node_id_prefix", "must not contain U+0000, which no id contains");
    }
    prefix
}

fn statuses(names: &[String], faults: &mut Faults) -> Vec<Status> {
    let found: Vec<Status> = names.iter().filter_map(|name| Status::from_name(name)).collect();
    if found.len() < names.len() {
        let all = Status::ALL.map(Status::as_str).join(", ");
        fault(faults, "status", format!("must be one of {all}"));
    }
    found
}

fn object(name: &str, given: &mut QueryString, faults: &mut Faults) -> Option<JsonObject> {
    let text = given.one(name)?;
    let Ok(raw) = serde_json::from_str::<&RawValue>(&text) else {
        fault(faults, name, "must be a JSON object");
        return None;
    };
    // The faults of the object have pointers into it; here they are faults of the parameter.
    let mut inner = Faults::at_most(Faults::OF_AN_ITEM);
    let object = JsonObject::read(raw, &crate::node::fault::Path::Root, &mut inner);
    for wrong in inner.into_vec() {
        let detail = match wrong.place {
            Place::Pointer(pointer) if !pointer.is_empty() => format!("{pointer} {}", wrong.detail),
            _ => wrong.detail,
        };
        fault(faults, name, detail);
    }
    object
}

fn range(text: &str, faults: &mut Faults) -> Option<semver::VersionReq> {
    semver::VersionReq::parse(text)
        .map_err(|reason| {
            let reason = crate::node::fault::harmless(&reason.to_string());
            fault(faults, "version_req", format!("must be a range such as ^1.2 or >=1.0, <2.0 ({reason})"));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        let described: Vec<String> =
            DiscoveryParameters::into_params(|| None).into_iter().map(|parameter| parameter.name).collect();
        let read: Vec<&str> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
        assert_eq!(described, read);
    }
}
