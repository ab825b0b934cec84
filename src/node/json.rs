//! JSON with the meaning of PostgreSQL's `jsonb` (manual, section 8.14): the last of duplicate keys wins, numbers are
//! exact, key order is free, and what `jsonb` can't hold is refused here and never by the database.
//!
//! `serde_json` does the grammar. Its own `Value` won't do: it rounds numbers, or (with `arbitrary_precision`) takes
//! an object with its private key for a number. So values are read one level at a time as raw text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::decimal;
use super::fault::{Faults, Path};

/// How deep containers may be nested; the outermost is level 1.
pub const MAX_LEVELS: usize = 32;
/// How large a JSON column may be, in bytes of compact JSON.
pub const MAX_COLUMN_BYTES: usize = 64 * 1024;
/// Text that stays longer than this without its white space is refused unread. Escapes are the most that compacting
/// can save (`\u0041` is six bytes for one).
const MAX_COLUMN_SOURCE_BYTES: usize = 6 * MAX_COLUMN_BYTES;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number in plain decimal form, see [`decimal::plain`].
    Number(String),
    /// A string, which has no U+0000 in it.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object: keys are unique and in the order of `jsonb`, see [`key_order`].
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

fn write_string(text: &str, out: &mut String) {
    // Serializing a &str can't fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

struct Reader<'f> {
    /// Where rules report; `None` for what is stored already, to which no rule applies.
    faults: Option<&'f mut Faults>,
    max_levels: usize,
}

impl Reader<'_> {
    fn fault(&mut self, path: &Path<'_>, detail: &str) {
        if let Some(faults) = &mut self.faults {
            faults.at(path, detail);
        }
    }

    fn value(&mut self, raw: &RawValue, path: &Path<'_>, level: usize) -> Json {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => Json::String(self.string(text, path)),
            Some(b'[') => self.array(text, path, level),
            Some(b'{') => self.object(text, path, level),
            Some(b't') => Json::Bool(true),
            Some(b'f') => Json::Bool(false),
            Some(b'n') | None => Json::Null,
            Some(_) => self.number(text, path),
        }
    }

    fn too_deep(&mut self, path: &Path<'_>, level: usize) -> bool {
        let too_deep = level > self.max_levels;
        if too_deep {
            self.fault(path, &format!("must not be nested deeper than {MAX_LEVELS} levels"));
        }
        too_deep
    }

    fn array(&mut self, text: &str, path: &Path<'_>, level: usize) -> Json {
        if self.too_deep(path, level) {
            return Json::Array(Vec::new());
        }
        let items = elements(text, usize::MAX).items;
        Json::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| self.value(item, &path.element(index), level + 1))
                .collect(),
        )
    }

    fn object(&mut self, text: &str, path: &Path<'_>, level: usize) -> Json {
        if self.too_deep(path, level) {
            return Json::Object(Vec::new());
        }
        let mut members: Vec<(String, Json)> = self
            .members(text, path)
            .into_iter()
            .map(|(key, value)| {
                let value = self.value(value, &path.member(&key), level + 1);
                (key.into_owned(), value)
            })
            .collect();
        // A stable sort of the reversed list puts the last of duplicate keys first, and dedup keeps the first.
        members.reverse();
        members.sort_by(|(a, _), (b, _)| key_order(a, b));
        members.dedup_by(|(a, _), (b, _)| a == b);
        Json::Object(members)
    }

    fn members<'t>(&mut self, text: &'t str, path: &Path<'_>) -> Vec<(Cow<'t, str>, &'t RawValue)> {
        let members = members(text);
        members.into_iter().map(|(key, value)| (self.key(key, path), value)).collect()
    }

    fn key<'t>(&mut self, raw: &'t RawValue, path: &Path<'_>) -> Cow<'t, str> {
        let text = raw.get();
        // Most keys have no escapes: their text is their value.
        match text.get(1..text.len().saturating_sub(1)) {
            Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
            _ => Cow::Owned(self.string(text, path)),
        }
    }

    fn string(&mut self, text: &str, path: &Path<'_>) -> String {
        let Ok(value) = serde_json::from_str::<String>(text) else {
            // The grammar was checked when the raw text was read: all that is left to fail is a surrogate (RFC 8259,
            // section 8.2).
            self.fault(path, "must not contain a surrogate without its other half");
            return text.to_owned();
        };
        if value.contains('\0') {
            self.fault(path, "must not contain U+0000, which the database can't hold");
        }
        value
    }

    fn number(&mut self, text: &str, path: &Path<'_>) -> Json {
        if let Ok(plain) = decimal::plain(text, decimal::MAX_PLAIN_CHARS) {
            return Json::Number(plain);
        }
        if self.faults.is_some() {
            let limit = decimal::MAX_PLAIN_CHARS;
            self.fault(
                path,
                &format!("must not have more than {limit} characters when written without an exponent"),
            );
        }
        Json::Number(text.to_owned())
    }
}

