//! Problem details (RFC 9457): what a client is told when something is wrong. The status is decided here and nowhere
//! else. What the log is told is another text.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::Role;
use crate::metrics::BreakerPhase;
use crate::node::{Fault, Faults, Place};
use crate::registry::{Condition, RegistryError};

/// The media type of problem details.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Something that is wrong with a request, or with us. It becomes an answer in [`super::observe`], which knows the
/// correlation id.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: &'static Kind,
    detail: String,
    errors: Vec<Fault>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A kind of problem: its name, and what HTTP calls it.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    status: StatusCode,
    title: &'static str,
}

const fn kind(name: &'static str, status: StatusCode, title: &'static str) -> Kind {
    Kind { name, status, title }
}

static MALFORMED_BODY: Kind =
    kind("malformed-body", StatusCode::BAD_REQUEST, "The body is not JSON in UTF-8");
static VALIDATION: Kind = kind("validation", StatusCode::UNPROCESSABLE_ENTITY, "The request breaks a rule");
static INVALID_REQUEST: Kind =
    kind("invalid-request", StatusCode::BAD_REQUEST, "The path, query string or header is invalid");
static REFUSED: Kind = kind(
    "refused",
    StatusCode::UNPROCESSABLE_ENTITY,
    "The database has a rule that refuses the registration",
);
static UNAUTHORIZED: Kind = kind("unauthorized", StatusCode::UNAUTHORIZED, "The request needs a valid key");
static FORBIDDEN: Kind = kind("forbidden", StatusCode::FORBIDDEN, "The key may not do this");
static NODE_NOT_FOUND: Kind = kind("node-not-found", StatusCode::NOT_FOUND, "The node is not registered");
static UNKNOWN_PATH: Kind = kind("unknown-path", StatusCode::NOT_FOUND, "There is nothing at this path");
static METHOD: Kind =
    kind("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The path has no such method");
static REQUEST_TIMEOUT: Kind =
    kind("request-timeout", StatusCode::REQUEST_TIMEOUT, "The body came too slowly");
static PRECONDITION: Kind = kind(
    "precondition-failed",
    StatusCode::PRECONDITION_FAILED,
    "The registration is not as the request demands",
);
static EVENTS_GONE: Kind =
    kind("events-gone", StatusCode::GONE, "The events after this revision are not there, or not all of them");
static TOO_LARGE: Kind = kind("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
static MEDIA: Kind = kind(
    "unsupported-media-type",
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "The body must be sent as application/json in UTF-8",
);
static TLS_EXPECTED: Kind = kind(
    "tls-expected",
    StatusCode::BAD_REQUEST,
    "The server speaks HTTP over TLS at this port, and nothing else",
);
static INTERNAL: Kind =
    kind("internal", StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong in the registry");
static UNAVAILABLE: Kind =
    kind("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The registry can't do this at the moment");
static INTERRUPTED: Kind =
    kind("interrupted", StatusCode::SERVICE_UNAVAILABLE, "The database has fallen silent");
static CONTENDED: Kind =
    kind("contended", StatusCode::SERVICE_UNAVAILABLE, "Another writer holds this node in the database");
static TOO_MANY_REQUESTS: Kind =
    kind("too-many-requests", StatusCode::TOO_MANY_REQUESTS, "The client sends more than it may");
static TIMEOUT: Kind = kind("timeout", StatusCode::GATEWAY_TIMEOUT, "The request took too long");
static FULL: Kind = kind("database-full", StatusCode::INSUFFICIENT_STORAGE, "The database's disk is full");

/// How long to wait before asking again, in seconds.
const RETRY_AFTER_SECONDS: u16 = 1;

/// What is wrong, as problem details (RFC 9457)
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// A stable reference that names the kind of problem
    #[schema(value_type = String, example = "/problems/validation")]
    r#type: String,
    /// The kind of problem in words
    #[schema(example = "The request breaks a rule")]
    title: &'static str,
    /// The HTTP status code
    #[schema(minimum = 400, maximum = 599, example = 422)]
    status: u16,
    /// What is wrong this time
    #[schema(example = "1 rule is broken")]
    detail: String,
    /// The correlation id of the request
    #[schema(example = "5f0c6ab2-9a43-4ac1-9c39-9a2f5a8ff5b1")]
    correlation_id: String,
    /// All that is wrong, each with its place
    errors: Vec<ErrorBody>,
}

/// One thing that is wrong. It has a pointer, a parameter or a header, as it stands in the body, in the path or query
/// string, or in a header field
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProblemError)]
struct ErrorBody {
    /// JSON Pointer (RFC 6901) into the body
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/node_type")]
    pointer: Option<String>,
    /// Name of a parameter
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// Name of a header field
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    header: Option<String>,
    /// The rule that is broken
    #[schema(example = "must be one of effect, compute, reducer, orchestrator")]
    detail: String,
}

