//! From raw text to values, one level at a time.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::raw::{elements, members};
use super::{Json, MAX_LEVELS, key_order};
use crate::node::decimal;
use crate::node::fault::{Faults, Path};

pub(super) struct Reader<'f> {
    /// Where rules report; `None` for what is stored already, to which no rule applies.
    pub(super) faults: Option<&'f mut Faults>,
    pub(super) max_levels: usize,
}

impl Reader<'_> {
    fn fault(&mut self, path: &Path<'_>, detail: &str) {
        if let Some(faults) = &mut self.faults {
            faults.at(path, detail);
        }
    }

    pub(super) fn value(&mut self, raw: &RawValue, path: &Path<'_>, level: usize) -> Json {
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
            .members(text, usize::MAX, path)
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

    fn members<'t>(
        &mut self,
        text: &'t str,
        keep: usize,
        path: &Path<'_>,
    ) -> Vec<(Cow<'t, str>, &'t RawValue)> {
        let members = members(text, keep);
        members.into_iter().map(|(key, value)| (self.key(key, path), value)).collect()
    }

    fn key<'t>(&mut self, raw: &'t RawValue, path: &Path<'_>) -> Cow<'t, str> {
        match plain(raw.get()) {
            Some(plain) => Cow::Borrowed(plain),
            None => Cow::Owned(self.string(raw.get(), path)),
        }
    }

    fn string(&mut self, text: &str, path: &Path<'_>) -> String {
        if let Some(plain) = plain(text) {
            return plain.to_owned();
        }
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

/// What stands between the quotes of a string without escapes, as most are: its text is its value, and the grammar has no
/// control characters in it.
fn plain(text: &str) -> Option<&str> {
    text.get(1..text.len().saturating_sub(1)).filter(|plain| !plain.contains('\\'))
}

/// How many members an object may have whose reader knows what it expects. A body of nothing but names would take
/// many times its size otherwise.
const MAX_FIELDS: usize = 1_000;

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
    let mut fields = reader.members(text, MAX_FIELDS + 1, path);
    if fields.len() > MAX_FIELDS {
        reader.fault(path, &format!("must not have more than {MAX_FIELDS} members"));
        fields.truncate(MAX_FIELDS);
    }
    fields.reverse();
    // Stable: of duplicates, the last written stands first and is kept.
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields.dedup_by(|(a, _), (b, _)| a == b);
    Some(fields)
}
