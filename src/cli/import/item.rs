//! What stands on a line: one registration, or what is wrong with it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::lines::{Line, MAX_LINE_BYTES};
use crate::client::{Problem, ProblemError};
use crate::node::Registration;
use crate::node::fault::{Fault, Faults, Path};
use crate::node::json::fields;
use crate::node::registration::IdFrom;

/// What the server adds to a registration to make a record of it. It is left out: the server would refuse it, and records
/// are what lists are made of.
const SET_BY_THE_SERVER: [&str; 6] =
    ["last_heartbeat", "registered_at", "updated_at", "maintenance", "status", "revision"];

/// A line that is to be sent.
#[derive(Debug)]
pub(super) struct Item {
    /// The id, if it has one that is a text.
    pub(super) id: Option<String>,
    /// A JSON object.
    pub(super) json: Box<RawValue>,
}

/// A line that was not imported.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub(super) line: u64,
    pub(super) node_id: Option<String>,
    /// What the server answered; `None`: it was not asked.
    pub(super) status: Option<u16>,
    pub(super) detail: String,
    pub(super) errors: Vec<Wrong>,
}

/// One thing that is wrong with it.
#[derive(Debug, Serialize)]
pub(super) struct Wrong {
    pub(super) pointer: String,
    pub(super) detail: String,
}

impl Failure {
    fn of_line(line: u64, detail: impl Into<String>) -> Self {
        Self { line, node_id: None, status: None, detail: detail.into(), errors: Vec::new() }
    }

    /// By what the server says.
    pub(super) fn of_problem(line: u64, node_id: Option<String>, problem: &Problem) -> Self {
        let detail = match problem.detail.as_str() {
            "" => problem.title.clone(),
            detail => format!("{}: {detail}", problem.title),
        };
        let wrong =
            |error: &ProblemError| Wrong { pointer: error.place().to_owned(), detail: error.detail.clone() };
        let errors = problem.errors.iter().map(wrong).collect();
        Self { line, node_id, status: Some(problem.status), detail, errors }
    }
}

/// Reads a line; `None` if there is nothing on it.
pub(super) fn read(line: &Line) -> Option<Result<Item, Failure>> {
    let failed = |detail: String| Some(Err(Failure::of_line(line.number, detail)));
    let Some(text) = &line.text else {
        return failed(format!("longer than {MAX_LINE_BYTES} bytes"));
    };
    let mut text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => return failed(format!("not UTF-8, from byte {} on", error.valid_up_to() + 1)),
    };
    if line.number == 1 {
        // The mark that some editors begin a file with.
        text = text.strip_prefix('\u{feff}').unwrap_or(text);
    }
    let text = text.trim_matches([' ', '\t', '\r']);
    if text.is_empty() {
        return None;
    }
    let json: Box<RawValue> = match serde_json::from_str(text) {
        Ok(json) => json,
        // There is but one line in a line.
        Err(error) => return failed(format!("not JSON: {}", error.to_string().replace("line 1 ", ""))),
    };
    if !json.get().starts_with('{') {
        return failed("not a JSON object".to_owned());
    }
    Some(Ok(item(json)))
}

fn item(json: Box<RawValue>) -> Item {
    // What breaks a rule is told by the server, or by `check`.
    let mut faults = Faults::at_most(1);
    let given = fields(json.get(), &Path::Root, &mut faults).unwrap_or_default();
    let id = given.iter().find(|(name, _)| name == "node_id");
    let id = id.and_then(|(_, id)| serde_json::from_str(id.get()).ok());
    let is_record = given.iter().any(|(name, _)| SET_BY_THE_SERVER.contains(&name.as_ref()));
    if is_record && faults.is_empty() {
        let kept: BTreeMap<&str, &RawValue> = given
            .iter()
            .filter(|(name, _)| !SET_BY_THE_SERVER.contains(&name.as_ref()))
            .map(|(name, value)| (name.as_ref(), *value))
            .collect();
        if let Ok(json) = serde_json::value::to_raw_value(&kept) {
            return Item { id, json };
        }
    }
    Item { id, json }
}

/// Whether a server would take it, by the rules that this program has.
pub(super) fn check(line: u64, item: &Item) -> Result<(), Failure> {
    let mut faults = Faults::at_most(Faults::OF_AN_ITEM);
    if Registration::read(&item.json, &Path::Root, IdFrom::Body, &mut faults).is_some() {
        return Ok(());
    }
    let wrong = |fault: Fault| Wrong { pointer: fault.place.text().to_owned(), detail: fault.detail };
    let errors = faults.into_vec().into_iter().map(wrong);
    Err(Failure {
        node_id: item.id.clone(),
        errors: errors.collect(),
        ..Failure::of_line(line, "it breaks rules")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Option<Result<Item, Failure>> {
        read(&Line { number: 1, bytes: 0, text: Some(text.to_vec()) })
    }

    fn refused(text: &[u8]) -> String {
        of(text).unwrap().unwrap_err().detail
    }

    #[test]
    fn a_record_is_a_registration_with_more_and_numbers_stay_as_they_are() {
        let record = r#"{"status":"stale","node_id":"a","revision":7,"metadata":{"status":1.10},"last_heartbeat":null,"maintenance":"x","registered_at":"","updated_at":""}"#;
        let item = of(record.as_bytes()).unwrap().unwrap();
        assert_eq!(item.json.get(), r#"{"metadata":{"status":1.10},"node_id":"a"}"#);
        assert_eq!(item.id.as_deref(), Some("a"));
        let same = r#"{"node_id" : "a", "node_id": "b", "colour": 1e400}"#;
        let item = of(format!("\u{feff}{same}\r").as_bytes()).unwrap().unwrap();
        assert_eq!((item.json.get(), item.id.as_deref()), (same, Some("b")));
    }

    #[test]
    fn what_is_no_object_is_refused_and_an_empty_line_is_nothing() {
        assert!(of(b" \r").is_none());
        assert_eq!(refused(b"[]"), "not a JSON object");
        assert_eq!(refused(b"{\"a\":\"\xff\"}"), "not UTF-8, from byte 7 on");
        assert!(refused(b"{\"a\":1").starts_with("not JSON: "));
        assert!(refused(b"{} {}").starts_with("not JSON: "));
        let long = read(&Line { number: 9, bytes: 0, text: None }).unwrap().unwrap_err();
        assert_eq!((long.line, long.detail.as_str()), (9, "longer than 2097152 bytes"));
        for id in [&b"{}"[..], b"{\"node_id\":7}", b"{\"node_id\":\"\\ud800\"}"] {
            assert_eq!(of(id).unwrap().unwrap().id, None);
        }
    }

    #[test]
    fn all_that_is_wrong_is_found_without_a_server() {
        let item = of(br#"{"node_id":"a","node_type":"robot","node_version":"1"}"#).unwrap().unwrap();
        let wrong = check(3, &item).unwrap_err();
        let mut places: Vec<&str> = wrong.errors.iter().map(|wrong| wrong.pointer.as_str()).collect();
        places.sort_unstable();
        assert_eq!(
            (places, wrong.line, wrong.node_id.as_deref()),
            (vec!["/node_type", "/node_version"], 3, Some("a"))
        );
        assert!(check(1, &of(br#"{"node_id":"a","node_type":"effect"}"#).unwrap().unwrap()).is_ok());
    }
}
