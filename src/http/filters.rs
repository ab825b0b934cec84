//! Which nodes: the parameters that discovery and watches have in common.

use serde_json::value::RawValue;
use utoipa::IntoParams;

use super::query_string::{Parameter, QueryString};
use super::record::StatusName;
use crate::node::fault::{Path, harmless};
use crate::node::{ColumnText, DiscoveryQuery, Faults, Filter, JsonObject, Place, Status};

/// Which nodes. Conditions of different names must all hold
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct FilterParameters {
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
}

/// What `read` reads.
pub(super) const PARAMETERS: [Parameter; 8] = [
    Parameter::repeatable("node_type"),
    Parameter::repeatable("node_id"),
    Parameter::repeatable("node_version"),
    Parameter::once("node_id_prefix"),
    Parameter::repeatable("status"),
    Parameter::once("capabilities"),
    Parameter::once("metadata"),
    Parameter::once("version_req"),
];

/// Reads which nodes are asked for: a query for the first page of them.
pub(super) fn read(given: &mut QueryString, faults: &mut Faults) -> DiscoveryQuery {
    let filter = |name: &&str| {
        let values = given.all(name);
        if values.is_empty() { None } else { Filter::new(name, values) }
    };
    DiscoveryQuery {
        filters: Filter::NAMES.iter().filter_map(filter).collect(),
        node_id_prefix: given.one("node_id_prefix").and_then(|text| prefix(&text, faults)),
        status: given.named("status", &Status::ALL.map(Status::as_str), Status::from_name, faults),
        capabilities: object("capabilities", given, faults),
        metadata: object("metadata", given, faults),
        version_req: given.one("version_req").and_then(|text| range(&text, faults)),
        ..DiscoveryQuery::default()
    }
}

fn prefix(text: &str, faults: &mut Faults) -> Option<ColumnText> {
    let prefix = ColumnText::new(text);
    if prefix.is_none() {
        faults.parameter("node_id_prefix", "must not contain U+0000, which no id contains");
    }
    prefix
}

fn object(name: &str, given: &mut QueryString, faults: &mut Faults) -> Option<JsonObject> {
    let text = given.one(name)?;
    let Ok(raw) = serde_json::from_str::<&RawValue>(&text) else {
        faults.parameter(name, "must be a JSON object");
        return None;
    };
    // The faults of the object have pointers into it; here they are faults of the parameter.
    let mut inner = Faults::at_most(Faults::OF_AN_ITEM);
    let object = JsonObject::read(raw, &Path::Root, &mut inner);
    for wrong in inner.into_vec() {
        let detail = match wrong.place {
            Place::Pointer(pointer) if !pointer.is_empty() => format!("{pointer} {}", wrong.detail),
            _ => wrong.detail,
        };
        faults.parameter(name, detail);
    }
    object
}

fn range(text: &str, faults: &mut Faults) -> Option<semver::VersionReq> {
    semver::VersionReq::parse(text)
        .map_err(|reason| {
            let reason = harmless(&reason.to_string());
            faults
                .parameter("version_req", format!("must be a range such as ^1.2 or >=1.0, <2.0 ({reason})"));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::query_string::described_and_read;
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        described_and_read::<FilterParameters>(&PARAMETERS);
    }
}
