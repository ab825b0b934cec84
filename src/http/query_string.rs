//! Query strings: every name is known, and said once unless it may be repeated.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::node::fault::harmless;
use crate::node::{Faults, PageLimit, Place, Revision};

/// A parameter that a call takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it may be said more than once.
    pub(super) repeatable: bool,
}

impl Parameter {
    pub(super) const fn once(name: &'static str) -> Self {
        Self { name, repeatable: false }
    }

    pub(super) const fn repeatable(name: &'static str) -> Self {
        Self { name, repeatable: true }
    }
}

/// The values of a query string, by name.
#[derive(Debug, Default)]
pub(super) struct QueryString {
    values: Vec<(&'static str, String)>,
}

impl QueryString {
    /// Reads a query string. Names that are not allowed, repeated ones and what is not UTF-8 are faults.
    pub(super) fn read(query: Option<&str>, allowed: &[&[Parameter]], faults: &mut Faults) -> Self {
        let mut read = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let shown = || Place::Parameter(harmless(&decode_lossy(name)));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                faults.add(shown(), "must be percent-encoded UTF-8");
                continue;
            };
            let Some(parameter) = allowed.iter().copied().flatten().find(|parameter| parameter.name == name)
            else {
                faults.add(shown(), format!("is not a parameter of this call; it takes {}", names(allowed)));
                continue;
            };
            if !parameter.repeatable && read.values.iter().any(|(said, _)| *said == parameter.name) {
                faults.add(shown(), format!("must not be repeated; the call takes {}", names(allowed)));
                continue;
            }
            read.values.push((parameter.name, value.into_owned()));
        }
        read
    }

    /// Whether a name was said.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(said, _)| *said == name)
    }

    /// All values of a name.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        if !self.has(name) {
            return Vec::new();
        }
        self.values.extract_if(.., |(said, _)| *said == name).map(|(_, value)| value).collect()
    }

    /// The value of a name that is not repeatable.
    pub(super) fn one(&mut self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// The value of `limit`.
    pub(super) fn page_limit(&mut self, faults: &mut Faults) -> PageLimit {
        let Some(text) = self.one("limit") else { return PageLimit::default() };
        number(&text).and_then(PageLimit::new).unwrap_or_else(|| {
            let detail = format!("must be a number from 1 to {}", PageLimit::MAX);
            faults.parameter("limit", detail);
            PageLimit::default()
        })
    }

    /// A revision.
    pub(super) fn revision(&mut self, name: &str, faults: &mut Faults) -> Option<Revision> {
        let text = self.one(name)?;
        let revision = revision(&text);
        if revision.is_none() {
            faults.parameter(name, A_REVISION);
        }
        revision
    }

    /// `true` or `false`, which is the default.
    pub(super) fn flag(&mut self, name: &str, faults: &mut Faults) -> bool {
        match self.one(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                faults.parameter(name, "must be true or false");
                false
            }
        }
    }

    /// A repeatable name whose values are few.
    pub(super) fn named<T>(
        &mut self,
        name: &str,
        all: &[&str],
        from_name: fn(&str) -> Option<T>,
        faults: &mut Faults,
    ) -> Vec<T> {
        let given = self.all(name);
        let found: Vec<T> = given.iter().filter_map(|value| from_name(value)).collect();
        if found.len() < given.len() {
            faults.parameter(name, format!("must be one of {}", all.join(", ")));
        }
        found
    }
}

/// What a revision is, for a client whose isn't one.
pub(super) const A_REVISION: &str = "must be a revision: a number from 0 to 9223372036854775807";

/// A revision, in digits alone.
pub(super) fn revision(text: &str) -> Option<Revision> {
    number(text).and_then(Revision::new)
}

/// A number of digits alone. No sign, no blank: what `parse` takes is not all that a number may look like.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn names(allowed: &[&[Parameter]]) -> String {
    let names: Vec<&str> = allowed.iter().copied().flatten().map(|parameter| parameter.name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// As forms encode (WHATWG URL, section 5.1): `+` is a blank.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    if !text.contains('%') {
        return Some(text);
    }
    if !is_percent_encoded(&text) {
        return None;
    }
    percent_decode_str(&text).decode_utf8().ok().map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Whether every percent sign begins an escape (RFC 3986, section 2.1). Else two spellings would be one text.
pub(super) fn is_percent_encoded(text: &str) -> bool {
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(is_escape)
}

fn decode_lossy(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Checks that the document describes the parameters that a call reads.
#[cfg(test)]
pub(super) fn described_and_read<P: utoipa::IntoParams>(read: &[Parameter]) {
    let described: Vec<String> =
        P::into_params(|| None).into_iter().map(|parameter| parameter.name).collect();
    let read: Vec<&str> = read.iter().map(|parameter| parameter.name).collect();
    assert_eq!(described, read);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [Parameter; 2] = [Parameter::repeatable("status"), Parameter::once("limit")];

    fn read(query: &str) -> (QueryString, Vec<(String, String)>) {
        let mut faults = Faults::at_most(10);
        let read = QueryString::read(Some(query), &[&ALLOWED], &mut faults);
        let faults = faults.into_vec().into_iter().map(|fault| match fault.place {
            Place::Parameter(name) => (name, fault.detail),
            other => panic!("{other:?}"),
        });
        (read, faults.collect())
    }

    #[test]
    fn values_are_decoded() {
        let (mut query, faults) = read("status=a+b%2B%26&limit=&&status=%F0%9F%A6%80");
        assert!(faults.is_empty());
        assert_eq!(query.all("status"), ["a b+&", "🦀"]);
        assert_eq!(query.one("limit").as_deref(), Some(""));
        assert_eq!(query.one("limit"), None);
    }

    #[test]
    fn what_is_not_allowed_is_named_harmlessly() {
        let (_, faults) = read("drop%20table=1&limit=1&limit=2&status=%FF&status=%zz&%E2%80%AEx=1");
        let names: Vec<&str> = faults.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["drop table", "limit", "status", "status", "\u{FFFD}x"]);
        assert!(faults[0].1.ends_with("it takes status, limit"));
    }
}
