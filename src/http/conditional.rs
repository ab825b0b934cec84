//! Conditional requests (RFC 9110, section 13): entity tags, and what `If-Match` and `If-None-Match` ask for.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::node::{Faults, Place, Precondition, Revision, Shown};

/// The tag of a record: strong, revision first. `If-Match` compares the revision alone, so that heartbeats don't
/// break it; `If-None-Match` compares everything that is shown.
pub(super) fn record_tag(revision: Revision, body: &[u8]) -> HeaderValue {
    let mut tag = Vec::with_capacity(48);
    tag.push(b'"');
    tag.extend_from_slice(itoa::Buffer::new().format(revision.get()).as_bytes());
    tag.push(b'.');
    closed(tag, xxh3_64(body))
}

/// The tag of a page: weak, over ids, revisions and statuses.
pub(super) fn page_tag(nodes: &[Shown], more: bool) -> HeaderValue {
    let hash = nodes.iter().fold(u64::from(more), |hash, Shown { record, moment }| {
        let hash = xxh3_64_with_seed(record.node_id().as_str().as_bytes(), hash);
        let seen = [record.revision().get().to_le_bytes(), (moment.status as u64).to_le_bytes()];
        xxh3_64_with_seed(seen.as_flattened(), hash)
    });
    let mut tag = Vec::with_capacity(24);
    tag.extend_from_slice(b"W/\"");
    closed(tag, hash)
}

/// A tag that ends with a hash: sixteen digits, without the machinery of formatting.
fn closed(mut tag: Vec<u8>, hash: u64) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in hash.to_be_bytes() {
        tag.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    tag.push(b'"');
    // Digits and quotes: this can't fail.
    HeaderValue::from_bytes(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What a reader has already, by `If-None-Match`.
pub(super) struct Known(Field);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(field(&parts.headers, &header::IF_NONE_MATCH)))
    }
}

impl Known {
    /// The answer, or 304 without a body if the reader has it.
    pub(super) fn or_not_modified(&self, response: Response) -> Response {
        match response.headers().get(header::ETAG) {
            Some(tag) if self.has(tag) => {
                let (mut parts, _) = response.into_parts();
                parts.status = StatusCode::NOT_MODIFIED;
                parts.headers.remove(header::CONTENT_TYPE);
                Response::from_parts(parts, axum::body::Body::empty())
            }
            _ => response,
        }
    }

    /// Whether one of the tags is the present one, or all are meant.
    fn has(&self, present: &HeaderValue) -> bool {
        fn opaque(tag: &str) -> &str {
            tag.strip_prefix("W/").unwrap_or(tag)
        }
        match &self.0 {
            Field::Any => true,
            Field::Tags(tags) => {
                present.to_str().is_ok_and(|present| tags.iter().any(|tag| opaque(tag) == opaque(present)))
            }
            Field::Absent | Field::Malformed => false,
        }
    }
}

/// What a registration is conditional on.
pub(super) fn of_registration(headers: &HeaderMap, faults: &mut Faults) -> Precondition {
    match (field(headers, &header::IF_MATCH), field(headers, &header::IF_NONE_MATCH)) {
        (if_match, Field::Absent) => of_if_match(if_match, faults),
        (Field::Absent, Field::Any) => Precondition::Absent,
        (Field::Absent, _) => {
            faults.add(Place::Header("If-None-Match"), "takes only * here: create, and never replace");
            Precondition::None
        }
        _ => {
            faults.add(Place::Header("If-None-Match"), "must not stand together with If-Match");
            Precondition::None
        }
    }
}

/// What a write to a node that has to be registered is conditional on.
pub(super) fn of_existing(headers: &HeaderMap, faults: &mut Faults) -> Precondition {
    if headers.contains_key(header::IF_NONE_MATCH) {
        faults.add(Place::Header("If-None-Match"), "is not for this call; If-Match is");
    }
    of_if_match(field(headers, &header::IF_MATCH), faults)
}

