//! Objects that a registration or a query may have.

use serde_json::value::RawValue;

use super::Json;
use super::text::{JsonText, compact};
use crate::node::fault::{Faults, Path};

/// How large a JSON column may be, in bytes of compact JSON.
const MAX_COLUMN_BYTES: usize = 64 * 1024;
/// Text that stays longer than this without its white space is refused unread. Escapes are the most that compacting
/// can save (`\u0041` is six bytes for one).
const MAX_COLUMN_SOURCE_BYTES: usize = 6 * MAX_COLUMN_BYTES;

/// A JSON object that a column may hold by the rules of registration: at most 64 KiB and 32 levels,
/// and nothing that `jsonb` can't hold. Kept as compact text, in the form in which `jsonb` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonObject(JsonText);

impl JsonObject {
    /// `{}`
    #[must_use]
    pub fn empty() -> Self {
        Self(JsonText("{}".into()))
    }

    /// Reads an object from outside. `None` if a rule was broken; `faults` says which.
    #[must_use]
    pub fn read(raw: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<Self> {
        let before = faults.count();
        let too_large = || format!("must not be larger than {MAX_COLUMN_BYTES} bytes as compact JSON");
        if raw.get().len() > MAX_COLUMN_SOURCE_BYTES && compact(raw.get()).len() > MAX_COLUMN_SOURCE_BYTES {
            faults.at(path, too_large());
            return None;
        }
        if !raw.get().starts_with('{') {
            faults.at(path, format!("must be a JSON object, not {}", Json::kind_of(raw)));
            return None;
        }
        let value = Json::read(raw, path, faults);
        let text = value.to_string();
        if faults.count() == before && text.len() > MAX_COLUMN_BYTES {
            faults.at(path, too_large());
        }
        (faults.count() == before).then(|| Self(JsonText(text.into())))
    }

    /// Compact JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The value, to look into.
    #[must_use]
    pub fn to_json(&self) -> Json {
        // What was read once by stricter rules is read again.
        Json::read_stored(self.as_str()).unwrap_or(Json::Null)
    }
}

impl From<JsonObject> for JsonText {
    fn from(object: JsonObject) -> Self {
        object.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<String, Vec<(String, String)>> {
        let raw = serde_json::from_str::<&RawValue>(json).expect("test input is JSON");
        let mut faults = Faults::at_most(10);
        let object = JsonObject::read(raw, &Path::Root.member("metadata"), &mut faults);
        object.map(|object| object.as_str().to_owned()).ok_or_else(|| {
            faults
                .into_vec()
                .into_iter()
                .map(|fault| match fault.place {
                    crate::node::Place::Pointer(pointer) => (pointer, fault.detail),
                    other => panic!("{other:?}"),
                })
                .collect()
        })
    }

    fn pointers(json: &str) -> Vec<String> {
        read(json).unwrap_err().into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn an_object_is_kept_as_jsonb_shows_it() {
        for (json, expected) in [
            (r#" { "bb" : 1 , "a" : [ ] , "c" : "x y" } "#, r#"{"a":[],"c":"x y","bb":1}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
            (
                r#"{"n":[1.10,1e2,-0,123456789012345678901234567890.5]}"#,
                r#"{"n":[1.10,100,0,123456789012345678901234567890.5]}"#,
            ),
            (r#"{"s":"\u00e9\ud83e\udd80\/\u001f\t\""}"#, r#"{"s":"é🦀/\u001f\t\""}"#),
            (r#"{"$serde_json::private::Number":"1"}"#, r#"{"$serde_json::private::Number":"1"}"#),
            (r#"{"$serde_json::private::RawValue":"1"}"#, r#"{"$serde_json::private::RawValue":"1"}"#),
            (
                r#"{"a":{"$serde_json::private::Number":"1"}}"#,
                r#"{"a":{"$serde_json::private::Number":"1"}}"#,
            ),
        ] {
            assert_eq!(read(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_jsonb_cannot_hold_is_named_with_its_place() {
        assert_eq!(
            pointers(r#"{"a":["x","\u0000"],"b":{"c":"\ud800"}}"#),
            ["/metadata/a/1", "/metadata/b/c"]
        );
        assert_eq!(pointers(r#"{"\u0000":1}"#), ["/metadata"]);
        assert_eq!(pointers(r#"{"\udc00":1}"#), ["/metadata"]);
        assert_eq!(
            pointers(r#"{"a":1e400,"b":[1e131071,1e-1000]}"#),
            ["/metadata/a", "/metadata/b/0", "/metadata/b/1"]
        );
        assert_eq!(pointers("[1]"), ["/metadata"]);
        assert_eq!(pointers("null"), ["/metadata"]);
    }

    #[test]
    fn depth_is_counted_from_the_object_itself() {
        let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(read(&nested(32)).is_ok());
        assert_eq!(pointers(&nested(33)), [format!("/metadata{}", "/a".repeat(32))]);
        assert_eq!(pointers(&format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000))).len(), 1);
    }

    #[test]
    fn size_is_that_of_compact_json() {
        let sized = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert!(read(&sized(MAX_COLUMN_BYTES)).is_ok());
        assert_eq!(pointers(&sized(MAX_COLUMN_BYTES + 1)), ["/metadata"]);
        assert!(read(&format!("{{\"a\":{}1}}", " ".repeat(1_000_000))).is_ok(), "white space does not count");
        assert_eq!(pointers(&format!("[{}1]", "1,".repeat(1_000_000))), ["/metadata"], "refused unread");
        let escaped = format!(r#"{{"a":"{}"}}"#, "\\u0041".repeat(MAX_COLUMN_BYTES - 8));
        assert!(read(&escaped).is_ok(), "an escape counts as what it stands for");
    }
}