impl From<Fault> for ErrorBody {
    fn from(fault: Fault) -> Self {
        let mut body = Self { pointer: None, parameter: None, header: None, detail: fault.detail };
        match fault.place {
            Place::Pointer(pointer) => body.pointer = Some(pointer),
            Place::PathParameter(name) => body.parameter = Some(name.to_owned()),
            Place::Parameter(name) => body.parameter = Some(name),
            Place::Header(name) => body.header = Some(name.to_owned()),
        }
        body
    }
}

impl Problem {
    fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// The body is not JSON. `reason` names a place in it and repeats nothing of it.
    pub(super) fn malformed_body(reason: &str) -> Self {
        Self::new(&MALFORMED_BODY, reason)
    }

    /// Faults of the body are 422; if the path, the query string or a header is wrong as well, it is 400.
    pub(super) fn faults(faults: Faults) -> Self {
        let count = faults.count();
        let errors = faults.into_vec();
        // An id in the path is part of the registration.
        let of_body = |fault: &Fault| match &fault.place {
            Place::Pointer(_) | Place::PathParameter(_) => true,
            Place::Parameter(_) | Place::Header(_) => false,
        };
        let kind = if errors.iter().all(of_body) { &VALIDATION } else { &INVALID_REQUEST };
        let detail =
            if count == 1 { "1 rule is broken".to_owned() } else { format!("{count} rules are broken") };
        Self { errors, ..Self::new(kind, detail) }
    }

    /// The nodes are not in memory.
    pub(super) fn not_ready(condition: &Condition) -> Self {
        if condition.breaker == BreakerPhase::Closed && condition.is_open {
            RegistryError::Loading.into()
        } else {
            let detail = "the database can't be reached, or is not ready to be served, and this replica doesn't know \
                          the nodes; the log of the server has the reason";
            Self::new(&UNAVAILABLE, detail).retry_later()
        }
    }

    pub(super) fn undecodable_path() -> Self {
        let fault = Fault {
            place: Place::PathParameter(super::path::NODE_ID),
            detail: "must be percent-encoded UTF-8".to_owned(),
        };
        Self { errors: vec![fault], ..Self::new(&INVALID_REQUEST, "1 rule is broken") }
    }

