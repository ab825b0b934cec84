//! What Prometheus is told of a node: where it is scraped, and what it is labelled with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use url::Url;

use crate::node::{Json, NodeRecord, Status};

/// Labels are kept in memory for each target, and nobody tells targets apart by a text of many pages.
const LONGEST_LABEL: usize = 1024;

/// A group of targets, as `<static_config>` of Prometheus has it: of one node.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Group<'a> {
    targets: [String; 1],
    labels: BTreeMap<Cow<'static, str>, Cow<'a, str>>,
}

/// The node as a target. `None` if it has no such endpoint, or one that can't be scraped.
pub(super) fn group<'a>(record: &'a NodeRecord, status: Status, endpoint: &'a str) -> Option<Group<'a>> {
    let endpoints = Json::read_stored(record.endpoints.as_str())?;
    let Some(Json::String(place)) = endpoints.get(endpoint) else { return None };
    let address = Address::of(place)?;
    let mut labels: BTreeMap<Cow<'static, str>, Cow<'a, str>> = [
        ("__meta_onex_node_id", Cow::Borrowed(record.node_id.as_str())),
        ("__meta_onex_node_type", Cow::Borrowed(&*record.node_type)),
        ("__meta_onex_node_version", Cow::Borrowed(&*record.node_version)),
        ("__meta_onex_status", Cow::Borrowed(status.as_str())),
        ("__meta_onex_endpoint", Cow::Borrowed(endpoint)),
    ]
    .map(|(name, value)| (Cow::Borrowed(name), value))
    .into();
    for (name, value) in [("__scheme__", address.scheme), ("__metrics_path__", address.path)] {
        if let Some(value) = value {
            labels.insert(Cow::Borrowed(name), Cow::Owned(value));
        }
    }
    if let Some(Json::Object(members)) = Json::read_stored(record.metadata.as_str()) {
        for (key, value) in members {
            let Some(value) = scalar(value) else { continue };
            let name = format!("__meta_onex_metadata_{}", label_name(&key));
            // Of two keys that are one name, the first counts, in the order in which the metadata shows them.
            labels.entry(Cow::Owned(name)).or_insert(Cow::Owned(value));
        }
    }
    Some(Group { targets: [address.target], labels })
}

fn scalar(value: Json) -> Option<String> {
    let text = match value {
        Json::String(text) | Json::Number(text) => text,
        Json::Bool(value) => value.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
    };
    (text.len() <= LONGEST_LABEL).then_some(text)
}

/// The characters that the name of a label may have, and `_` for all others, as Prometheus does it itself.
fn label_name(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Where a target is.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// `host:port`
    target: String,
    /// `http` or `https`, if the endpoint says so.
    scheme: Option<String>,
    /// Where its metrics are, if the endpoint says so.
    path: Option<String>,
}

impl Address {
    /// Of a URL, or of `host:port`.
    fn of(place: &str) -> Option<Self> {
        if place.contains("://") {
            let url = Url::parse(place).ok()?;
            // What speaks something else has no metrics that could be asked for.
            if !["http", "https"].contains(&url.scheme()) {
                return None;
            }
            // Secrets are not for labels, which everybody sees.
            if url.host_str().is_none_or(str::is_empty)
                || !url.username().is_empty()
                || url.password().is_some()
            {
                return None;
            }
            let port = url.port_or_known_default()?;
            // Prometheus encodes it again.
            let path = percent_decode_str(url.path()).decode_utf8_lossy();
            return Some(Self {
                target: format!("{}:{port}", url.host_str()?),
                scheme: Some(url.scheme().to_owned()),
                path: Some(path).filter(|path| !matches!(&**path, "" | "/")).map(Cow::into_owned),
            });
        }
        // As a URL, so that what is no host and no port is none here.
        let url = Url::parse(&format!("http://{place}")).ok()?;
        let (host, port) = place.rsplit_once(':')?;
        let is_place = !host.is_empty()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && !place.ends_with('/');
        let port: u16 = port.parse().ok().filter(|_| is_place)?;
        Some(Self { target: format!("{}:{port}", url.host_str()?), scheme: None, path: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(place: &str) -> Option<(String, Option<String>, Option<String>)> {
        Address::of(place).map(|address| (address.target, address.scheme, address.path))
    }

    #[test]
    fn an_endpoint_is_a_url_or_a_place() {
        let found = |target: &str, scheme: Option<&str>, path: Option<&str>| {
            Some((target.to_owned(), scheme.map(str::to_owned), path.map(str::to_owned)))
        };
        for (place, expected) in [
            ("http://10.0.0.1:20002", found("10.0.0.1:20002", Some("http"), None)),
            (" http://node.internal:1\t", found("node.internal:1", Some("http"), None)),
            ("http://node.internal/", found("node.internal:80", Some("http"), None)),
            (
                "HTTPS://node.internal/stats/metrics?x=1",
                found("node.internal:443", Some("https"), Some("/stats/metrics")),
            ),
            ("http://[2001:db8::1]:9100/", found("[2001:db8::1]:9100", Some("http"), None)),
            ("http://bücher.example:9100", found("xn--bcher-kva.example:9100", Some("http"), None)),
            ("http://h:1/м/a%20b", found("h:1", Some("http"), Some("/м/a b"))),
            ("127.0.0.1:30002", found("127.0.0.1:30002", None, None)),
            ("[::1]:30002", found("[::1]:30002", None, None)),
            ("node.internal:80", found("node.internal:80", None, None)),
        ] {
            assert_eq!(address(place), expected, "{place}");
        }
    }

    #[test]
    fn what_can_not_be_scraped_is_no_target() {
        for place in [
            "",
            "node",
            ":80",
            "node:",
            "node:http",
            "node:99999",
            "node:80/path",
            "node:80?x",
            "node:80#x",
            "user@node:80",
            "a b:80",
            "http://",
            "http://user:secret@node:80",
            "http://user@node:80",
            "grpc://10.0.0.1:30002",
            "unix:///run/node.sock",
            "::1:80",
        ] {
            assert_eq!(address(place), None, "{place}");
        }
    }

    #[test]
    fn names_of_labels_have_letters_and_digits() {
        assert_eq!(label_name("owner.team-1"), "owner_team_1");
        assert_eq!(label_name("größe\u{202e}"), "gr__e_");
    }

    #[test]
    fn labels_are_scalars_that_are_not_long() {
        let of = |text: &str| Json::read_stored(text).and_then(scalar);
        assert_eq!(of("\"dev\"").as_deref(), Some("dev"));
        assert_eq!(of("1.50").as_deref(), Some("1.50"));
        assert_eq!(of("true").as_deref(), Some("true"));
        for none in ["null", "[1]", "{}"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert!(of(&format!("\"{}\"", "x".repeat(1_024))).is_some());
        assert!(of(&format!("\"{}\"", "x".repeat(1_025))).is_none());
    }
}
