//! What the calls for many nodes share: the list in their bodies, and what became of a list of ids.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::auth::Authority;
use super::body::{JsonBody, MAX_BATCH_BODY_BYTES};
use super::problem::Problem;
use super::query_string::QueryString;
use crate::node::fault::{Path, harmless};
use crate::node::json::{Elements, elements, fields};
use crate::node::{Faults, Json as Value, NodeKey};
use crate::registry::RegistryError;

/// From this size on, a body is read on a thread that nobody waits for: it can take milliseconds.
const LARGE_BODY_BYTES: usize = 64 * 1024;

/// The ids of a batch, each once; `None` for one that no column can hold.
type Ids = BTreeMap<String, Option<NodeKey>>;

/// Reads `{"node_ids": [...]}`, with at most so many ids. If the client may not change one of them, all are refused: it
/// has mistaken something, and would believe that it was done.
pub(super) fn read_ids(body: &RawValue, max_ids: usize, authority: &Authority) -> Result<Ids, Problem> {
    let found = list(body, "node_ids", max_ids)?;
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let mut not_covered = Faults::at_most(Faults::OF_A_REQUEST);
    let mut ids = BTreeMap::new();
    let root = Path::Root;
    let at = root.member("node_ids");
    for (index, item) in found.items.iter().enumerate() {
        let place = at.element(index);
        if let Ok(id) = serde_json::from_str::<String>(item.get()) {
            if !authority.may_change(&id) {
                not_covered.at(&place, format!("the key does not cover '{}'", harmless(&id)));
            }
            let key = NodeKey::new(&*id);
            ids.insert(id, key);
            continue;
        }
        if item.get().starts_with('"') {
            // Its text may be the id of another node, and it can't be repeated in an answer.
            faults.at(&place, "must not contain a surrogate without its other half");
        } else {
            faults.at(&place, format!("must be a string, not {}", Value::kind_of(item)));
        }
    }
    if !faults.is_empty() {
        Err(Problem::faults(faults))
    } else if !not_covered.is_empty() {
        Err(Problem::some_not_covered(not_covered))
    } else {
        Ok(ids)
    }
}

/// The list that a batch is: an object with one field, an array of 1 to `max_items`.
pub(super) fn list<'b>(
    body: &'b RawValue,
    field: &'static str,
    max_items: usize,
) -> Result<Elements<'b>, Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    let root = Path::Root;
    let mut found = None;
    match fields(body.get(), &root, &mut faults) {
        None => faults.at(&root, format!("must be a JSON object with the field {field}")),
        Some(given) => {
            for (name, value) in given {
                if name != field {
                    faults.at(
                        &root.member(&name),
                        format!("is not a field of this call; the field is {field}"),
                    );
                } else if value.get().starts_with('[') {
                    found = Some(elements(value.get(), max_items));
                } else {
                    faults.at(&root.member(field), "must be an array");
                    return Err(Problem::faults(faults));
                }
            }
            match &found {
                None => faults.at(&root.member(field), "is required"),
                Some(list) if list.count == 0 => faults.at(&root.member(field), "must not be empty"),
                Some(list) if list.count > max_items => {
                    faults.at(
                        &root.member(field),
                        format!("must have at most {max_items} items, not {}", list.count),
                    );
                }
                Some(_) => {}
            }
        }
    }
    match found {
        Some(list) if faults.is_empty() => Ok(list),
        _ => Err(Problem::faults(faults)),
    }
}

/// Reads a body that may be large.
pub(super) async fn read_large<T: Send + 'static>(
    body: JsonBody<MAX_BATCH_BODY_BYTES>,
    read: impl FnOnce(&JsonBody<MAX_BATCH_BODY_BYTES>) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if body.len() < LARGE_BODY_BYTES {
        read(&body)
    } else {
        tokio::task::spawn_blocking(move || read(&body)).await.map_err(|_| Problem::internal())?
    }
}

pub(super) fn no_parameters(query: Option<&str>) -> Result<(), Problem> {
    let mut faults = Faults::at_most(Faults::OF_A_REQUEST);
    QueryString::read(query, &[], &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Problem::faults(faults)) }
}

/// What became of a batch of ids, all of which could be done or are unknown.
pub(super) struct Outcomes<T> {
    pub(super) done: Vec<T>,
    pub(super) unknown: Vec<String>,
}

impl<T> Outcomes<T> {
    /// `outcomes` are those of the ids that a column can hold. If one of them failed, so did the request: it says how
    /// many are done.
    pub(super) fn of(ids: Ids, outcomes: Vec<Result<T, RegistryError>>) -> Result<Self, Problem> {
        let asked = ids.len();
        let mut outcomes = outcomes.into_iter();
        let (mut done, mut unknown, mut failed) = (Vec::with_capacity(asked), Vec::new(), None);
        for (id, key) in ids {
            // An id that the column can't hold is nobody's.
            let outcome = match key {
                Some(_) => outcomes.next().unwrap_or(Err(RegistryError::Interrupted)),
                None => Err(RegistryError::NotFound),
            };
            match outcome {
                Ok(outcome) => done.push(outcome),
                Err(RegistryError::NotFound) => unknown.push(id),
                Err(error) => {
                    let problem = Problem::from(error);
                    // A 507 says more than a 503, and a 500 more than a 422.
                    failed = failed.into_iter().chain([problem]).max_by_key(Problem::status);
                }
            }
        }
        match failed {
            None => Ok(Self { done, unknown }),
            Some(problem) => Err(problem.partly_done(done.len() + unknown.len(), asked)),
        }
    }
}
