//! JSON with the meaning of PostgreSQL's `jsonb` (manual, section 8.14): the last of duplicate keys wins, numbers are
//! exact, key order is free, and what `jsonb` can't hold is refused here and never by the database.
//!
//! `serde_json` does the grammar. Its own `Value` won't do: it rounds numbers, or (with `arbitrary_precision`) takes
//! an object with its private key for a number. So values are read one level at a time as raw text.

mod object;
mod raw;
mod reader;
mod text;

use std::cmp::Ordering;
use std::fmt;

use serde_json::value::RawValue;

use self::reader::Reader;
use super::fault::{Faults, Path};

pub use object::JsonObject;
pub use raw::{Elements, elements};
pub use reader::fields;
pub use text::JsonText;

/// How deep containers may be nested; the outermost is level 1.
pub const MAX_LEVELS: usize = 32;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number in plain decimal form, see [`crate::node::decimal::plain`].
    Number(String),
    /// A string, which has no U+0000 in it.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object: keys are unique and in the order of `jsonb`, the shorter first.
    Object(Vec<(String, Json)>),
}

/// The order of `jsonb`'s keys: the shorter first, then bytewise.
fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl Json {
    /// Reads a value from outside. What breaks a rule goes to `faults`, with its place below `path`.
    pub fn read(raw: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Self {
        Reader { faults: Some(faults), max_levels: MAX_LEVELS }.value(raw, path, 1)
    }

    /// Reads a value that is in the database already, whoever put it there. What lies deeper than any query may go
    /// is left out: containers there are empty, but of their kind.
    ///
    /// `None` if it isn't JSON.
    #[must_use]
    pub fn read_stored(text: &str) -> Option<Self> {
        let raw = serde_json::from_str::<&RawValue>(text).ok()?;
        Some(Reader { faults: None, max_levels: MAX_LEVELS + 1 }.value(raw, &Path::Root, 1))
    }

    /// The member of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members
                .binary_search_by(|(name, _)| key_order(name, key))
                .ok()
                .and_then(|found| members.get(found))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// What kind of value it is, in words for the client.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// What kind of value a raw text is, without reading it: what is of the wrong kind is not worth its memory.
    #[must_use]
    pub fn kind_of(raw: &RawValue) -> &'static str {
        match raw.get().as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'[') => "an array",
            Some(b'{') => "an object",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') | None => "null",
            Some(_) => "a number",
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(plain) => out.push_str(plain),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_string(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl fmt::Display for Json {
    /// Compact JSON, keys in the order of `jsonb`: byte for byte what PostgreSQL shows, without its blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

/// A value from outside that must be a string. `None` if it is something else, or a string that the database can't
/// hold.
pub fn read_string(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<String> {
    if !value.get().starts_with('"') {
        faults.at(path, format!("must be a string, not {}", Json::kind_of(value)));
        return None;
    }
    let before = faults.count();
    match Json::read(value, path, faults) {
        Json::String(text) if faults.count() == before => Some(text),
        _ => None,
    }
}

fn write_string(text: &str, out: &mut String) {
    // What has to be escaped (RFC 8259, section 7). Hardly any string has it.
    if text.bytes().any(|byte| matches!(byte, ..0x20 | b'"' | b'\\')) {
        // Serializing a &str can't fail.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_to_the_depth_of_queries_however_deep_it_is() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let mut value = Json::read_stored(&deep).unwrap();
        let mut levels = 0;
        while let Json::Array(mut items) = value {
            levels += 1;
            value = items.pop().unwrap_or(Json::Null);
        }
        assert_eq!(levels, MAX_LEVELS + 2, "the last one is there and empty");
        assert_eq!(Json::read_stored("{\"a\": 1}").unwrap().get("a"), Some(&Json::Number("1".into())));
        assert!(Json::read_stored("no json").is_none());
    }
}
