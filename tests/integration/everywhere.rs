//! What holds for every call: problems, correlation ids, compression, CORS, the pages for people.

use reqwest::{Method, header};
use serde_json::json;
use sqlx::Connection as _;

use crate::harness::{Answer, Backend, TestServer, node, sql};

on_both_stores!(
    an_unknown_path_is_a_problem,
    the_pages_for_people_explain_what_they_do_not_have,
    every_answer_has_the_correlation_id_of_its_request,
    only_a_sane_correlation_id_is_taken,
    a_large_answer_is_compressed_for_who_asks_unless_its_tag_is_strong,
    without_configuration_no_other_origin_may_call,
    the_server_says_that_it_lives_and_is_ready,
    the_swagger_ui_loads_with_all_its_assets,
    an_answer_is_not_kept_without_asking_again,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;

/// Header fields of a request.
type Fields = &'static [(&'static str, &'static str)];

async fn an_unknown_path_is_a_problem(server: &TestServer) {
    for path in [
        "/v1",
        "/v1/",
        "/v1/node",
        "/V1/nodes",
        "/v1/nodes/a/b",
        "/v1/batch",
        "/v1/batch/",
        "/v2/nodes",
        "/nothing",
        "/livez/",
        "/openapi.yaml",
        "/.env",
        "/%2e%2e/etc/passwd",
        "/%00",
        "/%FF",
    ] {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS] {
            let answer = Answer::of(server.request(method.clone(), path)).await;
            assert!(answer.problem(404, "unknown-path").is_empty(), "{method} {path}");
        }
    }
}

async fn the_pages_for_people_explain_what_they_do_not_have(server: &TestServer) {
    for path in ["/swagger-ui/nothing.js", "/swagger-ui/../openapi.json", "/swagger-ui/a/b"] {
        server.raw(&format!("GET {path}"), &[], b"").await.problem(404, "unknown-path");
    }
    let posted = server.post("/swagger-ui/", EFFECT).await;
    posted.problem(405, "method-not-allowed");
    assert_eq!(posted.header("allow"), Some("GET,HEAD"));
}

async fn every_answer_has_the_correlation_id_of_its_request(server: &TestServer) {
    server.register("n", EFFECT).await;
    let large = " ".repeat(2 * 1024 * 1024 + 1);
    let cases: [(Method, &str, &str, Fields, u16); 18] = [
        (Method::PUT, "/v1/nodes/n", EFFECT, &[], 200),
        (Method::PUT, "/v1/nodes/m", EFFECT, &[], 201),
        (Method::GET, "/v1/nodes/n", "", &[], 200),
        (Method::HEAD, "/v1/nodes/n", "", &[], 200),
        (Method::GET, "/v1/nodes/n", "", &[("if-none-match", "*")], 304),
        (Method::GET, "/v1/nodes", "", &[], 200),
        (Method::GET, "/v1/nodes?colour=red", "", &[], 400),
        (Method::PUT, "/v1/nodes/n", "{", &[], 400),
        (Method::GET, "/v1/nodes/nobody", "", &[], 404),
        (Method::GET, "/nothing", "", &[], 404),
        (Method::PATCH, "/v1/nodes", "", &[], 405),
        (Method::OPTIONS, "/v1/nodes", "", &[], 405),
        (Method::PUT, "/v1/nodes/n", EFFECT, &[("if-match", "\"0.x\"")], 412),
        (Method::PUT, "/v1/nodes/n", &large, &[], 413),
        (Method::PUT, "/v1/nodes/n", EFFECT, &[("content-encoding", "gzip")], 415),
        (Method::PUT, "/v1/nodes/n", "{}", &[], 422),
        (Method::DELETE, "/v1/nodes/m", "", &[], 204),
        (Method::GET, "/livez", "", &[], 200),
    ];
    for (index, (method, path, body, headers, status)) in cases.into_iter().enumerate() {
        let id = format!("order-{index}/a;b=\"c\"");
        let headers = [headers, &[("x-correlation-id", id.as_str())]].concat();
        let answer = server.send(method.clone(), path, body.to_owned(), &headers).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.header("x-correlation-id"), Some(id.as_str()), "{method} {path}");
        assert_eq!(answer.headers.get_all("x-correlation-id").iter().count(), 1);
        if status >= 400 {
            assert_eq!(answer.json()["correlation_id"], id);
        }
    }
    let batch = server
        .send(Method::POST, "/v1/batch/nodes", r#"{"nodes":[1]}"#, &[("x-correlation-id", "b-1")])
        .await;
    assert_eq!(batch.json()["results"][0]["problem"]["correlation_id"], "b-1");
}

