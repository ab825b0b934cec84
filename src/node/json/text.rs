//! JSON columns as text.

use serde_json::value::RawValue;

/// A JSON column's value as compact text. Whatever the column holds: an object if a registration wrote it, any JSON
/// if somebody else did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonText(pub(super) Box<str>);

impl JsonText {
    /// Takes the text of a value that the database knows to be JSON, and drops the blanks between its tokens.
    #[must_use]
    pub fn from_database(text: &str) -> Self {
        Self(compact(text).into())
    }

    /// Whether it is JSON indeed. PostgreSQL sees to that; into an SQLite file another hand can write anything.
    #[must_use]
    pub fn is_json(&self) -> bool {
        serde_json::from_str::<&RawValue>(&self.0).is_ok()
    }

    /// Compact JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for JsonText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// JSON without the white space between its tokens.
pub(super) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        let (between, string) = rest.split_at(quote);
        push_without_blanks(between, &mut out);
        let end = end_of_string(string);
        out.push_str(&string[..end]);
        rest = &string[end..];
    }
    push_without_blanks(rest, &mut out);
    out
}

fn push_without_blanks(text: &str, out: &mut String) {
    text.split(|c: char| c.is_ascii_whitespace()).for_each(|piece| out.push_str(piece));
}

/// Where the string that begins `text` ends, behind its closing quote.
fn end_of_string(text: &str) -> usize {
    let mut at = 1;
    while let Some(byte) = text.as_bytes().get(at) {
        at += match byte {
            b'"' => return at + 1,
            // What follows it is a part of the escape.
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_and_strings_stay() {
        assert_eq!(compact("{\"a\": \"b \\\" c\\\\\", \"d\": [1, 2]}"), r#"{"a":"b \" c\\","d":[1,2]}"#);
        assert_eq!(compact(r#""open"#), r#""open"#);
    }
}