/// The elements of an array, up to a number of them.
#[derive(Debug)]
pub struct Elements<'t> {
    /// The first ones.
    pub items: Vec<&'t RawValue>,
    /// How many there are in all.
    pub count: usize,
}

/// The elements of the array that `text` is; none if it isn't one. At most `keep` are kept, the others are counted.
#[must_use]
pub fn elements(text: &str, keep: usize) -> Elements<'_> {
    struct Collect(usize);
    impl<'de> Visitor<'de> for Collect {
        type Value = Elements<'de>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
            let mut found = Elements { items: Vec::new(), count: 0 };
            while found.count < self.0 {
                let Some(item) = seq.next_element::<&RawValue>()? else { return Ok(found) };
                found.items.push(item);
                found.count += 1;
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {
                found.count += 1;
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_seq(Collect(keep))
        .unwrap_or(Elements { items: Vec::new(), count: 0 })
}

/// The members of the object that `text` is, as they stand there; none if it isn't one.
fn members(text: &str) -> Vec<(&RawValue, &RawValue)> {
    struct Collect;
    impl<'de> Visitor<'de> for Collect {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry::<&RawValue, &RawValue>()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Collect).unwrap_or_default()
}

/// The members of the object that `text` is, for a reader that knows which it expects: the last of duplicate keys
/// wins. `None` if it isn't an object. Faults of keys go to `faults`.
#[must_use]
pub fn fields<'t>(
    text: &'t str,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<(Cow<'t, str>, &'t RawValue)>> {
    if !text.starts_with('{') {
        return None;
    }
    let mut reader = Reader { faults: Some(faults), max_levels: MAX_LEVELS };
    let mut fields = reader.members(text, path);
    fields.reverse();
    // Stable: of duplicates, the last written stands first and is kept.
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields.dedup_by(|(a, _), (b, _)| a == b);
    Some(fields)
}

/// A JSON column's value as compact text. Whatever the column holds: an object if a registration wrote it, any JSON
/// if somebody else did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// Takes the text of a value that the database knows to be JSON, and drops the blanks between its tokens.
    #[must_use]
    pub fn from_database(text: &str) -> Self {
        Self(compact(text).into())
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
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        let (between, string) = rest.split_at(quote);
        out.extend(between.chars().filter(|c| !c.is_ascii_whitespace()));
        let end = end_of_string(string);
        out.push_str(&string[..end]);
        rest = &string[end..];
    }
    out.extend(rest.chars().filter(|c| !c.is_ascii_whitespace()));
    out
}

/// Where the string that begins `text` ends, behind its closing quote.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A JSON object that a column may hold by the rules of registration: at most [`MAX_COLUMN_BYTES`] and
/// [`MAX_LEVELS`], and nothing that `jsonb` can't hold. Kept as compact text, in the form in which `jsonb` shows it.
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
        let value = Json::read(raw, path, faults);
        if !matches!(value, Json::Object(_)) {
            faults.at(path, format!("must be a JSON object, not {}", value.kind()));
        }
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

    #[test]
    fn blanks_go_and_strings_stay() {
        assert_eq!(compact("{\"a\": \"b \\\" c\\\\\", \"d\": [1, 2]}"), r#"{"a":"b \" c\\","d":[1,2]}"#);
        assert_eq!(compact(r#""open"#), r#""open"#);
    }

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

    #[test]
    fn elements_beyond_the_bound_are_counted_and_not_kept() {
        let found = elements("[1,2,3,4]", 2);
        assert_eq!((found.items.len(), found.count), (2, 4));
        assert_eq!(elements("{}", 2).count, 0);
    }
}