    /// No key was shown (RFC 6750, section 3.1: then no error is named).
    pub(super) fn key_missing() -> Self {
        Self::new(&UNAUTHORIZED, "send the header field Authorization: Bearer, a blank, and a key")
            .challenging(HeaderValue::from_static(r#"Bearer realm="onex-registry""#))
    }

    /// A key was shown that is none of ours, or not any more.
    pub(super) fn key_not_valid() -> Self {
        Self::new(&UNAUTHORIZED, "the key is not known, or has expired")
            .challenging(HeaderValue::from_static(r#"Bearer realm="onex-registry", error="invalid_token""#))
    }

    pub(super) fn authorization_malformed(reason: &str) -> Self {
        let fault = Fault { place: Place::Header("Authorization"), detail: reason.to_owned() };
        Self { errors: vec![fault], ..Self::new(&INVALID_REQUEST, "1 rule is broken") }
            .challenging(HeaderValue::from_static(r#"Bearer realm="onex-registry", error="invalid_request""#))
    }

    /// The key has a lower role than the call needs; `None`: no role is enough.
    pub(super) fn role_missing(role: Option<Role>) -> Self {
        let (detail, scope) = match role {
            Some(role) => (
                format!("the key does not have the role {}", role.as_str()),
                format!(r#", scope="{}""#, role.as_str()),
            ),
            None => ("no key may do this".to_owned(), String::new()),
        };
        Self::new(&FORBIDDEN, detail).insufficient(&scope)
    }

    /// The key covers other nodes.
    pub(super) fn not_covered() -> Self {
        Self::new(
            &FORBIDDEN,
            "the node_ids of the key do not cover this node, and it does not have the role admin",
        )
        .insufficient("")
    }

    /// The same for some of many nodes.
    pub(super) fn some_not_covered(faults: Faults) -> Self {
        let detail = format!(
            "nothing was done: the node_ids of the key do not cover {} of these nodes, and it does not have the role admin",
            faults.count()
        );
        Self { errors: faults.into_vec(), ..Self::new(&FORBIDDEN, detail).insufficient("") }
    }

    fn insufficient(self, scope: &str) -> Self {
        let challenge = format!(r#"Bearer realm="onex-registry", error="insufficient_scope"{scope}"#);
        // Made of names of ours: this can't fail.
        self.challenging(HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer")))
    }

    fn challenging(self, challenge: HeaderValue) -> Self {
        self.with_header(header::WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn node_not_found() -> Self {
        Self::new(&NODE_NOT_FOUND, "no node is registered with this id")
    }

    /// For a node that believes to be registered.
    pub(super) fn register_again() -> Self {
        Self::new(&NODE_NOT_FOUND, "no node is registered with this id: register it again")
    }

    pub(super) fn unknown_path() -> Self {
        Self::new(&UNKNOWN_PATH, "the paths are listed in /openapi.json; an id in a path is percent-encoded")
    }

    /// The router adds `Allow`.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(&METHOD, "the methods that the path has are listed in the header field Allow")
    }

    pub(super) fn body_too_slow(limit: std::time::Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(&REQUEST_TIMEOUT, format!("the body must arrive within {limit}"))
            .with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        Self::new(&TOO_LARGE, format!("the body must not be larger than {limit} bytes"))
    }

    pub(super) fn too_many_bodies() -> Self {
        Self::new(&UNAVAILABLE, "too many large requests are under way").retry_later()
    }

    pub(super) fn too_many_pages() -> Self {
        Self::new(&UNAVAILABLE, "too many large pages are being sent").retry_later()
    }

    pub(super) fn too_many_watchers() -> Self {
        Self::new(&UNAVAILABLE, "as many wait for changes as the server lets wait").retry_later()
    }

    /// Soon there may be room.
    pub(super) fn too_many_connections() -> Self {
        Self::new(&UNAVAILABLE, "there are as many connections as the server takes").retry_later()
    }

    pub(super) fn too_many_of_an_address() -> Self {
        Self::new(&TOO_MANY_REQUESTS, "there are as many connections as the server takes of one address")
            .retry_later()
    }

    /// Whole seconds: the field knows no others (RFC 9110, section 10.2.3).
    pub(super) fn too_many_requests(wait: std::time::Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(&TOO_MANY_REQUESTS, "more requests per second than the server takes of one client")
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn tls_expected() -> Self {
        Self::new(&TLS_EXPECTED, "ask again with https")
    }

    pub(super) fn unsupported_media_type(detail: &str) -> Self {
        Self::new(&MEDIA, detail)
    }

    pub(super) fn timeout(limit: std::time::Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::new(
            &TIMEOUT,
            format!("it took more than {limit}; if this was a write, it may have taken effect, or may yet"),
        )
    }

    pub(super) fn internal() -> Self {
        Self::new(&INTERNAL, "the log of the server has more under this correlation id")
    }

    /// For a batch of which only some could be done.
    pub(super) fn partly_done(self, done: usize, all: usize) -> Self {
        Self {
            detail: format!("{done} of {all} were done, and it is safe to ask again: {}", self.detail),
            ..self
        }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.kind.status
    }

    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        let value = self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.to_str());
        value.and_then(Result::ok)
    }

    fn retry_later(self) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))
    }

    /// The problem as an object, for an answer or an item of one.
    pub(super) fn body(self, correlation_id: &str) -> ProblemBody {
        ProblemBody {
            r#type: format!("/problems/{}", self.kind.name),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: self.detail,
            correlation_id: correlation_id.to_owned(),
            errors: self.errors.into_iter().map(ErrorBody::from).collect(),
        }
    }

    /// The answer. `headers` are those that the router and other layers have set already.
    pub(super) fn render(mut self, mut headers: HeaderMap, correlation_id: &str) -> Response {
        headers.extend(std::mem::take(&mut self.headers));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.remove(header::CONTENT_LENGTH);
        // What is wrong now may be right in a moment. Some statuses are kept by caches unless they are told not to.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let status = self.kind.status;
        // Strings and numbers: this can't fail.
        let body = serde_json::to_vec(&self.body(correlation_id)).unwrap_or_default();
        (status, headers, body).into_response()
    }
}

impl From<RegistryError> for Problem {
    /// What a client is told. The registry has told the log what is not for clients.
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound => Self::node_not_found(),
            RegistryError::PreconditionFailed { present } => {
                let present = match present {
                    Some(revision) => format!("its revision is {revision} now"),
                    None => "it is not registered now".to_owned(),
                };
                Self::new(&PRECONDITION, present)
            }
            RegistryError::EventsGone { kept_after, newest } => Self::new(
                &EVENTS_GONE,
                format!(
                    "there are events after revision {kept_after}, and the newest has {newest}: older ones were \
                     deleted, or the database was restored; read the list of nodes again, and the events after its \
                     revision"
                ),
            )
            .with_header(super::headers::REGISTRY_REVISION, super::headers::revision(newest)),
            RegistryError::Contended | RegistryError::Held => Self::new(
                &CONTENDED,
                "another transaction in the database has held this node, or the numbering of changes, for too long",
            )
            .retry_later(),
            RegistryError::Refused(_) => {
                Self::new(&REFUSED, "a constraint or trigger of the database's own refuses this; its owner knows which")
            }
            RegistryError::Unavailable(_) => {
                Self::new(&UNAVAILABLE, "the database is not available; if this was a write, it may have taken effect, or may yet")
                    .retry_later()
            }
            RegistryError::Away => {
                Self::new(&UNAVAILABLE, "the database is away, and was not asked: nothing was written").retry_later()
            }
            RegistryError::Silent => Self::new(
                &INTERRUPTED,
                "the database does not answer; if this was a write, it may have taken effect, or may yet",
            )
            .retry_later(),
            RegistryError::Busy => {
                Self::new(&UNAVAILABLE, "more writes are waiting than the server takes; nothing was written").retry_later()
            }
            RegistryError::Crowded => {
                Self::new(&UNAVAILABLE, "more is being read than the server does at once").retry_later()
            }
            RegistryError::Behind => Self::new(
                &UNAVAILABLE,
                "this replica has not seen the revision that was asked for in time; others may have",
            )
            .retry_later(),
            RegistryError::Loading => {
                Self::new(&UNAVAILABLE, "this replica has just started and is reading the nodes; others may have them")
                    .retry_later()
            }
            RegistryError::Full(_) => Self::new(&FULL, "the database takes no more; reads go on"),
            RegistryError::Failed(_) | RegistryError::Interrupted => Self::internal(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
