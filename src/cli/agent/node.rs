//! What the agent registers: one registration from a file, with changes from flags.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::asking::Entry;
use crate::node::Registration;
use crate::node::fault::{Faults, Path as Pointer};
use crate::node::registration::IdFrom;
use crate::small_file;

/// More than a server takes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The node that the agent speaks for.
#[derive(Debug)]
pub(super) struct OurNode {
    pub(super) id: String,
    /// The registration, a JSON object.
    pub(super) json: String,
    /// Its own TTL, if it has one.
    pub(super) ttl: Option<Duration>,
}

impl OurNode {
    /// Reads the file, and checks it by the rules of a server: that a registration is wrong is said at once, whether or not
    /// there is a registry.
    pub(super) fn read(path: &Path, set: &[Entry]) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes =
            small_file::read(path, MAX_BYTES).map_err(|reason| anyhow::anyhow!("'{shown}' {reason}"))?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("'{shown}' is not UTF-8"))?;
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text)
            .map_err(|reason| anyhow::anyhow!("'{shown}' is not one JSON object: {reason}"))?;
        for entry in set {
            match entry {
                Entry::Member(name, value) => fields.insert(name.clone(), value.clone()),
                Entry::Whole(_) => anyhow::bail!("--set: give name=text or name:=JSON"),
            };
        }
        let raw = serde_json::value::to_raw_value(&fields)?;
        let mut faults = Faults::at_most(Faults::OF_AN_ITEM);
        let Some(registration) = Registration::read(&raw, &Pointer::Root, IdFrom::Body, &mut faults) else {
            let mut text = format!("'{shown}' is not a registration");
            for fault in faults.into_vec() {
                // To memory: this can't fail.
                let _ = write!(text, "\n  {}: {}", fault.place.text(), fault.detail);
            }
            anyhow::bail!(text);
        };
        let seconds = registration.ttl_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Self {
            id: registration.node_id.as_str().to_owned(),
            json: raw.get().to_owned(),
            ttl: seconds.map(Duration::from_secs),
        })
    }

    /// Whether a record is what we registered. Numbers may differ beyond what a double holds.
    pub(super) fn is_the_same_as(&self, record: &str) -> bool {
        let value = serde_json::from_str::<serde_json::Value>;
        // What can't be compared is not ours.
        let (Ok(ours), Ok(theirs)) = (value(&self.json), value(record)) else { return false };
        // What was left out is what the registry has put in its place.
        let fields = [
            ("capabilities", json!({})),
            ("endpoints", json!({})),
            ("metadata", json!({})),
            ("node_type", json!(null)),
            ("node_version", json!("1.0.0")),
            ("health_endpoint", json!(null)),
            ("ttl_seconds", json!(null)),
        ];
        let of = |object: &serde_json::Value, (field, default): &(&str, serde_json::Value)| {
            object.get(*field).unwrap_or(default).clone()
        };
        fields.iter().all(|field| of(&ours, field) == of(&theirs, field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, set: &[&str]) -> Result<OurNode, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.json");
        std::fs::write(&file, text).unwrap();
        let set: Vec<Entry> = set.iter().map(|text| text.parse().unwrap()).collect();
        OurNode::read(&file, &set).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_change_what_the_file_says() {
        let file = r#"{"node_id":"a","node_type":"effect","metadata":{"n":1.10}}"#;
        let node = of(file, &["node_id=b", "ttl_seconds:=3"]).unwrap();
        assert_eq!((node.id.as_str(), node.ttl), ("b", Some(Duration::from_secs(3))));
        assert!(node.json.contains("1.10"));
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let said = of(r#"{"node_id":" ","node_type":"robot","colour":1}"#, &[]).unwrap_err();
        for place in ["/node_id: ", "/node_type: ", "/colour: "] {
            assert!(said.contains(place), "{said}");
        }
        for wrong in ["", "[]", "{} {}", "{", r#"{"node_type":"effect"}"#] {
            assert!(of(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_record_is_ours_if_it_says_what_we_said() {
        let node = of(r#"{"node_id":"a","node_type":"effect","metadata":{"a":1,"b":2}}"#, &[]).unwrap();
        let record = |metadata: &str| {
            format!(r#"{{"node_id":"a","node_type":"effect","node_version":"1.0.0","metadata":{metadata}}}"#)
        };
        assert!(node.is_the_same_as(&record(r#"{"b":2,"a":1}"#)));
        assert!(!node.is_the_same_as(&record(r#"{"b":2}"#)));
        let newer = record(r#"{"a":1,"b":2}"#).replace("1.0.0", "1.0.1");
        assert!(!node.is_the_same_as(&newer), "the file leaves the version out");
        let other = record(r#"{"a":1,"b":2}"#).replace("\"node_type\"", "\"ttl_seconds\":9,\"node_type\"");
        assert!(!node.is_the_same_as(&other));
        let beyond = of(r#"{"node_id":"a","node_type":"effect","metadata":{"a":1e399}}"#, &[]).unwrap();
        assert!(!beyond.is_the_same_as(&record(r#"{"a":2}"#)), "it can't be compared");
        assert!(!node.is_the_same_as("not JSON"));
    }
}
