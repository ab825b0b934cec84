//! A record as it is shown: JSON that is made once per change, and what changes with time put in per answer.
//!
//! This is the one place that writes a record's JSON. The REST face documents it, and a test compares the two.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::id::NodeKey;
use super::json::JsonText;
use super::record::{NodeRecord, Status};
use super::revision::Revision;
use super::timestamp::Timestamp;

/// The JSON of a record without what changes when its registration doesn't: sign of life, last registration, status.
#[derive(Debug, PartialEq, Eq)]
pub struct ShownRecord {
    node_id: NodeKey,
    revision: Revision,
    registered_at: Timestamp,
    /// Three parts, to be joined by what changes.
    json: Box<[u8]>,
    /// Where the values of the JSON columns are.
    columns: [Range<usize>; JsonColumn::ALL.len()],
    /// Which of them are no JSON, and shown as text.
    is_text: [bool; JsonColumn::ALL.len()],
    /// Where the first part ends, behind `"last_heartbeat":`.
    before_heartbeat: usize,
    /// Where the second part ends, behind `"updated_at":`.
    before_updated_at: usize,
    /// Where the third part ends, behind `"status":`.
    before_status: usize,
}

/// A column that holds JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonColumn {
    /// What the node can do.
    Capabilities,
    /// Where it is.
    Endpoints,
    /// What else there is to say of it.
    Metadata,
}

impl JsonColumn {
    /// All of them, in their order in a record.
    pub const ALL: [Self; 3] = [Self::Capabilities, Self::Endpoints, Self::Metadata];
}

/// What is put into a record's JSON per answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Last sign of life.
    pub last_heartbeat: Option<Timestamp>,
    /// Last registration.
    pub updated_at: Timestamp,
    /// The status at the instant of the answer.
    pub status: Status,
}

/// A record at a moment: what an answer shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What is the same until the registration changes.
    pub record: Arc<ShownRecord>,
    /// What isn't.
    pub moment: Moment,
}

impl Shown {
    /// Appends the JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.record.write(&self.moment, out);
    }
}

