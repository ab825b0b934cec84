//! Of `benches/chaos/rules/end.rs`.

use serde_json::{Value, json};

use super::chaos::{Beat, beats, table};

fn events() -> Vec<Value> {
    vec![
        json!({"revision": 1, "node_id": "a", "kind": "registered", "occurred_at": "2025-01-01T00:00:01.000000Z"}),
        json!({"revision": 2, "node_id": "b", "kind": "registered", "occurred_at": "2025-01-01T00:00:02.000000Z"}),
        json!({"revision": 3, "node_id": "a", "kind": "updated", "occurred_at": "2025-01-01T00:00:03.000000Z"}),
        json!({"revision": 4, "node_id": "a", "kind": "healthy", "occurred_at": "2025-01-01T00:00:04.000000Z"}),
        json!({"revision": 5, "node_id": "b", "kind": "deregistered", "occurred_at": "2025-01-01T00:00:05.000000Z"}),
    ]
}

fn node(id: &str, revision: i64) -> Value {
    json!({"node_id": id, "revision": revision, "last_heartbeat": "2025-01-01T00:00:04.000000Z"})
}

#[test]
fn the_table_is_what_the_log_tells() {
    assert_eq!(table(&[node("a", 3)], &events()).len(), 0);
    assert_eq!(table(&[node("a", 1)], &events()).len(), 1, "it went back");
    assert_eq!(table(&[], &events()).len(), 1, "it is gone");
    assert_eq!(table(&[node("a", 3), node("b", 2)], &events()).len(), 1, "it is back");
}

#[test]
fn signs_of_life_stay() {
    let faults = |node_id: &str, at: &str| {
        let beat = Beat { node: node_id.to_owned(), at: format!("2025-01-01T00:00:{at}Z") };
        beats(&[beat], &[node("a", 3)], &events()).len()
    };
    assert_eq!(faults("a", "04.000000"), 0);
    assert_eq!(faults("a", "00.000000"), 0, "of an earlier registration");
    assert_eq!(faults("b", "09.000000"), 0, "the node is gone");
    assert_eq!(faults("a", "05.000000"), 1);
}
