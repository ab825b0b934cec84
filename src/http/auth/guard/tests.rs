//! What needs no server: names that certificates prove, and routes that nobody has declared.

use axum::body::Body;
use axum::http::Method;
use axum::routing::get;
use tower::ServiceExt as _;

use super::*;
use crate::http::auth::Authority;
use crate::keys::Fingerprint;

fn guard(public: Public) -> Arc<Guard> {
    let entry = |name: &str, roles: &str| {
        let digest = Fingerprint::of(name.as_bytes()).to_hex();
        format!("[[keys]]\nname = \"{name}-key\"\nsha256 = \"{digest}\"\nroles = [\"{roles}\"]\n")
    };
    let mut content = entry("reader", "read") + &entry("writer", "write") + &entry("admin", "admin");
    content.push_str(&entry("old", "admin"));
    content.push_str("expires = \"2001-01-01T00:00:00Z\"\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let keys = Arc::new(Keys::open(file.path(), Arc::clone(&metrics)).unwrap());
    Arc::new(Guard::new(keys, public, metrics))
}

fn request(token: Option<&str>, certified: Option<&str>) -> Request {
    let mut request = Request::new(Body::empty());
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    if let Some(name) = certified {
        request.extensions_mut().insert(CertifiedName::named(name));
    }
    request
}

/// The name of the key, or the status.
fn who(guard: &Guard, access: Access, token: Option<&str>, certified: Option<&str>) -> String {
    match guard.key_for(access, &request(token, certified)) {
        Ok(Some(key)) => key.name().as_str().to_owned(),
        Ok(None) => "nobody".to_owned(),
        Err(problem) => problem.status().as_u16().to_string(),
    }
}

#[test]
fn a_certified_name_has_the_rights_of_the_key_of_that_name_unless_a_key_is_shown() {
    let guard = guard(Public::default());
    for (access, token, certified, expected) in [
        (Access::Read, None, Some("reader-key"), "reader-key"),
        (Access::Write, None, Some("reader-key"), "403"),
        (Access::Write, None, Some("writer-key"), "writer-key"),
        (Access::Read, None, Some("nobody"), "401"),
        (Access::Read, None, Some("old-key"), "401"),
        // A name is no secret, and a secret no name.
        (Access::Read, Some("reader-key"), None, "401"),
        (Access::Read, None, Some("reader"), "401"),
        // The header field wins, and a bad one is not made good by a certificate.
        (Access::Write, Some("writer"), Some("reader-key"), "writer-key"),
        (Access::Write, Some("reader"), Some("writer-key"), "403"),
        (Access::Read, Some("wrong"), Some("reader-key"), "401"),
        (Access::Read, Some("old"), Some("reader-key"), "401"),
        (Access::Read, Some("a b"), Some("reader-key"), "400"),
        (Access::Read, None, None, "401"),
    ] {
        assert_eq!(who(&guard, access, token, certified), expected, "{access:?} {token:?} {certified:?}");
    }
}

#[test]
fn another_scheme_is_not_made_good_by_a_certificate() {
    let guard = guard(Public::default());
    for shown in ["Basic YTpi", "", "Bearerreader"] {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(header::AUTHORIZATION, shown.parse().unwrap());
        request.extensions_mut().insert(CertifiedName::named("reader-key"));
        let refused = guard.key_for(Access::Read, &request).err().map(|problem| problem.status().as_u16());
        assert_eq!(refused, Some(401), "{shown}");
    }
}

#[test]
fn what_is_public_takes_a_good_key_and_no_bad_one() {
    let guard = guard(Public { metrics: true, ..Public::default() });
    for (access, token, expected) in [
        (Access::Metrics, None, "nobody"),
        (Access::Metrics, Some("reader"), "reader-key"),
        (Access::Metrics, Some("wrong"), "401"),
        (Access::Docs, None, "401"),
        (Access::Read, None, "401"),
        (Access::Write, None, "401"),
    ] {
        assert_eq!(who(&guard, access, token, None), expected, "{access:?} {token:?}");
    }
    let all = Public { metrics: true, docs: true, read: true };
    assert_eq!(who(&self::guard(all), Access::Write, None, None), "401", "writing is never public");
}

#[tokio::test]
async fn a_route_that_nobody_has_declared_is_refused_to_everybody() {
    let mut declared = Declared::default();
    declared.pages(Access::Docs, &["/declared"]);
    let all = guard(Public { metrics: true, docs: true, read: true });
    let anything = || get(|| async { "secret" }).post(|| async { "secret" });
    let router = axum::Router::new()
        .route("/declared", anything())
        .route("/forgotten", anything())
        .layer(GuardLayer::new(Some(Arc::clone(&all)), declared, None));
    let ask = async |method: Method, path: &str, token: Option<&str>| {
        let mut request = request(token, None);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        let authority = Authority::new(Some(&all));
        let context = RequestContext::of(&HeaderMap::new(), authority);
        request.extensions_mut().insert(Arc::new(context));
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    for (method, path, token, expected) in [
        (Method::GET, "/declared", None, 200),
        (Method::GET, "/declared", Some("admin"), 200),
        (Method::POST, "/declared", Some("admin"), 405),
        (Method::GET, "/forgotten", None, 401),
        (Method::GET, "/forgotten", Some("admin"), 403),
        (Method::POST, "/forgotten", Some("admin"), 403),
        (Method::GET, "/nothing", Some("admin"), 404),
    ] {
        assert_eq!(ask(method.clone(), path, token).await, expected, "{method} {path} {token:?}");
    }
}

#[test]
fn nobody_without_a_key_changes_anything_where_there_are_keys() {
    assert!(Authority::new(None).may_change("n"), "without keys everybody may");
    let guard = guard(Public { metrics: true, docs: true, read: true });
    let authority = Authority::new(Some(&guard));
    assert!(!authority.may_change("n"));
    let Ok(Some(writer)) = guard.key_for(Access::Write, &request(Some("writer"), None)) else {
        panic!("it may")
    };
    authority.identify(writer);
    assert!(authority.may_change("n"));
    assert_eq!(authority.actor().as_str(), "writer-key");
}
