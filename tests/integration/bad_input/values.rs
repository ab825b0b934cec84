//! Values of a registration: what is refused, and what must come back as it is.

use serde_json::json;

use super::each_is_refused;
use crate::harness::{TestServer, node};

on_both_stores!(
    json_may_have_32_levels_and_no_more,
    what_jsonb_cannot_hold_is_refused,
    numbers_are_exact_and_bounded,
    the_private_keys_of_the_json_library_are_keys_like_any_other,
    the_last_of_duplicate_keys_wins,
    a_column_may_have_64_kib_and_no_more,
    a_type_is_one_of_the_four,
    a_version_is_semantic,
    a_health_endpoint_is_an_http_url_without_user_info,
    a_ttl_is_a_whole_number_of_seconds_up_to_a_day,
    endpoints_are_strings,
);

/// A registration with a field as JSON text.
fn with(field: &str, json: &str) -> String {
    format!(r#"{{"node_type":"effect","{field}":{json}}}"#)
}

/// Each of these values of the field is refused, and the field is the place.
async fn values_are_refused(server: &TestServer, field: &str, values: &[&str]) {
    let place = format!("/{field}");
    let places = [place.as_str()];
    let bodies: Vec<String> = values.iter().map(|value| with(field, value)).collect();
    let cases: Vec<(&str, &[&str])> = bodies.iter().map(|body| (body.as_str(), &places[..])).collect();
    each_is_refused(server, &cases).await;
}

/// The column of a fresh node that registers with this value in it, as it stands in the text of the answers.
async fn kept(server: &TestServer, field: &str, json: &str, expected: &str) {
    let registered = server.put(&node("kept"), with(field, json)).await;
    assert!(registered.status < 300, "{json}: {}", registered.text);
    let shown = format!(r#""{field}":{expected},"#);
    for answer in [registered, server.get(&node("kept")).await, server.get("/v1/nodes?node_id=kept").await] {
        assert!(answer.text.contains(&shown), "{json}: {}", answer.text);
    }
}

async fn json_may_have_32_levels_and_no_more(server: &TestServer) {
    let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let arrays = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    for field in ["capabilities", "metadata"] {
        let place = format!("/{field}{}", "/a".repeat(32));
        let in_array = format!("/{field}/a{}", "/0".repeat(31));
        let cases = [
            (with(field, &objects(33)), &place),
            (with(field, &objects(40)), &place),
            (with(field, &arrays(33)), &in_array),
            (with(field, &arrays(100_000)), &in_array),
        ];
        for (body, place) in &cases {
            each_is_refused(server, &[(body, &[place])]).await;
        }
        kept(server, field, &objects(32), &objects(32)).await;
        kept(server, field, &arrays(32), &arrays(32)).await;
    }
}

async fn what_jsonb_cannot_hold_is_refused(server: &TestServer) {
    let mut cases: Vec<(String, String)> = Vec::new();
    for field in ["capabilities", "endpoints", "metadata"] {
        for bad in [r"\u0000", r"\ud800", r"\udc00", r"\ud800\ud800", r"\udc00\ud800", r"\ud83ex"] {
            cases.push((with(field, &format!(r#"{{"a":"x{bad}y"}}"#)), format!("/{field}/a")));
            cases.push((with(field, &format!(r#"{{"x{bad}y":"a"}}"#)), format!("/{field}")));
        }
    }
    for bad in [r#""\u0000""#, r#""effect\u0000""#, r#""\ud800""#] {
        cases.push((format!(r#"{{"node_type":{bad}}}"#), "/node_type".to_owned()));
    }
    for field in ["node_version", "health_endpoint", "ttl_seconds"] {
        for bad in [r#""\u0000""#, r#""\ud800""#] {
            let answer = server.put(super::VICTIM, with(field, bad)).await;
            assert_eq!(answer.problem(422, "validation"), [format!("/{field}")], "{bad}");
        }
    }
    let places: Vec<[&str; 1]> = cases.iter().map(|(_, place)| [place.as_str()]).collect();
    let cases: Vec<(&str, &[&str])> =
        cases.iter().zip(&places).map(|((body, _), places)| (body.as_str(), &places[..])).collect();
    each_is_refused(server, &cases).await;
    kept(
        server,
        "metadata",
        r#"{"a":"\ud83e\udd80\u001f\u007f\uffff"}"#,
        "{\"a\":\"🦀\\u001f\u{7f}\u{ffff}\"}",
    )
    .await;
}

async fn numbers_are_exact_and_bounded(server: &TestServer) {
    for number in
        ["1e400", "-1e399", "1e131071", "1e-399", "9e99999999999999999999", "1e-99999999999999999999"]
    {
        let body = with("metadata", &format!(r#"{{"n":{number}}}"#));
        each_is_refused(server, &[(&body, &["/metadata/n"])]).await;
    }
    let longest = "9".repeat(400);
    for (number, expected) in [
        ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
        ("1.10", "1.10"),
        ("0.1", "0.1"),
        ("-0", "0"),
        ("1E+2", "100"),
        ("1.5e-3", "0.0015"),
        ("9007199254740993", "9007199254740993"),
        ("0.30000000000000004440892098500626", "0.30000000000000004440892098500626"),
        (longest.as_str(), longest.as_str()),
    ] {
        kept(server, "metadata", &format!(r#"{{"n":{number}}}"#), &format!(r#"{{"n":{expected}}}"#)).await;
    }
}

async fn the_private_keys_of_the_json_library_are_keys_like_any_other(server: &TestServer) {
    for key in ["$serde_json::private::Number", "$serde_json::private::RawValue"] {
        for object in [
            format!(r#"{{"{key}":"1"}}"#),
            format!(r#"{{"{key}":"no number"}}"#),
            format!(r#"{{"a":[{{"{key}":"1"}}]}}"#),
        ] {
            for field in ["capabilities", "endpoints", "metadata"] {
                if field != "endpoints" || !object.contains('[') {
                    kept(server, field, &object, &object).await;
                }
            }
        }
        let place = format!("/{key}");
        let body = format!(r#"{{"{key}":"{{\"node_type\":\"effect\"}}"}}"#);
        each_is_refused(server, &[(&body, &[&place, "/node_type"])]).await;
    }
}

async fn the_last_of_duplicate_keys_wins(server: &TestServer) {
    kept(server, "metadata", r#"{"a":1,"b":{"c":1,"c":2},"a":3}"#, r#"{"a":3,"b":{"c":2}}"#).await;
    kept(server, "capabilities", r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#).await;

    let body =
        r#"{"node_type":"planet","metadata":[],"node_type":"reducer","metadata":{"n":1},"metadata":{"n":2}}"#;
    let record = server.register("duplicates", body).await;
    assert_eq!((&record["node_type"], &record["metadata"]), (&json!("reducer"), &json!({"n": 2})));
    each_is_refused(server, &[(r#"{"node_type":"effect","node_type":"planet"}"#, &["/node_type"])]).await;

    let posted =
        server.post("/v1/nodes", r#"{"node_id":"first","node_type":"effect","node_id":"second"}"#).await;
    assert_eq!((posted.status, &posted.json()["node_id"]), (201, &json!("second")));
}

async fn a_column_may_have_64_kib_and_no_more(server: &TestServer) {
    const LIMIT: usize = 64 * 1024;
    // In bytes, not characters; blanks and escapes don't count.
    let sized = |bytes: usize| format!(r#"{{"a":"é{}"}}"#, "x".repeat(bytes - 10));
    let written_wide = format!(r#"{{ "a" : "\u00e9{}" }}"#, r"\u0078".repeat(LIMIT - 10));
    for field in ["capabilities", "endpoints", "metadata"] {
        let place = format!("/{field}");
        each_is_refused(server, &[(&with(field, &sized(LIMIT + 1)), &[&place])]).await;
        kept(server, field, &sized(LIMIT), &sized(LIMIT)).await;
    }
    kept(server, "metadata", &written_wide, &sized(LIMIT)).await;
    let all = sized(LIMIT);
    let body = format!(r#"{{"node_type":"effect","capabilities":{all},"endpoints":{all},"metadata":{all}}}"#);
    server.register("all", body).await;
}

async fn a_type_is_one_of_the_four(server: &TestServer) {
    let bodies: Vec<String> =
        [r#""planet""#, r#""EFFECT""#, r#""effect ""#, r#""""#, "1", "true", r#"["effect"]"#, "{}"]
            .iter()
            .map(|value| format!(r#"{{"node_type":{value}}}"#))
            .collect();
    let cases: Vec<(&str, &[&str])> =
        bodies.iter().map(|body| (body.as_str(), &["/node_type"][..])).collect();
    each_is_refused(server, &cases).await;
    for node_type in ["effect", "compute", "reducer", "orchestrator"] {
        let record = server.register(node_type, json!({"node_type": node_type})).await;
        assert_eq!(record["node_type"], node_type);
    }
}

async fn a_version_is_semantic(server: &TestServer) {
    let too_long = format!(r#""1.0.0-{}""#, "a".repeat(45));
    let bad = [
        r#""1.0""#,
        r#""01.0.0""#,
        r#""v1.0.0""#,
        r#""1.0.0-""#,
        r#""1.0.0-01""#,
        r#""1.0.0 ""#,
        r#""latest""#,
        r#""""#,
        r#""1.0.0+é""#,
        r#""1.-1.0""#,
        "1.0",
        "1",
        "[]",
        &too_long,
    ];
    values_are_refused(server, "node_version", &bad).await;
    let longest = format!("1.0.0-{}", "a".repeat(44));
    for version in ["0.0.0", "1.2.3-rc.1+build.05", "10.20.30-0a", &longest] {
        kept(server, "node_version", &format!("\"{version}\""), &format!("\"{version}\"")).await;
    }
}

async fn a_health_endpoint_is_an_http_url_without_user_info(server: &TestServer) {
    let too_long = format!(r#""http://h/{}""#, "x".repeat(504));
    let bad = [
        r#""ftp://h/""#,
        r#""/health""#,
        r#""h:80/health""#,
        r#""http:""#,
        r#""http:///p""#,
        r#""javascript:alert(1)""#,
        r#""http://h/a b""#,
        r#"" http://h/""#,
        r#""http://h:99999/""#,
        r#""http://h\\p""#,
        r#""http://h/\n""#,
        r#""""#,
        r#""http://user:hunter2@h/""#,
        r#""https://hunter2@h/""#,
        r#""file:///etc/passwd""#,
        "80",
        "{}",
        &too_long,
    ];
    values_are_refused(server, "health_endpoint", &bad).await;
    let answer = server.put(super::VICTIM, with("health_endpoint", r#""http://user:hunter2@h/""#)).await;
    assert!(!answer.text.contains("hunter2") && !answer.text.contains("user:"), "{}", answer.text);

    let longest = format!("http://h/{}", "x".repeat(503));
    for url in ["http://127.0.0.1:8080/health", "HTTPS://[::1]/h?a=b@c#d", &longest] {
        kept(server, "health_endpoint", &format!("\"{url}\""), &format!("\"{url}\"")).await;
    }
}

async fn a_ttl_is_a_whole_number_of_seconds_up_to_a_day(server: &TestServer) {
    let bad = [
        "0",
        "-0",
        "-1",
        "86401",
        "86400.5",
        "1.5",
        "15e-1",
        r#""60""#,
        "true",
        "false",
        "[]",
        "[60]",
        "{}",
        "1e300",
        "1e400",
        "0.1e1000",
        "2147483648",
        "4294967356",
        "18446744073709551617",
    ];
    values_are_refused(server, "ttl_seconds", &bad).await;
    for (given, shown) in [
        ("1", "1"),
        ("86400", "86400"),
        ("1e1", "10"),
        ("60.0", "60"),
        ("8640000e-2", "86400"),
        ("null", "null"),
    ] {
        kept(server, "ttl_seconds", given, shown).await;
    }
}

async fn endpoints_are_strings(server: &TestServer) {
    let bodies: Vec<String> = ["50051", "null", "true", r#"["h:1"]"#, r#"{"host":"h"}"#]
        .iter()
        .map(|value| with("endpoints", &format!(r#"{{"ok":"h:1","grpc":{value}}}"#)))
        .collect();
    let cases: Vec<(&str, &[&str])> =
        bodies.iter().map(|body| (body.as_str(), &["/endpoints/grpc"][..])).collect();
    each_is_refused(server, &cases).await;
    values_are_refused(server, "endpoints", &["[]", r#""http://h""#, "1"]).await;
    kept(server, "endpoints", r#"{"grpc":"localhost:50051","":""}"#, r#"{"":"","grpc":"localhost:50051"}"#)
        .await;
}
