//! Conditional requests: a change is lost to nobody, and a reader who has the present answer is told so.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestServer, node};

on_both_stores!(
    the_tag_of_a_record_is_strong_and_begins_with_its_revision,
    a_registration_with_if_match_needs_the_revision,
    a_registration_with_if_match_star_never_creates,
    a_registration_with_if_none_match_star_only_creates,
    a_weak_or_foreign_tag_never_matches,
    a_malformed_condition_is_refused,
    a_deregistration_with_if_match_needs_the_revision,
    a_post_is_conditional_like_a_put,
    a_heartbeat_changes_the_tag_and_breaks_no_condition,
    a_record_that_the_client_has_is_not_sent_again,
    a_page_that_the_client_has_is_not_sent_again,
    the_tag_of_a_page_changes_with_what_is_on_it,
    a_refused_condition_changes_nothing,
);

const EFFECT: &str = r#"{"node_type":"effect"}"#;

fn version(n: u32) -> Value {
    json!({"node_type": "effect", "metadata": {"n": n}})
}

async fn put_if(server: &TestServer, field: (&str, &str), body: impl ToString) -> Answer {
    server.send(Method::PUT, &node("n"), body.to_string(), &[field]).await
}

async fn get_if_none_match(server: &TestServer, path: &str, tag: &str) -> Answer {
    Answer::of(server.request(Method::GET, path).header("if-none-match", tag)).await
}

