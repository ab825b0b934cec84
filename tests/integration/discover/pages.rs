//! Pages: their order, their ends, their size.

use serde_json::{Value, json};

use super::{register, register_all};
use crate::harness::{TestServer, ids_of, node};

on_both_stores!(
    pages_hold_every_node_once_in_bytewise_order,
    a_page_has_a_hundred_nodes_unless_asked_otherwise,
    a_node_that_stays_is_neither_skipped_nor_repeated_while_others_come_and_go,
    a_page_ends_before_it_has_four_mebibytes,
    a_cursor_outlives_the_node_that_it_was_made_at,
    a_page_is_filled_however_far_apart_its_nodes_are,
);

/// All ids, page by page. Only a null cursor is the end.
async fn iterate(server: &TestServer, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut path = format!("/v1/nodes?{query}");
    loop {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.len() < 4 * 1024 * 1024, "a page of {} bytes", answer.text.len());
        let page = answer.json();
        pages.push(ids_of(&page));
        match &page["next_cursor"] {
            Value::Null => return pages,
            Value::String(cursor) => path = format!("/v1/nodes?{query}&cursor={cursor}"),
            other => panic!("{other}"),
        }
        assert!(pages.len() < 1_000, "pages come to an end");
    }
}

async fn pages_hold_every_node_once_in_bytewise_order(server: &TestServer) {
    let mut ids = [
        "a",
        "A",
        "B",
        "b",
        "Z",
        "z",
        "aa",
        "a b",
        "a-b",
        "a_b",
        "a.b",
        "ab",
        "aB",
        "é",
        "e",
        "E",
        "É",
        "e\u{301}",
        "ß",
        "ss",
        "10",
        "9",
        "1",
        "01",
        "~",
        "!",
        "\u{7FF}",
        "\u{800}",
        "\u{FFFD}",
        "\u{FFFF}",
        "\u{10000}",
        "🦀",
        "日本",
        "и",
        "Ä",
        "ä",
        "ae",
        "af",
        "co-op",
        "coop",
        "co op",
        "\"",
        "'",
    ];
    let nodes: Vec<(&str, &str, &str)> = ids.iter().map(|id| (*id, "effect", "1.0.0")).collect();
    register(server, &nodes).await;
    ids.sort_unstable();
    for limit in [1, 2, 7, ids.len() - 1, ids.len(), ids.len() + 1, 1_000] {
        let pages = iterate(server, &format!("limit={limit}")).await;
        assert_eq!(pages.concat(), ids, "limit={limit}");
        let (last, full) = pages.split_last().unwrap();
        assert!(full.iter().all(|page| page.len() == limit), "limit={limit}");
        assert!(last.len() <= limit && !last.is_empty(), "limit={limit}");
    }
    let lower: Vec<&str> = ids.iter().copied().filter(|id| id.starts_with('a')).collect();
    assert_eq!(iterate(server, "limit=2&node_id_prefix=a&node_type=effect").await.concat(), lower);
    assert_eq!(iterate(server, "limit=3&consistency=strong").await.concat(), ids);
}

async fn a_page_has_a_hundred_nodes_unless_asked_otherwise(server: &TestServer) {
    let ids: Vec<String> = (0..101).map(|n| format!("n{n:03}")).collect();
    let nodes: Vec<(&str, &str, &str)> = ids.iter().map(|id| (id.as_str(), "effect", "1.0.0")).collect();
    register(server, &nodes).await;
    let pages = iterate(server, "").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 1]);
    assert_eq!(pages.concat(), ids);
    assert_eq!(iterate(server, "limit=101").await, [ids], "a full page at the end has no next one");
}