impl ShownRecord {
    /// The JSON of a record. A column that should hold JSON and doesn't (another hand can do that to an SQLite file) is
    /// shown as the text that it holds.
    #[must_use]
    pub fn of(record: &NodeRecord) -> Self {
        let texts = [
            ("capabilities", &record.capabilities),
            ("endpoints", &record.endpoints),
            ("metadata", &record.metadata),
        ];
        let room = texts.iter().map(|(_, json)| json.as_str().len()).sum::<usize>() + 512;
        let mut json = Vec::with_capacity(room);
        for (name, text) in [
            (r#"{"node_id":"#, record.node_id.as_str()),
            (r#","node_type":"#, record.node_type.as_str()),
            (r#","node_version":"#, record.node_version.as_str()),
        ] {
            json.extend_from_slice(name.as_bytes());
            string(text, &mut json);
        }
        let (mut columns, mut is_text) = ([0..0, 0..0, 0..0], [false; 3]);
        for ((name, text), (place, is_text)) in texts.into_iter().zip(columns.iter_mut().zip(&mut is_text)) {
            let _ = write!(json, r#","{name}":"#);
            let begin = json.len();
            *is_text = !text.is_json();
            if *is_text {
                string(text.as_str(), &mut json);
            } else {
                json.extend_from_slice(text.as_str().as_bytes());
            }
            *place = begin..json.len();
        }
        json.extend_from_slice(br#","health_endpoint":"#);
        string_or_null(record.health_endpoint.as_deref(), &mut json);
        json.extend_from_slice(br#","last_heartbeat":"#);
        let before_heartbeat = json.len();
        json.extend_from_slice(br#","registered_at":"#);
        instant(record.registered_at, &mut json);
        json.extend_from_slice(br#","updated_at":"#);
        let before_updated_at = json.len();
        match record.ttl_seconds {
            Some(seconds) => {
                let _ = write!(json, r#","ttl_seconds":{seconds}"#);
            }
            None => json.extend_from_slice(br#","ttl_seconds":null"#),
        }
        json.extend_from_slice(br#","maintenance":"#);
        string_or_null(record.maintenance.as_deref(), &mut json);
        json.extend_from_slice(br#","status":"#);
        let before_status = json.len();
        let _ = write!(json, r#","revision":{}}}"#, record.revision);
        Self {
            node_id: record.node_id.clone(),
            revision: record.revision,
            registered_at: record.registered_at,
            json: json.into_boxed_slice(),
            columns,
            is_text,
            before_heartbeat,
            before_updated_at,
            before_status,
        }
    }

    /// Which node.
    #[must_use]
    pub fn node_id(&self) -> &NodeKey {
        &self.node_id
    }

    /// The number of the change that last changed the registration.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When the node first registered.
    #[must_use]
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    /// The JSON of a column; `None` if what the column holds is no JSON.
    #[must_use]
    pub fn column(&self, column: JsonColumn) -> Option<&str> {
        let place = self.columns[column as usize].clone();
        // What was text when it was put in is text.
        if self.is_text[column as usize] { None } else { str::from_utf8(self.json.get(place)?).ok() }
    }

    /// Which columns hold no JSON, and are shown as text.
    #[must_use]
    pub fn texts(&self) -> [bool; JsonColumn::ALL.len()] {
        self.is_text
    }

    /// The record that this is the JSON of, read back from it. It is not kept twice for those that need it seldom.
    #[must_use]
    pub fn read_back(&self, moment: &Moment) -> Option<NodeRecord> {
        let mut json = Vec::new();
        self.write(moment, &mut json);
        Self::read(&json, self.is_text, moment, self.registered_at, self.revision)
    }

    /// The record that a JSON shows, which [`ShownRecord::write`] wrote. Times are not read from their texts. `None` if it
    /// is no such JSON.
    #[must_use]
    pub fn read(
        json: &[u8],
        is_text: [bool; JsonColumn::ALL.len()],
        moment: &Moment,
        registered_at: Timestamp,
        revision: Revision,
    ) -> Option<NodeRecord> {
        #[derive(Deserialize)]
        struct Fields<'j> {
            node_id: String,
            node_type: String,
            node_version: String,
            #[serde(borrow)]
            capabilities: &'j RawValue,
            #[serde(borrow)]
            endpoints: &'j RawValue,
            #[serde(borrow)]
            metadata: &'j RawValue,
            health_endpoint: Option<String>,
            ttl_seconds: Option<i64>,
            maintenance: Option<String>,
        }
        let fields: Fields<'_> = serde_json::from_slice(json).ok()?;
        let column = |column: JsonColumn, shown: &RawValue| {
            if is_text[column as usize] {
                let text: String = serde_json::from_str(shown.get()).ok()?;
                Some(JsonText::from_database(&text))
            } else {
                Some(JsonText::from_database(shown.get()))
            }
        };
        Some(NodeRecord {
            node_id: NodeKey::new(fields.node_id)?,
            capabilities: column(JsonColumn::Capabilities, fields.capabilities)?,
            endpoints: column(JsonColumn::Endpoints, fields.endpoints)?,
            metadata: column(JsonColumn::Metadata, fields.metadata)?,
            node_type: fields.node_type,
            node_version: fields.node_version,
            health_endpoint: fields.health_endpoint,
            last_heartbeat: moment.last_heartbeat,
            registered_at,
            updated_at: moment.updated_at,
            ttl_seconds: fields.ttl_seconds,
            maintenance: fields.maintenance,
            revision,
        })
    }

    /// So many bytes the JSON has at the most.
    #[must_use]
    pub fn len(&self) -> usize {
        // Two instants and a status.
        self.json.len() + 96
    }

    /// No record is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends the JSON as it is at a moment.
    pub fn write(&self, moment: &Moment, out: &mut Vec<u8>) {
        out.reserve(self.len());
        let (first, rest) = self.json.split_at(self.before_heartbeat);
        let (second, rest) = rest.split_at(self.before_updated_at - self.before_heartbeat);
        let (third, last) = rest.split_at(self.before_status - self.before_updated_at);
        out.extend_from_slice(first);
        match moment.last_heartbeat {
            Some(at) => instant(at, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(second);
        instant(moment.updated_at, out);
        out.extend_from_slice(third);
        out.push(b'"');
        out.extend_from_slice(moment.status.as_str().as_bytes());
        out.push(b'"');
        out.extend_from_slice(last);
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Serializing a &str to memory can't fail.
    let _ = serde_json::to_writer(out, text);
}

fn string_or_null(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn instant(at: Timestamp, out: &mut Vec<u8>) {
    out.push(b'"');
    at.write_to(out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::JsonText;

    #[test]
    fn a_record_is_shown_with_what_changes_put_in() {
        let record = NodeRecord {
            node_id: NodeKey::new("a\"b\u{7}").unwrap(),
            node_type: "effect".into(),
            node_version: "1.0.0".into(),
            capabilities: JsonText::from_database(r#"{"a": [1, "x y"]}"#),
            endpoints: JsonText::from_database("{}"),
            metadata: JsonText::from_database("{}"),
            health_endpoint: None,
            last_heartbeat: None,
            registered_at: Timestamp::from_unix_micros(0),
            updated_at: Timestamp::from_unix_micros(1),
            ttl_seconds: Some(60),
            maintenance: Some("disk".into()),
            revision: Revision::new(7).unwrap(),
        };
        let shown = ShownRecord::of(&record);
        let at = Timestamp::from_unix_micros(1_790_000_000_123_456);
        let mut out = Vec::new();
        shown.write(
            &Moment { last_heartbeat: Some(at), updated_at: Timestamp::INFINITY, status: Status::Stale },
            &mut out,
        );
        assert!(out.len() <= shown.len());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"node_id":"a\"b\u0007","node_type":"effect","node_version":"1.0.0","#,
                r#""capabilities":{"a":[1,"x y"]},"endpoints":{},"metadata":{},"health_endpoint":null,"#,
                r#""last_heartbeat":"2026-09-21T14:13:20.123456Z","registered_at":"1970-01-01T00:00:00.000000Z","#,
                r#""updated_at":"infinity","ttl_seconds":60,"maintenance":"disk","status":"stale","revision":7}"#
            )
        );
        let broken = NodeRecord { metadata: JsonText::from_database("{\""), ..record };
        let mut out = Vec::new();
        let never = Timestamp::NEG_INFINITY;
        ShownRecord::of(&broken)
            .write(&Moment { last_heartbeat: None, updated_at: never, status: Status::Unknown }, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["metadata"], "{\"", "shown as it is, and nothing else breaks");
    }
}
