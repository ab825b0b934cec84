//! Query strings that break a rule.

use serde_json::json;

use super::{VICTIM, register_victim};
use crate::harness::{TestServer, encoded};

on_both_stores!(
    a_query_that_breaks_a_rule_is_refused,
    json_in_a_query_follows_the_rules_of_json,
    a_cursor_is_taken_only_as_it_was_given_and_for_its_own_question,
    only_discovery_takes_the_parameters_of_discovery,
    a_value_that_no_column_holds_is_nobodys,
);

async fn a_query_that_breaks_a_rule_is_refused(server: &TestServer) {
    register_victim(server).await;
    let cases: [(&str, &[&str]); 39] = [
        ("limit=0", &["?limit"]),
        ("limit=1001", &["?limit"]),
        ("limit=1e2", &["?limit"]),
        ("limit=+5", &["?limit"]),
        ("limit=%2B5", &["?limit"]),
        ("limit=-5", &["?limit"]),
        ("limit=5.0", &["?limit"]),
        ("limit=0x5", &["?limit"]),
        ("limit=", &["?limit"]),
        ("limit", &["?limit"]),
        ("limit=%D9%A3", &["?limit"]),
        ("limit=99999999999999999999", &["?limit"]),
        ("limit=5&limit=5", &["?limit"]),
        ("node_id_prefix=a&node_id_prefix=b", &["?node_id_prefix"]),
        ("version_req=*&version_req=*", &["?version_req"]),
        ("capabilities={}&capabilities={}", &["?capabilities"]),
        ("metadata={}&metadata={}", &["?metadata"]),
        ("consistency=strong&consistency=strong", &["?consistency"]),
        ("consistency=weak", &["?consistency"]),
        ("consistency=", &["?consistency"]),
        ("status=dead", &["?status"]),
        ("status=HEALTHY", &["?status"]),
        ("status=healthy&status=dead", &["?status"]),
        ("status=", &["?status"]),
        ("status=healthy,stale", &["?status"]),
        ("version_req=banana", &["?version_req"]),
        ("version_req=", &["?version_req"]),
        ("version_req=1.2.3.4", &["?version_req"]),
        ("version_req=%00", &["?version_req"]),
        ("node_id_prefix=a%00", &["?node_id_prefix"]),
        ("node_type=effect&drop%20table=1", &["?drop table"]),
        ("NODE_TYPE=effect", &["?NODE_TYPE"]),
        ("node_type%20=effect", &["?node_type "]),
        ("node_id=%FF", &["?node_id"]),
        ("node_type=effect&node_id=a%C3", &["?node_id"]),
        ("%FF=1", &["?\u{FFFD}"]),
        ("=1", &["?"]),
        ("offset=1&order_by=node_id", &["?offset", "?order_by"]),
        ("limit=0&status=x&colour=1&metadata=%5B1%5D", &["?colour", "?limit", "?metadata", "?status"]),
    ];
    for (query, places) in cases {
        let answer = server.get(&format!("/v1/nodes?{query}")).await;
        let mut found = answer.problem(400, "invalid-request");
        found.sort();
        assert_eq!(found, places, "{query}");
    }
    let unknown = server.get("/v1/nodes?drop%20table=1").await.json();
    let detail = unknown["errors"][0]["detail"].as_str().unwrap();
    for allowed in
        ["node_type", "node_id", "node_version", "node_id_prefix", "status", "capabilities", "metadata"]
    {
        assert!(detail.contains(allowed), "{detail}");
    }
    for allowed in ["version_req", "limit", "cursor", "consistency"] {
        assert!(detail.contains(allowed), "{detail}");
    }
    assert_eq!(server.ids("limit=1000&&").await, ["victim"]);
    assert_eq!(server.ids("limit=001").await, ["victim"], "zeros in front change nothing");
}

