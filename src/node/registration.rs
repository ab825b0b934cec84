//! What a node registers with, and the rules for it.

use std::fmt;

use serde_json::value::RawValue;

use super::fault::{Faults, Path, Place};
use super::id::NodeId;
use super::json::{self, Json, JsonObject, read_string};

/// `node_version` is a `VARCHAR(50)`.
const MAX_VERSION_CHARS: usize = 50;
/// `health_endpoint` is a `VARCHAR(512)`.
const MAX_URL_CHARS: usize = 512;
/// The longest TTL that a node may ask for, in seconds: one day.
const MAX_TTL_SECONDS: i32 = 86_400;

/// The fields of a registration, in the order of the table's columns.
pub const FIELDS: [&str; 8] = [
    "node_id",
    "node_type",
    "node_version",
    "capabilities",
    "endpoints",
    "metadata",
    "health_endpoint",
    "ttl_seconds",
];

/// The four types of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeType {
    /// Talks to the world outside.
    Effect,
    /// Computes, without side effects.
    Compute,
    /// Folds events into state.
    Reducer,
    /// Coordinates other nodes.
    Orchestrator,
}

impl NodeType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Effect, Self::Compute, Self::Reducer, Self::Orchestrator];

    /// Its name in the API and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Effect => "effect",
            Self::Compute => "compute",
            Self::Reducer => "reducer",
            Self::Orchestrator => "orchestrator",
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|node_type| node_type.as_str() == name)
    }
}

/// A version by `SemVer` 2.0.0 (semver.org), at most 50 characters. Its numbers fit 64 bits, which the standard
/// leaves open and every implementation bounds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeVersion(String);

impl NodeVersion {
    /// Checks a version.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().nth(MAX_VERSION_CHARS).is_some() {
            return Err(format!("must not be longer than {MAX_VERSION_CHARS} characters"));
        }
        match semver::Version::parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(reason) => Err(format!("must be a semantic version such as 1.0.0: {reason}")),
        }
    }

    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NodeVersion {
    fn default() -> Self {
        Self("1.0.0".to_owned())
    }
}

impl fmt::Display for NodeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A valid registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Unique id.
    pub node_id: NodeId,
    /// One of the four.
    pub node_type: NodeType,
    /// Semantic version.
    pub node_version: NodeVersion,
    /// What the node can do.
    pub capabilities: JsonObject,
    /// Endpoint name to URL or `host:port`.
    pub endpoints: JsonObject,
    /// Tags, labels, environment, region.
    pub metadata: JsonObject,
    /// URL of its health check.
    pub health_endpoint: Option<String>,
    /// TTL in seconds, 1 to 86400; `None`: the server's.
    pub ttl_seconds: Option<i32>,
}

/// Where the id of a registration stands.
#[derive(Debug, Clone, Copy)]
pub enum IdFrom<'a> {
    /// In the path; the body may repeat it.
    Path(&'a str),
    /// In the body.
    Body,
}

impl Registration {
    /// Reads a registration from a body, or from an item of one at `at`. `None` if a rule was broken; `faults` names
    /// all that were.
    #[must_use]
    pub fn read(body: &RawValue, at: &Path<'_>, id: IdFrom<'_>, faults: &mut Faults) -> Option<Self> {
        let before = faults.count();
        let from_path = match id {
            IdFrom::Path(id) => NodeId::parse(id)
                .map_err(|broken| {
                    for rule in broken {
                        faults.add(Place::PathParameter("node_id"), rule);
                    }
                })
                .ok(),
            IdFrom::Body => None,
        };
        let Some(given) = json::fields(body.get(), at, faults) else {
            faults.at(at, format!("must be a JSON object, not {}", Json::kind_of(body)));
            return None;
        };

        let mut node_id = from_path;
        let mut node_type = None;
        let mut node_version = Some(NodeVersion::default());
        let mut capabilities = Some(JsonObject::empty());
        let mut endpoints = Some(JsonObject::empty());
        let mut metadata = Some(JsonObject::empty());
        let mut health_endpoint = None;
        let mut ttl_seconds = None;
        for (name, value) in &given {
            let path = at.member(name);
            match name.as_ref() {
                "node_id" => match id {
                    IdFrom::Body => node_id = read_id(value, &path, faults),
                    IdFrom::Path(expected) => check_repeated_id(value, expected, &path, faults),
                },
                "node_type" => node_type = read_type(value, &path, faults),
                "node_version" => node_version = read_version(value, &path, faults),
                "capabilities" => capabilities = JsonObject::read(value, &path, faults),
                "endpoints" => endpoints = read_endpoints(value, &path, faults),
                "metadata" => metadata = JsonObject::read(value, &path, faults),
                "health_endpoint" => health_endpoint = read_url(value, &path, faults),
                "ttl_seconds" => ttl_seconds = read_ttl(value, &path, faults),
                _ => faults.at(
                    &path,
                    format!("is not a field of a registration; the fields are {}", FIELDS.join(", ")),
                ),
            }
        }
        let missing = |name: &str| !given.iter().any(|(given, _)| given == name);
        if missing("node_type") {
            faults.at(&at.member("node_type"), format!("is required: {}", types()));
        }
        if matches!(id, IdFrom::Body) && missing("node_id") {
            faults.at(&at.member("node_id"), "is required");
        }
        if faults.count() > before {
            return None;
        }
        Some(Self {
            node_id: node_id?,
            node_type: node_type?,
            node_version: node_version?,
            capabilities: capabilities?,
            endpoints: endpoints?,
            metadata: metadata?,
            health_endpoint,
            ttl_seconds,
        })
    }
}

