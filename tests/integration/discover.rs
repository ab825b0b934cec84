//! Discovery: every parameter, and that it finds what it says.

use serde_json::{Value, json};

use crate::harness::{TestServer, encoded, node};

mod containment;
mod pages;

on_both_stores!(
    repeated_names_mean_any_and_different_names_mean_all,
    a_value_that_no_node_has_gives_an_empty_list,
    a_prefix_is_text_and_no_pattern,
    a_status_is_asked_for_by_name,
    a_version_range_follows_cargos_grammar,
    all_conditions_must_hold_at_once,
    strong_consistency_gives_the_same_page,
);

/// Registers nodes, given as id, type and version.
async fn register(server: &TestServer, nodes: &[(&str, &str, &str)]) {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(id, node_type, version)| json!({"node_id": id, "node_type": node_type, "node_version": version}))
        .collect();
    register_all(server, &nodes).await;
}

async fn register_all(server: &TestServer, nodes: &[Value]) {
    let answer = server.post("/v1/batch/nodes", json!({"nodes": nodes})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for result in answer.json()["results"].as_array().unwrap() {
        assert_eq!(result["status"], 201, "{result}");
    }
}

/// Each query finds these nodes, whoever answers it.
async fn finds(server: &TestServer, query: &str, expected: &[&str]) {
    assert_eq!(server.ids(query).await, expected, "{query}");
    assert_eq!(server.ids(&format!("{query}&consistency=strong")).await, expected, "{query}, strong");
}

async fn repeated_names_mean_any_and_different_names_mean_all(server: &TestServer) {
    register(
        server,
        &[
            ("a", "effect", "1.0.0"),
            ("b", "effect", "2.0.0"),
            ("c", "compute", "1.0.0"),
            ("d", "reducer", "1.0.0"),
        ],
    )
    .await;
    finds(server, "", &["a", "b", "c", "d"]).await;
    finds(server, "node_type=effect", &["a", "b"]).await;
    finds(server, "node_type=effect&node_type=compute", &["a", "b", "c"]).await;
    finds(server, "node_type=effect&node_type=effect", &["a", "b"]).await;
    finds(server, "node_version=1.0.0", &["a", "c", "d"]).await;
    finds(server, "node_id=d&node_id=b&node_id=nobody", &["b", "d"]).await;
    finds(server, "node_type=effect&node_version=1.0.0", &["a"]).await;
    finds(server, "node_type=effect&node_type=reducer&node_version=1.0.0&node_id=d&node_id=b", &["d"]).await;
}

async fn a_value_that_no_node_has_gives_an_empty_list(server: &TestServer) {
    register(server, &[("a", "effect", "1.0.0")]).await;
    for query in [
        "node_type=planet",
        "node_type=EFFECT",
        "node_type=effect+",
        "node_type=",
        "node_version=1.0",
        "node_version=1.0.0%2Bbuild",
        "node_id=A",
        "node_id_prefix=aa",
        "status=healthy",
        "status=stale",
        "status=maintenance",
        "version_req=%3E1.0.0",
        "node_type=effect&node_id=b",
    ] {
        let answer = server.get(&format!("/v1/nodes?{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        assert_eq!(
            (&answer.json()["nodes"], &answer.json()["next_cursor"]),
            (&json!([]), &Value::Null),
            "{query}"
        );
        finds(server, query, &[]).await;
    }
}

async fn a_prefix_is_text_and_no_pattern(server: &TestServer) {
    let mut ids = vec![
        "100%",
        "100% sure",
        "1000",
        "a",
        "a%b",
        "a_b",
        "axb",
        "a\\b",
        "A",
        "é",
        "éa",
        "e\u{301}",
        "日本",
        "日本語",
        "\u{10FFFF}",
        "\u{10FFFF}\u{10FFFF}",
        "\u{10FFFE}",
        "\u{D7FF}x",
        "\u{E000}",
        "z",
        "[a]",
        "a*",
        "*",
        "^a",
    ];
    ids.sort_unstable();
    let nodes: Vec<(&str, &str, &str)> = ids.iter().map(|id| (*id, "effect", "1.0.0")).collect();
    register(server, &nodes).await;
    for prefix in [
        "",
        "1",
        "100%",
        "a",
        "a%",
        "a_",
        "a\\",
        "A",
        "%",
        "_",
        "é",
        "e",
        "日",
        "日本語",
        "\u{10FFFF}",
        "\u{10FFFF}\u{10FFFF}",
        "\u{10FFFF}\u{10FFFF}\u{10FFFF}",
        "\u{D7FF}",
        "\u{E000}",
        "*",
        "[",
        "^",
        "z",
        "zz",
    ] {
        let expected: Vec<&str> = ids.iter().copied().filter(|id| id.starts_with(prefix)).collect();
        finds(server, &format!("node_id_prefix={}", encoded(prefix)), &expected).await;
    }
}

async fn a_status_is_asked_for_by_name(server: &TestServer) {
    register(server, &[("silent", "effect", "1.0.0")]).await;
    for id in ["alive", "lively"] {
        let path = format!("{}?alive=true", node(id));
        assert_eq!(server.put(&path, r#"{"node_type":"effect"}"#).await.json()["status"], "healthy");
    }
    finds(server, "status=healthy", &["alive", "lively"]).await;
    finds(server, "status=unknown", &["silent"]).await;
    finds(server, "status=stale", &[]).await;
    finds(server, "status=maintenance", &[]).await;
    finds(server, "status=stale&status=unknown", &["silent"]).await;
    finds(server, "status=healthy&status=healthy&status=unknown", &["alive", "lively", "silent"]).await;
    finds(server, "status=healthy&node_id_prefix=l", &["lively"]).await;
    finds(
        server,
        "status=healthy&status=stale&status=unknown&status=maintenance",
        &["alive", "lively", "silent"],
    )
    .await;
}

async fn a_version_range_follows_cargos_grammar(server: &TestServer) {
    let versions = [
        "0.0.3",
        "0.2.9",
        "0.3.0",
        "1.0.0",
        "1.2.0",
        "1.2.3",
        "1.2.3+build",
        "1.3.0-alpha.1",
        "1.3.0",
        "1.10.0",
        "2.0.0-rc.1",
        "2.0.0",
        "10.0.0",
    ];
    let ids: Vec<String> = versions.iter().map(|version| format!("v{version}")).collect();
    let nodes: Vec<(&str, &str, &str)> =
        ids.iter().zip(versions).map(|(id, version)| (id.as_str(), "effect", version)).collect();
    register(server, &nodes).await;
    for (range, expected) in [
        ("^1.2", &["v1.10.0", "v1.2.0", "v1.2.3", "v1.2.3+build", "v1.3.0"][..]),
        ("1.2", &["v1.10.0", "v1.2.0", "v1.2.3", "v1.2.3+build", "v1.3.0"]),
        (">=1.0, <2.0", &["v1.0.0", "v1.10.0", "v1.2.0", "v1.2.3", "v1.2.3+build", "v1.3.0"]),
        ("~1.2.1", &["v1.2.3", "v1.2.3+build"]),
        ("=1.2.3", &["v1.2.3", "v1.2.3+build"]),
        ("1.2.*", &["v1.2.0", "v1.2.3", "v1.2.3+build"]),
        (">=1.3.0-alpha.1, <1.4", &["v1.3.0", "v1.3.0-alpha.1"]),
        ("=2.0.0-rc.1", &["v2.0.0-rc.1"]),
        ("^2.0.0-rc.0", &["v2.0.0", "v2.0.0-rc.1"]),
        ("^0.2", &["v0.2.9"]),
        ("^0.0.3", &["v0.0.3"]),
        (">1, <1", &[]),
        (">=3", &["v10.0.0"]),
        ("=9.9.9", &[]),
    ] {
        finds(server, &format!("version_req={}", encoded(range)), expected).await;
    }
    let released: Vec<String> = {
        let mut released: Vec<String> = ids.iter().filter(|id| !id.contains('-')).cloned().collect();
        released.sort();
        released
    };
    assert_eq!(server.ids("version_req=*").await, released, "a pre-release is in a range that names it");
    finds(server, "version_req=%5E1.2&node_version=1.3.0", &["v1.3.0"]).await;
    finds(server, "version_req=%5E1.2&node_version=2.0.0", &[]).await;
    finds(server, "version_req=%5E1.2&node_version=1.2.3&node_version=1.0.0&node_id_prefix=v1", &["v1.2.3"])
        .await;
}

async fn all_conditions_must_hold_at_once(server: &TestServer) {
    let body = json!({
        "node_type": "effect", "node_version": "1.2.3", "capabilities": {"c": ["x", "y"]}, "metadata": {"env": "dev"},
    });
    for id in ["match", "other"] {
        assert_eq!(server.put(&format!("{}?alive=true", node(id)), &body).await.status, 201);
    }
    let capabilities = encoded(r#"{"c":["x"]}"#);
    let metadata = encoded(r#"{"env":"dev"}"#);
    let all = [
        ("node_type", "effect"),
        ("node_id", "match"),
        ("node_version", "1.2.3"),
        ("node_id_prefix", "mat"),
        ("status", "healthy"),
        ("capabilities", &capabilities),
        ("metadata", &metadata),
        ("version_req", "1.2"),
    ];
    let query = |wrong: Option<(&str, &str)>| {
        let parts = all.iter().map(|(name, value)| match wrong {
            Some((name_of_wrong, wrong)) if name_of_wrong == *name => format!("{name}={wrong}"),
            _ => format!("{name}={value}"),
        });
        parts.collect::<Vec<_>>().join("&")
    };
    finds(server, &query(None), &["match"]).await;
    let not_contained = encoded(r#"{"c":["z"]}"#);
    for wrong in [
        ("node_type", "compute"),
        ("node_id", "nobody"),
        ("node_version", "1.2.4"),
        ("node_id_prefix", "max"),
        ("status", "unknown"),
        ("capabilities", &not_contained),
        ("metadata", &not_contained),
        ("version_req", "1.3"),
    ] {
        finds(server, &query(Some(wrong)), &[]).await;
    }
}

async fn strong_consistency_gives_the_same_page(server: &TestServer) {
    register(server, &[("a", "effect", "1.0.0"), ("b", "effect", "1.0.0")]).await;
    let weak = server.get("/v1/nodes?limit=1").await;
    let strong = server.get("/v1/nodes?limit=1&consistency=strong").await;
    assert_eq!(weak.json(), strong.json());
    let cursor = strong.json()["next_cursor"].as_str().unwrap().to_owned();
    finds(server, &format!("cursor={cursor}"), &["b"]).await;
    let record = server.get(&format!("{}?consistency=strong", node("a"))).await;
    assert_eq!(record.json(), weak.json()["nodes"][0]);
    assert!(record.header("registry-revision").is_some() && strong.header("registry-revision").is_some());
}