async fn only_a_sane_correlation_id_is_taken(server: &TestServer) {
    let get = async |id: &[u8]| {
        let request = server.request(Method::GET, "/v1/nodes/nobody");
        let value = header::HeaderValue::from_bytes(id).unwrap();
        let answer = Answer::of(request.header("x-correlation-id", value)).await;
        answer.problem(404, "node-not-found");
        answer.header("x-correlation-id").unwrap().to_owned()
    };
    let longest = "x".repeat(128);
    for sane in ["a", "0", "!~", &longest] {
        assert_eq!(get(sane.as_bytes()).await, sane);
    }
    let mut made = Vec::new();
    let too_long = "x".repeat(129);
    for insane in
        [&b""[..], b"a b", b"a\tb", b"\xC3\xA9", b"\xFF", "\u{202E}".as_bytes(), too_long.as_bytes()]
    {
        made.push(get(insane).await);
    }
    made.push(server.get("/livez").await.header("x-correlation-id").unwrap().to_owned());
    for id in &made {
        assert!(id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{id}");
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 8, "each is made for its request");
}

async fn a_large_answer_is_compressed_for_who_asks_unless_its_tag_is_strong(server: &TestServer) {
    let large = json!({"node_type": "effect", "metadata": {"x": "y".repeat(20_000)}});
    server.register("n", &large).await;
    let fetch = async |path: &str, accept: Option<&str>| {
        let mut request = server.request(Method::GET, path);
        if let Some(accept) = accept {
            request = request.header("accept-encoding", accept);
        }
        let response = request.send().await.unwrap();
        let encoding =
            response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
        let vary = response.headers().get("vary").map(|value| value.to_str().unwrap().to_owned());
        (encoding, vary, response.bytes().await.unwrap())
    };
    for path in ["/v1/nodes", "/openapi.json"] {
        let (encoding, _, plain) = fetch(path, None).await;
        assert_eq!(encoding, None, "{path}");
        let (encoding, vary, packed) = fetch(path, Some("br, gzip;q=0.9")).await;
        assert_eq!(encoding.as_deref(), Some("gzip"), "{path}");
        assert!(vary.unwrap().eq_ignore_ascii_case("accept-encoding"), "{path}");
        assert!(
            packed.starts_with(&[0x1F, 0x8B]) && packed.len() < plain.len() / 2,
            "{path}: {}",
            packed.len()
        );
        assert_eq!(fetch(path, Some("gzip;q=0")).await.0, None, "{path}");
    }
    // A strong tag names the bytes of one representation (RFC 9110, section 8.8.1).
    let (encoding, _, record) = fetch(&node("n"), Some("gzip")).await;
    assert_eq!(encoding, None);
    assert!(record.len() > 20_000);
    assert_eq!(fetch("/livez", Some("gzip")).await.0, None, "a small answer is not worth it");
}

async fn without_configuration_no_other_origin_may_call(server: &TestServer) {
    let origin = ("origin", "https://a.example");
    let get = server.send(Method::GET, "/v1/nodes", "", &[origin]).await;
    let preflight = [origin, ("access-control-request-method", "PUT")];
    let options = server.send(Method::OPTIONS, "/v1/nodes/n", "", &preflight).await;
    options.problem(405, "method-not-allowed");
    for answer in [get, options] {
        let fields: Vec<&str> = answer.headers.keys().map(header::HeaderName::as_str).collect();
        assert!(!fields.iter().any(|name| name.starts_with("access-control-")), "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_configured_may_call_and_no_other() {
    let server =
        TestServer::start_with(Backend::Sqlite, &["--cors-origins=https://a.example,http://b:8080"]).await;
    for origin in ["https://a.example", "http://b:8080"] {
        let get = server.send(Method::GET, "/v1/nodes", "", &[("origin", origin)]).await;
        assert_eq!((get.status, get.header("access-control-allow-origin")), (200, Some(origin)));
        let exposed = get.header("access-control-expose-headers").unwrap().to_lowercase();
        for name in ["etag", "location", "retry-after", "registry-revision", "x-correlation-id"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        let missing = server.send(Method::GET, "/v1/nodes/nobody", "", &[("origin", origin)]).await;
        missing.problem(404, "node-not-found");
        assert_eq!(missing.header("access-control-allow-origin"), Some(origin), "errors can be read as well");

        let asked = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "content-type,if-match"),
        ];
        let preflight = server.send(Method::OPTIONS, "/v1/nodes/n", "", &asked).await;
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (200, Some(origin)));
        for method in ["GET", "PUT", "POST", "DELETE"] {
            assert!(preflight.header("access-control-allow-methods").unwrap().contains(method));
        }
        let allowed = preflight.header("access-control-allow-headers").unwrap();
        for name in [
            "content-type",
            "if-match",
            "if-none-match",
            "x-correlation-id",
            "authorization",
            "last-event-id",
        ] {
            assert!(allowed.contains(name), "{allowed}");
        }
    }
    for origin in ["https://evil.example", "http://a.example", "https://a.example.evil", "null"] {
        let get = server.send(Method::GET, "/v1/nodes", "", &[("origin", origin)]).await;
        assert_eq!((get.status, get.header("access-control-allow-origin")), (200, None), "{origin}");
    }
    server.stop().await;

    let server = TestServer::start_with(Backend::Sqlite, &["--cors-origins=*"]).await;
    let get = server.send(Method::GET, "/v1/nodes", "", &[("origin", "https://any.example")]).await;
    assert_eq!(get.header("access-control-allow-origin"), Some("*"));
    assert_eq!(get.header("access-control-allow-credentials"), None);
    server.stop().await;
}

async fn the_server_says_that_it_lives_and_is_ready(server: &TestServer) {
    let alive = server.get("/livez").await;
    assert_eq!((alive.status, alive.json()), (200, json!({"status": "ok"})));
    sql::eventually("it looks after the fleet", async || {
        server.get("/readyz").await.json()["leader"] == true
    })
    .await;
    let ready = server.get("/readyz").await;
    let preservation = json!({
        "active": false, "since": null, "taking_part": 0, "healthy": 0, "were_healthy": 0, "turned_stale": 0
    });
    let expected = json!({
        "status": "ok", "problems": [], "breaker": "closed", "stale_seconds": null, "leader": true,
        "catalog": "loaded", "revision": 0, "self_preservation": preservation
    });
    assert_eq!((ready.status, ready.json()), (200, expected));
}

async fn the_swagger_ui_loads_with_all_its_assets(server: &TestServer) {
    let page = server.get("/swagger-ui").await;
    assert_eq!(page.status, 200, "the client was sent to the page");
    let page = server.get("/swagger-ui/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let mut assets: Vec<&str> = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        assets.extend(page.text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()));
    }
    assert!(assets.len() >= 4, "{assets:?}");
    for asset in assets {
        assert!(!asset.contains("//"), "nothing comes from elsewhere: {asset}");
        let loaded = server.get(&format!("/swagger-ui/{}", asset.trim_start_matches("./"))).await;
        assert_eq!(loaded.status, 200, "{asset}");
        let media_type = loaded.header("content-type").unwrap();
        let expected = match asset.rsplit('.').next() {
            Some("js") => "javascript",
            Some("css") => "text/css",
            _ => "image/png",
        };
        assert!(media_type.contains(expected), "{asset}: {media_type}");
        assert!(!loaded.text.is_empty() && loaded.header("x-correlation-id").is_some());
    }
    let initializer = server.get("/swagger-ui/swagger-initializer.js").await;
    assert!(initializer.text.contains("/openapi.json"), "{}", initializer.text);
}

async fn an_answer_is_not_kept_without_asking_again(server: &TestServer) {
    server.register("n", EFFECT).await;
    for path in ["/v1/nodes", "/v1/nodes/n", "/metrics", "/openapi.json"] {
        assert_eq!(server.get(path).await.header("cache-control"), Some("no-cache"), "{path}");
    }
}

/// What no client may read: SQL, names of the database's things, source files, libraries.
fn tells_nothing(answer: &Answer) {
    let text = answer.text.to_lowercase();
    for secret in [
        "select",
        "insert",
        "node_registrations",
        "relation \"",
        "sqlx",
        "sqlite",
        "postgres",
        ".rs",
        "panic",
        "hunter2",
    ] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_is_a_problem_without_a_word_of_it() {
    let server = TestServer::start(Backend::Postgres).await;
    server.register("n", EFFECT).await;
    let mut other = server.database.as_ref().unwrap().connect().await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'hunter2' USING ERRCODE = 'check_violation'; END $$";
    let on_write = "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON node_registrations
        FOR EACH ROW EXECUTE FUNCTION refuse()";
    for statement in [refuse, on_write] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    let refused = server.put(&node("n"), r#"{"node_type":"compute"}"#).await;
    refused.problem(422, "refused");
    tells_nothing(&refused);

    sqlx::query("ALTER TABLE node_registrations RENAME TO elsewhere").execute(&mut other).await.unwrap();
    for answer in [
        server.put(&node("m"), EFFECT).await,
        server.delete(&node("n")).await,
        server.get("/v1/nodes?consistency=strong").await,
        server.get("/v1/nodes/n?consistency=strong").await,
    ] {
        answer.problem(500, "internal");
        tells_nothing(&answer);
    }
    sqlx::query("ALTER TABLE elsewhere RENAME TO node_registrations").execute(&mut other).await.unwrap();
    assert_eq!(server.ids("").await, ["n"], "and goes on when the database does");
    other.close().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_takes_too_long_is_given_up() {
    let server = TestServer::start_with(Backend::Postgres, &["--request-timeout=200ms"]).await;
    server.register("n", EFFECT).await;
    let mut other = server.database.as_ref().unwrap().connect().await;
    let mut holding = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE node_registrations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holding)
        .await
        .unwrap();
    let late = server.get("/v1/nodes?consistency=strong").await;
    late.problem(504, "timeout");
    tells_nothing(&late);
    holding.rollback().await.unwrap();
    assert_eq!(server.ids("consistency=strong").await, ["n"]);
    other.close().await.unwrap();
    server.stop().await;
}