async fn a_node_that_stays_is_neither_skipped_nor_repeated_while_others_come_and_go(server: &TestServer) {
    let ids: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
    let nodes: Vec<(&str, &str, &str)> = ids.iter().map(|id| (id.as_str(), "effect", "1.0.0")).collect();
    register(server, &nodes).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for round in 0.. {
        let page = server.get(&format!("/v1/nodes?limit=4{cursor}")).await.json();
        seen.extend(ids_of(&page));
        // Behind and before the end of the page: nodes with an odd number go, others come and change.
        for n in [round * 4 + 1, round * 4 + 3, 39 - round * 2] {
            if n % 2 == 1 {
                server.delete(&node(&format!("n{n:02}"))).await;
            }
        }
        server.register(&format!("n{:02}x", round * 4), json!({"node_type": "reducer"})).await;
        server.register("n38", json!({"node_type": "effect", "metadata": {"round": round}})).await;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let stayed: Vec<&String> = ids.iter().filter(|id| id[1..].parse::<u32>().unwrap() % 2 == 0).collect();
    for id in stayed {
        assert_eq!(seen.iter().filter(|seen| *seen == id).count(), 1, "{id} in {seen:?}");
    }
    assert!(seen.is_sorted(), "{seen:?}");
}

async fn a_page_ends_before_it_has_four_mebibytes(server: &TestServer) {
    // 180 KiB each: 23 of them have more than 4 MiB.
    let object = json!({"x": "y".repeat(60 * 1024)});
    let ids: Vec<String> = (0..50).map(|n| format!("n{n:02}")).collect();
    let nodes: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({"node_id": id, "node_type": "effect", "capabilities": object, "endpoints": object, "metadata": object})
        })
        .collect();
    register_all(server, &nodes).await;
    for query in ["limit=1000", "limit=1000&consistency=strong", "limit=30&node_type=effect"] {
        let pages = iterate(server, query).await;
        assert_eq!(pages.concat(), ids, "{query}");
        let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
        assert!(
            lengths.len() >= 3 && lengths[0] > 15 && lengths[1] > 15,
            "pages are well filled: {lengths:?}"
        );
    }
    assert_eq!(iterate(server, "limit=10").await.iter().map(Vec::len).collect::<Vec<_>>(), [10; 5]);
}

async fn a_cursor_outlives_the_node_that_it_was_made_at(server: &TestServer) {
    register(server, &[("a", "effect", "1.0.0"), ("b", "effect", "1.0.0"), ("c", "effect", "1.0.0")]).await;
    let page = server.get("/v1/nodes?limit=2").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    server.delete(&node("b")).await;
    assert_eq!(server.ids(&format!("cursor={cursor}")).await, ["c"]);
    server.delete(&node("c")).await;
    assert!(server.ids(&format!("cursor={cursor}")).await.is_empty());
    server.register("bb", r#"{"node_type":"effect"}"#).await;
    assert_eq!(server.ids(&format!("cursor={cursor}")).await, ["bb"]);
    assert_eq!(
        server.ids(&format!("limit=1&cursor={cursor}")).await,
        ["bb"],
        "the limit is free on every page"
    );
}

async fn a_page_is_filled_however_far_apart_its_nodes_are(server: &TestServer) {
    let wanted = |n: usize| n % 131 == 77 || n == 699;
    let id = |n: usize| format!("n{n:03}");
    let nodes: Vec<Value> = (0..700)
        .map(|n| {
            let (version, rare) = if wanted(n) { ("2.0.0", 1) } else { ("1.0.0", 0) };
            json!({
                "node_id": id(n), "node_type": "effect", "node_version": version, "capabilities": {"rare": rare},
                "metadata": {"rare": rare},
            })
        })
        .collect();
    register_all(server, &nodes).await;
    let expected: Vec<String> = (0..700).filter(|n| wanted(*n)).map(id).collect();
    let object = crate::harness::encoded(r#"{"rare":1}"#);
    for filter in [
        format!("metadata={object}"),
        format!("capabilities={object}"),
        "version_req=2".to_owned(),
        "node_version=2.0.0".to_owned(),
    ] {
        for limit in [1, 2, expected.len(), 1_000] {
            let pages = iterate(server, &format!("{filter}&limit={limit}")).await;
            assert_eq!(pages.concat(), expected, "{filter}");
            assert_eq!(pages.len(), expected.len().div_ceil(limit), "no page is empty: {filter}");
        }
    }
    let all = iterate(server, "limit=300&status=unknown").await;
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [300, 300, 100]);
    assert_eq!(all.concat(), (0..700).map(id).collect::<Vec<_>>());
}