fn types() -> String {
    format!("one of {}", NodeType::ALL.map(NodeType::as_str).join(", "))
}

fn read_id(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<NodeId> {
    let text = read_string(value, path, faults)?;
    NodeId::parse(&text)
        .map_err(|broken| {
            for rule in broken {
                faults.at(path, rule);
            }
        })
        .ok()
}

fn check_repeated_id(value: &RawValue, expected: &str, path: &Path<'_>, faults: &mut Faults) {
    if let Some(text) = read_string(value, path, faults)
        && text != expected
    {
        faults.at(path, "must be left out or equal the id in the path");
    }
}

fn read_type(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<NodeType> {
    let text = read_string(value, path, faults)?;
    let found = NodeType::from_name(&text);
    if found.is_none() {
        faults.at(path, format!("must be {}", types()));
    }
    found
}

fn read_version(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<NodeVersion> {
    let text = read_string(value, path, faults)?;
    NodeVersion::parse(&text).map_err(|wrong| faults.at(path, wrong)).ok()
}

fn read_endpoints(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<JsonObject> {
    let before = faults.count();
    let object = JsonObject::read(value, path, faults)?;
    if let Json::Object(members) = object.to_json() {
        for (name, value) in &members {
            if !matches!(value, Json::String(_)) {
                let wrong = format!("must be a string such as \"localhost:50051\", not {}", value.kind());
                faults.at(&path.member(name), wrong);
            }
        }
    }
    (faults.count() == before).then_some(object)
}

/// An absolute http(s) URL without user info (RFC 3986, section 3.2.1: passwords in URLs end up in logs).
fn read_url(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<String> {
    if value.get() == "null" {
        return None;
    }
    let text = read_string(value, path, faults)?;
    if text.chars().nth(MAX_URL_CHARS).is_some() {
        faults.at(path, format!("must not be longer than {MAX_URL_CHARS} characters"));
    }
    // The parser repairs a good deal (blanks, backslashes, missing slashes); what is stored is what was sent, so
    // only what needs no repair is taken.
    let needs_repair = text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\');
    let lower = text.get(..8).unwrap_or(&text).to_ascii_lowercase();
    let absolute = lower.starts_with("http://") || lower.starts_with("https://");
    let authority = text.split('/').nth(2).unwrap_or_default();
    let authority = authority.split(['?', '#']).next().unwrap_or_default();
    // Without an authority, the parser takes the first segment of the path for the host.
    let needs_repair = needs_repair || authority.is_empty();
    match url::Url::parse(&text) {
        Ok(url) if absolute && !needs_repair && url.has_host() => {
            if authority.contains('@') {
                faults.at(path, "must not contain a user name or password");
            }
        }
        _ => faults.at(path, "must be an absolute URL that begins with http:// or https://"),
    }
    Some(text)
}

fn read_ttl(value: &RawValue, path: &Path<'_>, faults: &mut Faults) -> Option<i32> {
    let before = faults.count();
    let rule = format!("must be an integer from 1 to {MAX_TTL_SECONDS}, or null");
    if value.get().starts_with(['[', '{', '"']) {
        faults.at(path, format!("{rule}; not {}", Json::kind_of(value)));
        return None;
    }
    match Json::read(value, path, faults) {
        Json::Null => None,
        Json::Number(plain) => {
            // 60.0 is an integer, too (JSON Schema, section 6.1.1).
            let whole = plain.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|digit| digit == b'0'));
            let seconds = whole
                .map_or(plain.as_str(), |(whole, _)| whole)
                .parse()
                .ok()
                .filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds));
            if seconds.is_none() && faults.count() == before {
                faults.at(path, rule);
            }
            seconds
        }
        other => {
            faults.at(path, format!("{rule}; not {}", other.kind()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, id: IdFrom<'_>) -> Result<Registration, Vec<String>> {
        let raw = serde_json::from_str::<&RawValue>(body).expect("test input is JSON");
        let mut faults = Faults::at_most(50);
        Registration::read(raw, &Path::Root, id, &mut faults).ok_or_else(|| {
            faults
                .into_vec()
                .into_iter()
                .map(|fault| match fault.place {
                    Place::Pointer(pointer) => pointer,
                    Place::PathParameter(name) => format!("{{{name}}}"),
                    Place::Parameter(name) => format!("?{name}"),
                    Place::Header(name) => name.to_owned(),
                })
                .collect()
        })
    }

    fn faults(body: &str) -> Vec<String> {
        read(body, IdFrom::Path("n")).unwrap_err()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let registration = read(r#"{"node_type":"effect"}"#, IdFrom::Path("n")).unwrap();
        assert_eq!(registration.node_version.as_str(), "1.0.0");
        assert_eq!(registration.capabilities, JsonObject::empty());
        assert_eq!((registration.health_endpoint, registration.ttl_seconds), (None, None));
        let nulls = r#"{"node_type":"effect","health_endpoint":null,"ttl_seconds":null,"node_id":"n"}"#;
        assert!(read(nulls, IdFrom::Path("n")).is_ok());
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let body = r#"{"node_id":"m","node_type":"planet","node_version":"1.0","capabilities":[1],
            "endpoints":{"grpc":50051},"metadata":null,"health_endpoint":"ftp://h/","ttl_seconds":1.5,"colour":"red"}"#;
        let mut found = faults(body);
        found.sort();
        let expected = [
            "/capabilities",
            "/colour",
            "/endpoints/grpc",
            "/health_endpoint",
            "/metadata",
            "/node_id",
            "/node_type",
            "/node_version",
            "/ttl_seconds",
        ];
        assert_eq!(found, expected);
        assert_eq!(read("{}", IdFrom::Body).unwrap_err(), ["/node_type", "/node_id"]);
        assert_eq!(read("{}", IdFrom::Path(" ")).unwrap_err(), ["{node_id}", "/node_type"]);
        assert_eq!(faults("[]"), [""]);
    }

    #[test]
    fn versions_are_semver_2() {
        for version in ["1.0.0", "0.0.0", "1.2.3-alpha.1+build.5", "10.20.30-0a"] {
            assert!(NodeVersion::parse(version).is_ok(), "{version}");
        }
        for version in ["1.0", "01.0.0", "v1.0.0", "1.0.0-", "1.0.0-01", "", " 1.0.0", "1.0.0+é"] {
            assert!(NodeVersion::parse(version).is_err(), "{version}");
        }
        assert!(NodeVersion::parse(&format!("1.0.0-{}", "a".repeat(44))).is_ok());
        assert!(NodeVersion::parse(&format!("1.0.0-{}", "a".repeat(45))).is_err());
    }

    #[test]
    fn health_endpoints_are_absolute_http_urls_without_user_info() {
        let accepts = |url: &str| {
            read(
                &serde_json::json!({"node_type":"effect","health_endpoint":url}).to_string(),
                IdFrom::Path("n"),
            )
            .is_ok()
        };
        for url in
            ["http://h", "https://h:8443/p?q=a@b#f", "HTTP://h/", "http://[::1]:8/health", "http://127.0.0.1"]
        {
            assert!(accepts(url), "{url}");
        }
        for url in [
            "ftp://h/",
            "//h/",
            "h:80",
            "/p",
            "http://",
            "http:///p",
            "http://?q",
            "http:h",
            "http:/h",
            "http://u:p@h/",
            "http://u@h/",
            "http://@h/",
            " http://h",
            "http://h/a b",
            "http:\\\\h",
            "http://h\n",
            "http://h:99999/",
            "",
        ] {
            assert!(!accepts(url), "{url}");
        }
        assert!(accepts(&format!("http://h/{}", "x".repeat(503))));
        assert!(!accepts(&format!("http://h/{}", "x".repeat(504))));
    }

    #[test]
    fn a_ttl_is_a_whole_number_of_seconds_up_to_a_day() {
        let accepts = |ttl: &str| {
            read(&format!(r#"{{"node_type":"effect","ttl_seconds":{ttl}}}"#), IdFrom::Path("n")).is_ok()
        };
        for ttl in ["1", "86400", "null", "6e1", "60.0", "60.00e0"] {
            assert!(accepts(ttl), "{ttl}");
        }
        for ttl in ["0", "-1", "86401", "1.5", "\"60\"", "true", "1e300", "[]"] {
            assert!(!accepts(ttl), "{ttl}");
        }
    }
}