async fn json_in_a_query_follows_the_rules_of_json(server: &TestServer) {
    register_victim(server).await;
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let bad = [
        "",
        "x",
        "{",
        "[]",
        "1",
        "null",
        "\"a\"",
        "{}{}",
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"\u0000":1}"#,
        r#"{"a":1e400}"#,
        r#"{"a":[1e131071]}"#,
        &nested(33),
    ];
    for name in ["capabilities", "metadata"] {
        for text in bad {
            let answer = server.get(&format!("/v1/nodes?{name}={}", encoded(text))).await;
            let short: String = text.chars().take(60).collect();
            assert_eq!(answer.problem(400, "invalid-request"), [format!("?{name}")], "{short}");
        }
        let query = format!("{name}={}", encoded(r#"{"a":1e400,"b":"\u0000"}"#));
        let both = server.get(&format!("/v1/nodes?{query}")).await;
        assert_eq!(both.problem(400, "invalid-request").len(), 2, "{}", both.text);
        for fine in ["{}", r#"{"a":1}"#, &nested(32), r#"{"a":1,"a":{"$serde_json::private::Number":"1"}}"#] {
            assert_eq!(
                server.get(&format!("/v1/nodes?{name}={}", encoded(fine))).await.status,
                200,
                "{fine}"
            );
        }
    }
}

async fn a_cursor_is_taken_only_as_it_was_given_and_for_its_own_question(server: &TestServer) {
    for id in ["a", "b", "c"] {
        server.register(id, json!({"node_type": "effect"})).await;
    }
    let page = server.get("/v1/nodes?node_type=effect&limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(server.ids(&format!("node_type=effect&limit=5&cursor={cursor}")).await, ["b", "c"]);

    let mut forged = cursor.to_owned();
    forged.replace_range(..4, if cursor.starts_with("AQAA") { "AQAB" } else { "AQAA" });
    // A cursor ends with the id.
    let mut other_id = cursor.to_owned();
    other_id.replace_range(cursor.len() - 1.., if cursor.ends_with('i') { "h" } else { "i" });
    let bad = [
        String::new(),
        "x".to_owned(),
        "null".to_owned(),
        cursor[..cursor.len() - 1].to_owned(),
        format!("{cursor}="),
        format!("{cursor}AAAA"),
        forged,
        other_id,
        "' OR 1=1 --".to_owned(),
        "\0".to_owned(),
        "A".repeat(6_000),
    ];
    for text in bad {
        let answer = server.get(&format!("/v1/nodes?node_type=effect&cursor={}", encoded(&text))).await;
        assert_eq!(answer.problem(400, "invalid-request"), ["?cursor"], "{text}");
    }
    for other in [
        "",
        "node_type=compute",
        "node_type=effect&node_type=compute",
        "node_id=effect",
        "node_type=effect&status=unknown",
        "node_type=effect&node_id_prefix=",
        "node_type=effect&metadata={}",
        "node_type=effect&version_req=*",
    ] {
        let answer = server.get(&format!("/v1/nodes?{other}&cursor={cursor}")).await;
        assert_eq!(answer.problem(400, "invalid-request"), ["?cursor"], "{other}");
    }
    let twice = server.get(&format!("/v1/nodes?node_type=effect&cursor={cursor}&cursor={cursor}")).await;
    assert_eq!(twice.problem(400, "invalid-request"), ["?cursor"]);
}

async fn only_discovery_takes_the_parameters_of_discovery(server: &TestServer) {
    register_victim(server).await;
    let before = server.everything().await;
    let effect = r#"{"node_type":"effect"}"#;
    for (query, places) in [
        ("limit=5", &["?limit"][..]),
        ("alive=true&alive=true", &["?alive"]),
        ("alive=yes", &["?alive"]),
        ("alive=1", &["?alive"]),
        ("alive=TRUE", &["?alive"]),
        ("alive", &["?alive"]),
        ("%FF=1", &["?\u{FFFD}"]),
    ] {
        let answer = server.put(&format!("{VICTIM}?{query}"), effect).await;
        assert_eq!(answer.problem(400, "invalid-request"), places, "{query}");
        let body = r#"{"node_type":"effect","node_id":"victim"}"#;
        let answer = server.post(&format!("/v1/nodes?{query}"), body).await;
        assert_eq!(answer.problem(400, "invalid-request"), places, "{query}");
    }
    for query in ["alive=true", "limit=5", "node_type=effect"] {
        let place = format!("?{}", query.split('=').next().unwrap());
        let nodes = json!({"nodes": [{"node_id": "n", "node_type": "effect"}]});
        for answer in [
            server.get(&format!("{VICTIM}?{query}")).await,
            server.delete(&format!("{VICTIM}?{query}")).await,
            server.post(&format!("/v1/batch/nodes?{query}"), &nodes).await,
            server.post(&format!("/v1/batch/deregister?{query}"), json!({"node_ids": ["victim"]})).await,
            server.post(&format!("/v1/batch/heartbeats?{query}"), json!({"node_ids": ["victim"]})).await,
            server.post(&format!("{VICTIM}/heartbeat?{query}"), "").await,
            server.put(&format!("{VICTIM}/maintenance?{query}"), json!({"reason": "x"})).await,
            server.delete(&format!("{VICTIM}/maintenance?{query}")).await,
        ] {
            assert_eq!(answer.problem(400, "invalid-request"), [place.as_str()], "{query}");
        }
    }
    assert_eq!(server.get(&format!("{VICTIM}?consistency=strong")).await.status, 200);
    let weak = server.get(&format!("{VICTIM}?consistency=weak")).await;
    assert_eq!(weak.problem(400, "invalid-request"), ["?consistency"]);
    assert_eq!(server.everything().await, before);
}

async fn a_value_that_no_column_holds_is_nobodys(server: &TestServer) {
    register_victim(server).await;
    for query in ["node_id=%00", "node_type=effect%00", "node_version=%00", "node_type=", "node_id="] {
        assert!(server.ids(query).await.is_empty(), "{query}");
    }
    assert_eq!(server.ids("node_id=%00&node_id=victim").await, ["victim"]);
    let long = "x".repeat(5_000);
    for name in ["node_id", "node_type", "node_version", "node_id_prefix"] {
        assert!(server.ids(&format!("{name}={long}")).await.is_empty(), "{name}");
    }
}