fn tag(answer: &Answer) -> String {
    answer.header("etag").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

async fn the_tag_of_a_record_is_strong_and_begins_with_its_revision(server: &TestServer) {
    for n in 0..3 {
        let registered = server.put(&node("n"), version(n)).await;
        let revision = registered.json()["revision"].clone();
        assert!(tag(&registered).starts_with(&format!("\"{revision}.")), "{registered:?}");
        assert_eq!(tag(&registered), tag(&server.get(&node("n")).await));
    }
}

async fn a_registration_with_if_match_needs_the_revision(server: &TestServer) {
    let first = tag(&server.put(&node("n"), version(1)).await);
    let second = put_if(server, ("if-match", &first), version(2)).await;
    assert_eq!(second.status, 200);
    let too_late = put_if(server, ("if-match", &first), version(3)).await;
    too_late.problem(412, "precondition-failed");
    let present = server.get(&node("n")).await;
    assert_eq!((tag(&present), &present.json()["metadata"]), (tag(&second), &json!({"n": 2})));

    // Any of a list will do, in one field or in several, with a comma inside of a tag.
    let any_of = format!("\"foreign,tag\", {first} ,{}", tag(&second));
    assert_eq!(put_if(server, ("if-match", &any_of), version(4)).await.status, 200);
    let fourth = tag(&server.get(&node("n")).await);
    let fields = [("if-match", first.as_str()), ("if-match", fourth.as_str())];
    assert_eq!(server.send(Method::PUT, &node("n"), version(5).to_string(), &fields).await.status, 200);
}

async fn a_registration_with_if_match_star_never_creates(server: &TestServer) {
    put_if(server, ("if-match", "*"), EFFECT).await.problem(412, "precondition-failed");
    put_if(server, ("if-match", "\"1.0\""), EFFECT).await.problem(412, "precondition-failed");
    server.get(&node("n")).await.problem(404, "node-not-found");
    server.register("n", EFFECT).await;
    assert_eq!(put_if(server, ("if-match", "*"), version(1)).await.status, 200);
}

async fn a_registration_with_if_none_match_star_only_creates(server: &TestServer) {
    let created = put_if(server, ("if-none-match", "*"), version(1)).await;
    assert_eq!(created.status, 201);
    for body in [version(2), version(1)] {
        put_if(server, ("if-none-match", "*"), body).await.problem(412, "precondition-failed");
    }
    assert_eq!(server.get(&node("n")).await.text, created.text);
    server.delete(&node("n")).await;
    assert_eq!(put_if(server, ("if-none-match", "*"), version(3)).await.status, 201);
}

async fn a_weak_or_foreign_tag_never_matches(server: &TestServer) {
    let registered = server.put(&node("n"), version(1)).await;
    let revision = &registered.json()["revision"];
    let present = tag(&registered);
    let unquoted = present.trim_matches('"').to_owned();
    for never in [
        format!("W/{present}"),
        "\"\"".to_owned(),
        "\"foreign\"".to_owned(),
        format!("\"{revision}\""),
        format!("\"+{unquoted}\""),
        format!("\" {unquoted}\""),
        format!("\"0{}.x\"", i64::MAX),
        "\"99999999999999999999.x\"".to_owned(),
        "\".x\"".to_owned(),
    ] {
        put_if(server, ("if-match", &never), version(2)).await.problem(412, "precondition-failed");
        let delete = server.send(Method::DELETE, &node("n"), "", &[("if-match", &never)]).await;
        delete.problem(412, "precondition-failed");
    }
    assert_eq!(put_if(server, ("if-match", &format!("\"{revision}.other\"")), version(2)).await.status, 200);
}

async fn a_malformed_condition_is_refused(server: &TestServer) {
    server.register("n", version(1)).await;
    let before = server.everything().await;
    for malformed in
        ["", "1.x", "\"1.x", "1.x\"", "\"1.a\" \"2.b\"", "*, \"1.a\"", "w/\"1.a\"", "**", "'1.a'"]
    {
        let put = put_if(server, ("if-match", malformed), version(2)).await;
        assert_eq!(put.problem(400, "invalid-request"), ["If-Match:"], "{malformed}");
        let delete = server.send(Method::DELETE, &node("n"), "", &[("if-match", malformed)]).await;
        assert_eq!(delete.problem(400, "invalid-request"), ["If-Match:"], "{malformed}");
    }
    for malformed in ["\"1.a\"", "W/\"1.a\"", "x", "", "*, *x"] {
        let put = put_if(server, ("if-none-match", malformed), version(2)).await;
        assert_eq!(put.problem(400, "invalid-request"), ["If-None-Match:"], "{malformed}");
    }
    let both = [("if-match", "*"), ("if-none-match", "*")];
    let put = server.send(Method::PUT, &node("n"), version(2).to_string(), &both).await;
    assert_eq!(put.problem(400, "invalid-request"), ["If-None-Match:"]);
    let delete = server.send(Method::DELETE, &node("n"), "", &[("if-none-match", "*")]).await;
    assert_eq!(delete.problem(400, "invalid-request"), ["If-None-Match:"]);
    assert_eq!(server.everything().await, before);
}

async fn a_deregistration_with_if_match_needs_the_revision(server: &TestServer) {
    let first = tag(&server.put(&node("n"), version(1)).await);
    let second = tag(&server.put(&node("n"), version(2)).await);
    let delete = async |tag: &str| server.send(Method::DELETE, &node("n"), "", &[("if-match", tag)]).await;
    delete(&first).await.problem(412, "precondition-failed");
    assert_eq!(server.get(&node("n")).await.status, 200);
    assert_eq!(delete(&second).await.status, 204);
    for gone in [second.as_str(), "*", "\"0.x\""] {
        delete(gone).await.problem(412, "precondition-failed");
    }
    server.delete(&node("n")).await.problem(404, "node-not-found");
    // Who registers anew is another registration.
    server.register("n", version(2)).await;
    delete(&second).await.problem(412, "precondition-failed");
    assert_eq!(delete("*").await.status, 204);
}

async fn a_post_is_conditional_like_a_put(server: &TestServer) {
    let body = |n: u32| json!({"node_id": "n", "node_type": "effect", "metadata": {"n": n}}).to_string();
    let post =
        async |field: (&str, &str), n: u32| server.send(Method::POST, "/v1/nodes", body(n), &[field]).await;
    post(("if-match", "*"), 1).await.problem(412, "precondition-failed");
    let created = post(("if-none-match", "*"), 1).await;
    assert_eq!(created.status, 201);
    post(("if-none-match", "*"), 2).await.problem(412, "precondition-failed");
    assert_eq!(post(("if-match", &tag(&created)), 3).await.status, 200);
    post(("if-match", &tag(&created)), 4).await.problem(412, "precondition-failed");
    assert_eq!(server.get(&node("n")).await.json()["metadata"], json!({"n": 3}));
}

async fn a_heartbeat_changes_the_tag_and_breaks_no_condition(server: &TestServer) {
    let before = tag(&server.put(&node("n"), version(1)).await);
    let alive = server.put(&format!("{}?alive=true", node("n")), version(1)).await;
    assert_ne!(tag(&alive), before, "the record shows the heartbeat");
    assert_eq!(get_if_none_match(server, &node("n"), &before).await.status, 200);
    let unchanged = put_if(server, ("if-match", &before), version(1)).await;
    assert_eq!(unchanged.status, 200, "and the registration is the same");
    assert_eq!(put_if(server, ("if-match", &before), version(2)).await.status, 200);
    put_if(server, ("if-match", &before), version(3)).await.problem(412, "precondition-failed");
}

async fn a_record_that_the_client_has_is_not_sent_again(server: &TestServer) {
    let registered = server.put(&node("n"), version(1)).await;
    let present = tag(&registered);
    for matching in [present.clone(), format!("W/{present}"), format!("\"x\", {present}"), "*".to_owned()] {
        let answer = get_if_none_match(server, &node("n"), &matching).await;
        assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{matching}");
        assert_eq!(answer.header("etag"), Some(present.as_str()));
        assert_eq!(
            answer.header("registry-revision"),
            server.get(&node("n")).await.header("registry-revision")
        );
        assert_eq!(answer.header("content-type"), None);
    }
    for other in ["\"x\"", "nonsense", "", &format!("{present}x")] {
        let answer = get_if_none_match(server, &node("n"), other).await;
        assert_eq!((answer.status, &answer.text), (200, &registered.text), "{other}");
    }
    let head = Answer::of(server.request(Method::HEAD, &node("n")).header("if-none-match", &present)).await;
    assert_eq!(head.status, 304);
    server.register("n", version(2)).await;
    assert_eq!(get_if_none_match(server, &node("n"), &present).await.status, 200);
    server.delete(&node("n")).await;
    get_if_none_match(server, &node("n"), "*").await.problem(404, "node-not-found");
}

async fn a_page_that_the_client_has_is_not_sent_again(server: &TestServer) {
    server.register("n", version(1)).await;
    for path in ["/v1/nodes", "/v1/nodes?node_type=effect&limit=1", "/v1/nodes?node_type=nothing"] {
        let page = server.get(path).await;
        let present = tag(&page);
        assert!(present.starts_with("W/\""), "{present}");
        let strong = present.trim_start_matches("W/").to_owned();
        for matching in [present.clone(), strong, "*".to_owned()] {
            let answer = get_if_none_match(server, path, &matching).await;
            assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{path} {matching}");
            assert_eq!(answer.header("etag"), Some(present.as_str()));
            assert!(answer.header("registry-revision").is_some());
        }
        assert_eq!(get_if_none_match(server, path, "W/\"0\"").await.text, page.text);
    }
}

async fn the_tag_of_a_page_changes_with_what_is_on_it(server: &TestServer) {
    let mut tags: Vec<String> = Vec::new();
    let mut note = async |what: &str| {
        let now = tag(&server.get("/v1/nodes?limit=2").await);
        assert!(!tags.contains(&now), "{what} changes the page");
        tags.push(now);
    };
    note("nothing").await;
    server.register("b", version(1)).await;
    note("a new node").await;
    server.register("b", version(2)).await;
    note("a new revision").await;
    server.put(&format!("{}?alive=true", node("b")), version(2)).await;
    note("a new status").await;
    server.register("a", version(1)).await;
    note("a node before").await;
    server.register("c", version(1)).await;
    note("a node behind, and so another page").await;

    let before = tag(&server.get("/v1/nodes?limit=2").await);
    server.put(&format!("{}?alive=true", node("b")), version(2)).await;
    server.register("a", version(1)).await;
    assert_eq!(tag(&server.get("/v1/nodes?limit=2").await), before, "signs of life alone change no page");
    server.delete(&node("a")).await;
    assert_ne!(tag(&server.get("/v1/nodes?limit=2").await), before);
}

async fn a_refused_condition_changes_nothing(server: &TestServer) {
    server.register("n", version(1)).await;
    let before = server.everything().await;
    for query in ["", "?alive=true"] {
        for field in [("if-match", "\"0.x\""), ("if-none-match", "*")] {
            let path = format!("{}{query}", node("n"));
            let answer = server.send(Method::PUT, &path, version(2).to_string(), &[field]).await;
            answer.problem(412, "precondition-failed");
        }
    }
    assert_eq!(server.everything().await, before, "neither the registration nor its heartbeat");
}
