//! The OpenAPI document, made of the routes themselves, and the pages to read it and try it.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    Ref, RefOr, Required, Response, ResponseBuilder, Schema, Type, tag::TagBuilder,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::auth;
use super::page_headers;
use super::problem::{MEDIA_TYPE, Problem};

const DESCRIPTION: &str = "A node registry and service-discovery server. Nodes register with PUT, and are discovered \
by type, version, capability and metadata.\n\nErrors are problem details (RFC 9457) that name all that is wrong. \
Answers have an `X-Correlation-ID`, the client's if it sent a sane one.\n\nA server that has keys asks for one with every \
request, but for the calls that say otherwise: `Authorization: Bearer` and the key. Each has the role `read`, `write` or \
`admin`, and may change the nodes that it covers.";

const KEY_DESCRIPTION: &str = "A key that the operator of the server has made with `onex-registry key new`. The scopes of a \
call name the role that it needs; `write` has what `read` has, and `admin` has both. A server without keys asks for none, \
and one may open `/metrics`, the pages and all that reads to everybody.";

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| {
    let (_, _, mut document) = super::routes().split();
    complete(&mut document);
    document
});

static JSON: LazyLock<String> = LazyLock::new(|| {
    // A document that is made of strings and numbers can be written.
    let mut json = DOCUMENT.to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
});

/// The document, which knows every call.
pub(super) fn document() -> &'static OpenApi {
    &DOCUMENT
}

/// The document as JSON: what `onex-registry openapi` prints and `/openapi.json` answers.
#[must_use]
pub fn document_json() -> &'static str {
    &JSON
}

/// The document without its paths: those come with the routes.
pub(super) fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build();
    let info = InfoBuilder::new()
        .title("onex-registry")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    let tag = |name, description| TagBuilder::new().name(name).description(Some(description)).build();
    // What a stream is made of is no body, and no route brings it along.
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(KEY_DESCRIPTION)).build();
    let components = ComponentsBuilder::new()
        .schema_from::<super::watch::ChangeBody>()
        .security_scheme(auth::SCHEME, SecurityScheme::Http(key))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .tags(Some([
            tag("nodes", "One node, and discovery"),
            tag("fleets", "Many nodes in one request"),
            tag("overview", "What has happened, and what there is"),
            tag("operations", "For whoever runs the server"),
        ]))
        .build()
}

/// The OpenAPI document
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", operation_id = "openapi",
    responses((status = 200, description = "This document", content_type = "application/json", body = Object))
)]
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], document_json())
}

/// The paths of the pages, as the router knows them.
pub(super) const PAGES: [&str; 3] = ["/swagger-ui", "/swagger-ui/", "/swagger-ui/{*rest}"];

/// Swagger UI, at `/swagger-ui/`.
pub(super) fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    // The pages load the document from the server that serves them.
    let pages = SwaggerUi::new("/swagger-ui")
        .config(Config::from("/openapi.json").try_it_out_enabled(true).validator_url("none"));
    Router::from(pages).route_layer(axum::middleware::map_response(as_a_page))
}

/// Tells browsers what they may do. The pages answer 404 without a body for what they don't have.
async fn as_a_page(mut response: axum::response::Response) -> axum::response::Response {
    if response.status() == StatusCode::NOT_FOUND {
        return Problem::unknown_path().into_response();
    }
    page_headers::protect(response.headers_mut());
    response
}

/// Adds what is the same for all calls, so that it can't be forgotten for one.
fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            complete_operation(path, operation);
        }
    }
}

fn complete_operation(path: &str, operation: &mut Operation) {
    let correlation_id = ParameterBuilder::new()
        .name("X-Correlation-ID")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Names the request in the answer and the logs: 1 to 128 visible ASCII characters"))
        .build();
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(correlation_id.into());
    for parameter in parameters {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Header
        {
            let (name, call) = (parameter.name.as_str(), operation.operation_id.as_deref());
            parameter.schema = Some(header_schema(name, call.unwrap_or_default()));
        }
    }

    let mut problems = Vec::new();
    let needs_key = operation.security.as_ref().is_some_and(|needed| !needed.is_empty());
    if needs_key {
        problems.push(("401", "The request has no key, or one that is not valid"));
    }
    if needs_key && operation.operation_id.as_deref().is_some_and(writes) {
        problems.push(("403", "The key does not have the role, or does not cover the node"));
    }
    if operation.request_body.is_some() {
        problems.extend([
            ("400", "The body is not JSON in UTF-8, or the path, the query string or a header is invalid"),
            ("408", "The body came too slowly"),
            ("413", "The body is too large"),
            ("415", "The body is not application/json"),
            ("422", "The body breaks a rule, and all that are broken are named; or the database has a rule that refuses it"),
        ]);
    } else if operation.operation_id.as_deref().is_some_and(writes) {
        problems.push(("422", "The database has a rule that refuses it"));
    }
    if !matches!(path, "/livez" | "/readyz") {
        problems.push((
            "429",
            "The client sends more requests per second than the server is told to take of one",
        ));
    }
    if path.starts_with("/v1/") || path == "/readyz" {
        problems.extend([
            ("500", "Something went wrong in the registry"),
            ("503", "The database is away and was not asked (`unavailable`), or fell silent in the middle (`interrupted`: a write may have taken effect, or may yet), another writer holds the node (`contended`), or this replica does not know the nodes or the revision yet (`unavailable`)"),
            ("504", "The request took too long"),
        ]);
    }
    if path.starts_with("/v1/") && operation.operation_id.as_deref().is_some_and(writes) {
        problems.push(("507", "The database's disk is full"));
    }
    if needs_key {
        // Unless more can be wrong with it, which is said already.
        problems.push(("400", "The header field Authorization is malformed"));
    }
    for (status, description) in problems {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| problem(status, description));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            if reads_memory(operation.operation_id.as_deref())
                && ["200", "304", "404"].contains(&status.as_str())
            {
                let header = HeaderBuilder::new()
                    .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
                    .description(Some("For so many seconds it has not been known whether this is what the database has: it is away. Absent while it is known, and if the database itself has answered"))
                    .build();
                response.headers.insert("Registry-Stale-Seconds".to_owned(), header.into());
            }
            let header = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .description(Some("The correlation id of the request"))
                .build();
            response.headers.insert("X-Correlation-ID".to_owned(), header.into());
        }
    }
}

/// What a header field of a request may be. What may be left out is not thereby `null`.
fn header_schema(name: &str, operation_id: &str) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    match name {
        "If-None-Match" if writes(operation_id) => text.enum_values(Some(["*"])),
        _ => text,
    }
    .into()
}

/// Whether it is answered from memory, as long as nobody wants the database's own answer.
fn reads_memory(operation_id: Option<&str>) -> bool {
    matches!(operation_id, Some("getNode" | "discoverNodes" | "summarize" | "watch"))
}

fn writes(operation_id: &str) -> bool {
    ["register", "deregister", "heartbeat"].iter().any(|verb| operation_id.starts_with(verb))
        || operation_id.ends_with("Maintenance")
}

fn problem(status: &str, description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let mut response = ResponseBuilder::new().description(description).content(MEDIA_TYPE, content);
    if matches!(status, "429" | "503") {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
            .description(Some("Seconds to wait before asking again"))
            .build();
        response = response.header("Retry-After", header);
    }
    if ["401", "403"].contains(&status) {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .description(Some("What to send, or what is missing (RFC 6750, section 3)"))
            .build();
        response = response.header("WWW-Authenticate", header);
    }
    response.into()
}
