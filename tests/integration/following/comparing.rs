//! What tells whether two copies of a registration are the same.

use std::collections::HashMap;

use onex_registry::node::NodeKey;
use onex_registry::store::IfHeld;
use onex_registry::store::digest::of_columns;
use onex_registry::store::{Digest, Seen, Store};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::{Setting, effect, key, on_each_store};
use crate::harness::{Backend, sql};
use crate::stores_agree::{holds, runtime};

on_each_store!(digests_are_those_of_the_records);

async fn digests(store: &dyn Store) -> Seen<HashMap<NodeKey, Digest>> {
    let mut digests = HashMap::new();
    let mut twice = 0;
    let seen = store
        .digests(&mut |id, digest| twice += usize::from(digests.insert(id, digest).is_some()))
        .await
        .unwrap();
    assert_eq!(twice, 0, "no node comes twice");
    Seen { value: digests, revision: seen.revision, horizon: seen.horizon }
}

/// The digests of all nodes are those that are reckoned from the records.
async fn assert_same(setting: &Setting) -> HashMap<NodeKey, Digest> {
    let (found, seen) = (digests(&*setting.store).await, setting.discovered().await);
    let reckoned: HashMap<NodeKey, Digest> = seen
        .value
        .iter()
        .map(|(id, record)| {
            let digest = Digest {
                revision: record.revision,
                columns: of_columns(record),
                last_heartbeat: record.last_heartbeat,
                registered_at: record.registered_at,
                updated_at: record.updated_at,
            };
            (id.clone(), digest)
        })
        .collect();
    for (id, digest) in &reckoned {
        assert_eq!(found.value.get(id), Some(digest), "{:?}", seen.value[id]);
    }
    assert_eq!((found.value.len(), found.revision), (reckoned.len(), seen.revision));
    reckoned
}

async fn digests_are_those_of_the_records(setting: &Setting) {
    setting.register(&["a", "b", "c", "same"], &effect(0)).await;
    let body = json!({"node_type": "compute", "ttl_seconds": 7, "health_endpoint": "http://h/é",
                      "metadata": {"a": "x, y: \"z\" \\", "é🦀": [1, 2.50, {"b": null}]}});
    setting.register(&["b"], &body).await;
    setting.set_maintenance("c", Some("a disk, and: more")).await;
    setting.store.heartbeat(&[key("a")], IfHeld::Wait).await;
    let before = assert_same(setting).await;
    assert_eq!(before[&key("a")].columns, before[&key("same")].columns);
    assert_ne!(before[&key("a")].columns, before[&key("c")].columns);
    setting
        .run(
            "SET session_replication_role = replica; UPDATE node_registrations SET metadata = '{\"round\": 9}' WHERE node_id = 'a'",
            "UPDATE node_registrations SET metadata = '{\"round\":9}' WHERE node_id = 'a'",
        )
        .await;
    let after = assert_same(setting).await;
    assert_eq!(after[&key("a")].revision, before[&key("a")].revision);
    assert_ne!(after[&key("a")].columns, before[&key("a")].columns);
}

/// Texts of all kinds, with what could be taken for the frame of the hashed text.
fn text(most_chars: usize) -> impl Strategy<Value = String> {
    let chars = prop_oneof![
        select(vec![
            ':', '-', '1', '2', ' ', ',', '"', '\\', '\n', '\t', '\u{1}', '\u{7f}', 'é', '🦀', '\u{2028}'
        ]),
        any::<char>().prop_filter("a column can't hold it", |c| *c != '\0'),
    ];
    vec(chars, 0..most_chars).prop_map(String::from_iter)
}

fn value() -> impl Strategy<Value = String> {
    let number = select(vec!["0", "-0.0", "1.10", "1e20", "1e-7", "123456789012345678901234567890.5"]);
    let scalar = prop_oneof![
        select(vec!["null", "true", "[]", "{}"]).prop_map(str::to_owned),
        number.prop_map(str::to_owned),
        text(12).prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        let members = vec((text(5), inner.clone()), 0..4).prop_map(|members| {
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, value)| format!("{}: {value}", serde_json::to_string(&key).unwrap()))
                .collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![members, vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(",")))]
    })
}

#[derive(Debug, Clone)]
struct Row {
    texts: (String, String),
    json: [String; 3],
    health_endpoint: Option<String>,
    last_heartbeat: Option<&'static str>,
    ttl_seconds: Option<i32>,
    maintenance: Option<String>,
}

fn row() -> impl Strategy<Value = Row> {
    let json = || prop_oneof![3 => value(), 1 => Just("{}".to_owned())];
    let time =
        select(vec!["infinity", "-infinity", "2026-01-01 00:00:00.000001+00", "4713-01-01 00:00:00+00 BC"]);
    (
        (text(20), text(20)),
        [json(), json(), json()],
        option::of(text(30)),
        option::of(time),
        option::of(any::<i32>()),
        option::of(text(30)),
    )
        .prop_map(|(texts, json, health_endpoint, last_heartbeat, ttl_seconds, maintenance)| Row {
            texts,
            json,
            health_endpoint,
            last_heartbeat,
            ttl_seconds,
            maintenance,
        })
}

const INSERT: &str = "
INSERT INTO node_registrations
       (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, last_heartbeat,
        registered_at, updated_at, ttl_seconds, maintenance)
VALUES ($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6::text::jsonb, $7, $8::text::timestamptz,
        COALESCE($8::text::timestamptz, 'infinity'), COALESCE($8::text::timestamptz, '-infinity'), $9, $10)";

#[test]
fn postgresql_reckons_the_hash_of_whatever_is_in_a_row_as_we_do() {
    let runtime = runtime();
    let setting = runtime.block_on(Setting::open(Backend::Postgres));
    let connection = runtime.block_on(setting.database.as_ref().unwrap().connect());
    // One at a time, and waited for: the tests of a property can't change what they are given.
    let connection = tokio::sync::Mutex::new(connection);
    holds(25, &vec(row(), 40), |rows| {
        runtime.block_on(async {
            let mut connection = connection.lock().await;
            sql::run(&mut connection, "TRUNCATE node_registrations").await;
            for (number, row) in rows.iter().enumerate() {
                sqlx::query(INSERT)
                    .bind(format!("{number}"))
                    .bind(&row.texts.0)
                    .bind(&row.texts.1)
                    .bind(&row.json[0])
                    .bind(&row.json[1])
                    .bind(&row.json[2])
                    .bind(&row.health_endpoint)
                    .bind(row.last_heartbeat)
                    .bind(row.ttl_seconds)
                    .bind(&row.maintenance)
                    .execute(&mut *connection)
                    .await
                    .unwrap();
            }
            assert_eq!(assert_same(&setting).await.len(), rows.len());
        });
        Ok(())
    });
}