fn of_if_match(field: Field, faults: &mut Faults) -> Precondition {
    match field {
        Field::Absent => Precondition::None,
        Field::Any => Precondition::Present,
        Field::Tags(tags) => Precondition::Revision(tags.iter().filter_map(|tag| revision_of(tag)).collect()),
        Field::Malformed => {
            faults.add(
                Place::Header("If-Match"),
                "must be * or a list of entity tags, such as \"12.0a1b2c3d4e5f6071\"",
            );
            Precondition::None
        }
    }
}

/// The revision in a strong tag. A weak tag never matches here (RFC 9110, section 13.1.1), nor does one of another
/// server.
fn revision_of(tag: &str) -> Option<Revision> {
    let (revision, _) = tag.strip_prefix('"')?.split_once('.')?;
    if revision.is_empty() || !revision.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Revision::new(revision.parse().ok()?)
}

enum Field {
    Absent,
    Any,
    Tags(Vec<String>),
    Malformed,
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Field {
    if !headers.contains_key(name) {
        return Field::Absent;
    }
    let mut tags = Vec::new();
    let mut any = false;
    for value in headers.get_all(name) {
        let Ok(text) = value.to_str() else { return Field::Malformed };
        if text.trim() == "*" {
            any = true;
            continue;
        }
        let Some(list) = list_of_tags(text) else { return Field::Malformed };
        tags.extend(list);
    }
    match (any, tags.is_empty()) {
        (true, true) => Field::Any,
        (false, false) => Field::Tags(tags),
        _ => Field::Malformed,
    }
}

/// `#entity-tag` (RFC 9110, section 8.8.3). A comma may stand inside of a tag.
fn list_of_tags(mut text: &str) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Some(tags);
        }
        let quote = if text.starts_with("W/") { 2 } else { 0 };
        let inner = text.get(quote..)?.strip_prefix('"')?;
        let end = quote + 1 + inner.find('"')? + 1;
        tags.push(text.get(..end)?.to_owned());
        text = text.get(end..)?.trim_start_matches([' ', '\t']);
        if !text.is_empty() && !text.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn registration(fields: &[(HeaderName, &str)]) -> Option<Precondition> {
        let mut faults = Faults::at_most(5);
        let condition = of_registration(&headers(fields), &mut faults);
        faults.is_empty().then_some(condition)
    }

    #[test]
    fn if_match_compares_revisions() {
        let revisions = |list: &[i64]| {
            Some(Precondition::Revision(list.iter().filter_map(|n| Revision::new(*n)).collect()))
        };
        for (value, expected) in [
            ("\"12.abc\"", revisions(&[12])),
            ("\"12.a,b\" , \"7.x\",", revisions(&[12, 7])),
            ("W/\"12.abc\"", revisions(&[])),
            ("\"foreign\", \"+5.x\", \"-5.x\"", revisions(&[])),
            ("*", Some(Precondition::Present)),
            ("12.abc", None),
            ("\"12.abc", None),
            ("\"1.a\" \"2.b\"", None),
            ("*, \"1.a\"", None),
            ("", None),
        ] {
            assert_eq!(registration(&[(header::IF_MATCH, value)]), expected, "{value}");
        }
    }

    #[test]
    fn if_none_match_creates_and_nothing_else() {
        assert_eq!(registration(&[]), Some(Precondition::None));
        assert_eq!(registration(&[(header::IF_NONE_MATCH, "*")]), Some(Precondition::Absent));
        assert_eq!(registration(&[(header::IF_NONE_MATCH, "\"1.a\"")]), None);
        assert_eq!(registration(&[(header::IF_NONE_MATCH, "*"), (header::IF_MATCH, "*")]), None);
    }

    #[test]
    fn a_get_is_not_modified_if_any_tag_is_the_present_one() {
        let present = HeaderValue::from_static("\"3.ff\"");
        let known = |headers: &HeaderMap| Known(field(headers, &header::IF_NONE_MATCH));
        let is = |value| known(&headers(&[(header::IF_NONE_MATCH, value)])).has(&present);
        assert!(is("\"3.ff\"") && is("W/\"3.ff\"") && is("\"x\", \"3.ff\"") && is("*"));
        assert!(!is("\"3.fe\"") && !is("junk"));
        assert!(!known(&HeaderMap::new()).has(&present));
    }
}
