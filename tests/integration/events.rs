//! The audit trail: what it says, and how it is read.

mod following;
mod scanning;

use serde_json::{Value, json};

use crate::harness::{Backend, TestDatabase, TestServer, node, sql};
use reqwest::Method;

on_both_stores!(
    the_life_of_a_real_node_is_its_events,
    conditions_are_met_together_and_a_repeated_one_means_any,
    a_page_goes_on_where_the_one_before_ended,
    a_filtered_reader_does_not_look_through_the_rest_again,
    a_revision_that_there_never_was_is_gone,
    a_query_that_breaks_a_rule_is_refused_with_all_its_faults,
    each_item_of_a_batch_has_an_event_of_its_own,
);

/// One page of the audit trail.
struct Page {
    events: Vec<Value>,
    next_after: i64,
    newest: i64,
}

async fn page(server: &TestServer, query: &str) -> Page {
    let answer = server.get(&format!("/v1/events?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let newest = answer.header("registry-revision").unwrap().parse().unwrap();
    let body = answer.json();
    let events = body["events"].as_array().unwrap().clone();
    Page { events, next_after: body["next_after"].as_i64().unwrap(), newest }
}

/// All pages from a revision to the end.
async fn all_after(server: &TestServer, query: &str, mut after: i64) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let page = page(server, &format!("after={after}&{query}")).await;
        assert!(page.next_after > after || page.next_after == page.newest, "pages go on");
        events.extend(page.events);
        after = page.next_after;
        if after == page.newest {
            return events;
        }
    }
}

fn revision(event: &Value) -> i64 {
    event["revision"].as_i64().unwrap()
}

/// The events as id and kind.
fn kinds(events: &[Value]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event["node_id"].as_str().unwrap(), event["kind"].as_str().unwrap())).collect()
}

async fn the_life_of_a_real_node_is_its_events(server: &TestServer) {
    let first = include_str!("../data/onex_nodes.jsonl").lines().next().unwrap();
    let registration: Value = serde_json::from_str(first).unwrap();
    let id = registration["node_id"].as_str().unwrap();
    let mut changed = registration.clone();
    changed["node_version"] = json!("0.2.0");
    changed["capabilities"]["capabilities"] = json!(["architecture_validation"]);
    changed["health_endpoint"] = json!("http://127.0.0.1:20000/health");
    let mut expected = Vec::new();
    for (correlation_id, method, body, event) in [
        ("life-1", Method::PUT, &registration, Some(("registered", json!([])))),
        ("life-2", Method::PUT, &registration, None),
        (
            "life-3",
            Method::PUT,
            &changed,
            Some(("updated", json!(["node_version", "capabilities", "health_endpoint"]))),
        ),
        ("life-4", Method::DELETE, &json!({}), Some(("deregistered", json!([])))),
        ("life-5", Method::DELETE, &json!({}), None),
        ("life-6", Method::PUT, &registration, Some(("registered", json!([])))),
    ] {
        let headers = [("x-correlation-id", correlation_id)];
        let answer = server.send(method, &node(id), body.to_string(), &headers).await;
        assert!(answer.status < 300 || event.is_none(), "{}", answer.text);
        expected.extend(event.map(|(kind, changed)| {
            json!({"node_id": id, "kind": kind, "changed": changed, "actor": "anonymous",
                   "correlation_id": correlation_id})
        }));
    }
    if let Some(database) = &server.database {
        let mut writer = database.connect().await;
        let user: String = sql::value(&mut writer, "SELECT session_user::text").await;
        sql::upsert(&mut writer, id, "effect", r#"{"by": "hand"}"#).await.unwrap();
        sql::run(&mut writer, "TRUNCATE node_registrations").await;
        let columns = ["node_type", "node_version", "capabilities", "endpoints", "metadata"];
        for (kind, changed) in [("updated", &columns[..]), ("deregistered", &[])] {
            expected.push(json!({"node_id": id, "kind": kind, "changed": changed,
                                 "actor": format!("sql:{user}"), "correlation_id": null}));
        }
    }

    let mut found = page(server, "").await.events;
    let revisions: Vec<i64> = found.iter().map(revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a < b) && revisions[0] > 0, "{revisions:?}");
    let times: Vec<String> =
        found.iter().map(|event| event["occurred_at"].as_str().unwrap().to_owned()).collect();
    assert!(
        times.is_sorted() && times.iter().all(|time| time.len() == 27 && time.ends_with('Z')),
        "{times:?}"
    );
    for event in &mut found {
        let event = event.as_object_mut().unwrap();
        assert!(event.remove("revision").is_some() && event.remove("occurred_at").is_some());
    }
    // The columns are in the order of the table, whoever changed them.
    assert_eq!(found, expected);
}

async fn register(server: &TestServer, ids: &[&str], round: usize) {
    for id in ids {
        server.register(id, json!({"node_type": "effect", "metadata": {"round": round}})).await;
    }
}

async fn conditions_are_met_together_and_a_repeated_one_means_any(server: &TestServer) {
    register(server, &["a", "b", "c/d"], 0).await;
    register(server, &["b", "a"], 1).await;
    server.delete(&node("b")).await;
    for (query, expected) in [
        (
            "",
            &[
                ("a", "registered"),
                ("b", "registered"),
                ("c/d", "registered"),
                ("b", "updated"),
                ("a", "updated"),
                ("b", "deregistered"),
            ][..],
        ),
        ("node_id=b", &[("b", "registered"), ("b", "updated"), ("b", "deregistered")]),
        ("node_id=c%2Fd&node_id=b&kind=registered", &[("b", "registered"), ("c/d", "registered")]),
        ("kind=updated", &[("b", "updated"), ("a", "updated")]),
        (
            "kind=updated&kind=deregistered&kind=updated",
            &[("b", "updated"), ("a", "updated"), ("b", "deregistered")],
        ),
        ("node_id=a&node_id=a", &[("a", "registered"), ("a", "updated")]),
        ("node_id=A", &[]),
        ("node_id=nobody&node_id=c/d", &[("c/d", "registered")]),
        ("node_id=", &[]),
        ("node_id=%00", &[]),
        ("node_id=a&kind=deregistered", &[]),
        ("kind=stale&kind=healthy&kind=expired&kind=maintenance", &[]),
    ] {
        let page = page(server, query).await;
        assert_eq!(kinds(&page.events), expected, "{query}");
        assert_eq!(page.next_after, page.newest, "{query}");
        let one_by_one = all_after(server, &format!("limit=1&{query}"), 0).await;
        assert_eq!(kinds(&one_by_one), expected, "limit=1&{query}");
    }
}

async fn a_page_goes_on_where_the_one_before_ended(server: &TestServer) {
    let empty = page(server, "").await;
    assert_eq!((empty.events.len(), empty.next_after, empty.newest), (0, 0, 0));
    let nodes: Vec<Value> =
        (0..250).map(|n| json!({"node_id": format!("n{n:03}"), "node_type": "effect"})).collect();
    server.post("/v1/batch/nodes", json!({ "nodes": nodes })).await;
    let list = server.get("/v1/nodes?limit=1").await.json();

    let first = page(server, "").await;
    assert_eq!(first.events.len(), 100, "a page has a hundred events unless asked otherwise");
    assert_eq!(first.next_after, revision(&first.events[99]));
    assert_eq!(first.newest, list["revision"]);
    let all = page(server, "limit=1000").await;
    assert_eq!((all.events.len(), all.next_after), (250, all.newest));
    for limit in [1, 7, 125, 249, 250] {
        let mut after = 0;
        let mut read = Vec::new();
        while read.len() < 250 {
            let page = page(server, &format!("after={after}&limit={limit}")).await;
            assert!(page.events.len() <= limit, "limit={limit}");
            read.extend(page.events);
            after = page.next_after;
        }
        assert_eq!(read, all.events, "limit={limit}");
        let end = page(server, &format!("after={after}&limit={limit}")).await;
        assert_eq!((end.events.len(), end.next_after), (0, all.newest), "limit={limit}");
    }
    // Who has a list of nodes reads on from its revision.
    register(server, &["later"], 0).await;
    let later = page(server, &format!("after={}", list["revision"])).await;
    assert_eq!(kinds(&later.events), [("later", "registered")]);
}

async fn a_filtered_reader_does_not_look_through_the_rest_again(server: &TestServer) {
    register(server, &["rare", "a", "b", "c"], 0).await;
    for query in ["node_id=rare", "node_id=nobody", "kind=stale", "kind=registered&node_id=rare"] {
        let found = page(server, query).await;
        assert_eq!((found.next_after, found.newest), (found.newest, 4), "{query}");
    }
    let full = page(server, "node_id=rare&limit=1").await;
    assert_eq!(full.next_after, revision(&full.events[0]), "a full page may not be the last");
    let rest = page(server, &format!("node_id=rare&limit=1&after={}", full.next_after)).await;
    assert_eq!((rest.events.len(), rest.next_after), (0, rest.newest));
}

async fn a_revision_that_there_never_was_is_gone(server: &TestServer) {
    register(server, &["a"], 0).await;
    let newest = page(server, "").await.newest;
    assert!(page(server, &format!("after={newest}")).await.events.is_empty());
    for after in [newest + 1, i64::MAX] {
        let answer = server.get(&format!("/v1/events?after={after}")).await;
        assert!(answer.problem(410, "events-gone").is_empty());
        assert_eq!(answer.header("registry-revision"), Some(newest.to_string().as_str()));
        assert!(answer.json()["detail"].as_str().unwrap().contains("read the list"), "{}", answer.text);
    }
}

async fn a_query_that_breaks_a_rule_is_refused_with_all_its_faults(server: &TestServer) {
    let too_many = vec!["node_id=a"; 101].join("&");
    for (query, places) in [
        ("after=-1", &["?after"][..]),
        ("after=", &["?after"]),
        ("after=%2B1", &["?after"]),
        ("after=1.0", &["?after"]),
        ("after=9223372036854775808", &["?after"]),
        ("after=1&after=1", &["?after"]),
        ("limit=0", &["?limit"]),
        ("limit=1001", &["?limit"]),
        ("limit=1&limit=1", &["?limit"]),
        ("kind=born", &["?kind"]),
        ("kind=updated&kind=UPDATED", &["?kind"]),
        ("node_id=%FF", &["?node_id"]),
        (&too_many, &["?node_id"]),
        ("node_type=effect", &["?node_type"]),
        ("consistency=strong", &["?consistency"]),
        ("since=1&kind=x&limit=0&after=x", &["?after", "?kind", "?limit", "?since"]),
    ] {
        let mut found = server.get(&format!("/v1/events?{query}")).await.problem(400, "invalid-request");
        found.sort();
        assert_eq!(found, places, "{query}");
    }
    assert!(page(server, &vec!["node_id=a"; 100].join("&")).await.events.is_empty());
    assert!(page(server, "after=0&limit=001&&").await.events.is_empty());
}

async fn each_item_of_a_batch_has_an_event_of_its_own(server: &TestServer) {
    let nodes = json!({"nodes": [
        {"node_id": "b", "node_type": "effect"},
        {"node_id": "a", "node_type": "effect"},
        {"node_id": "b", "node_type": "compute"},
        {"node_id": "wrong"},
    ]});
    let headers = [("x-correlation-id", "fleet-7")];
    let answer = server.send(Method::POST, "/v1/batch/nodes", nodes.to_string(), &headers).await.json();
    let ids = json!({"node_ids": ["a", "nobody", "b"]});
    server.send(Method::POST, "/v1/batch/deregister", ids.to_string(), &headers).await;
    let events = page(server, "").await.events;
    let mut found = kinds(&events);
    assert!(events.iter().all(|event| event["correlation_id"] == "fleet-7"), "{events:?}");
    let told: Vec<i64> =
        answer["results"].as_array().unwrap().iter().filter_map(|r| r["revision"].as_i64()).collect();
    for event in &events[..3] {
        assert!(told.contains(&revision(event)), "{event} {answer}");
    }
    found.sort_unstable();
    let expected = [
        ("a", "deregistered"),
        ("a", "registered"),
        ("b", "deregistered"),
        ("b", "registered"),
        ("b", "updated"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_written_through_one_replica_is_read_through_the_other() {
    let database = TestDatabase::create().await;
    let one = TestServer::start_on(&database.url(), &[]).await;
    let other = TestServer::start_on(&database.url(), &[]).await;
    let mut after = 0;
    for round in 0..5 {
        for (writer, reader) in [(&one, &other), (&other, &one)] {
            register(writer, &["n"], round).await;
            writer.delete(&node("n")).await;
            let read = page(reader, &format!("after={after}")).await;
            assert_eq!(kinds(&read.events), [("n", "registered"), ("n", "deregistered")]);
            after = read.next_after;
        }
    }
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn one_that_idles_in_its_transaction_delays_nobodys_events() {
    let server = TestServer::start(Backend::Postgres).await;
    let database = server.database.as_ref().unwrap();
    register(&server, &["held", "gone"], 0).await;
    let (mut idle, mut writer) = (database.connect().await, database.connect().await);
    sql::run(&mut idle, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM node_events").await;
    sql::upsert(&mut idle, "held", "compute", "{}").await.unwrap();
    sql::upsert(&mut idle, "early", "compute", "{}").await.unwrap();
    sql::delete(&mut idle, "gone").await.unwrap();

    let mut after = page(&server, "").await.newest;
    for round in 0..20 {
        register(&server, &["other"], round).await;
        sql::upsert(&mut writer, "plain", "effect", &format!("{{\"round\": {round}}}")).await.unwrap();
        let read = page(&server, &format!("after={after}")).await;
        let kind = if round == 0 { "registered" } else { "updated" };
        assert_eq!(kinds(&read.events), [("other", kind), ("plain", kind)]);
        after = read.next_after;
        assert_eq!(after, read.newest);
    }

    sql::run(&mut idle, "COMMIT").await;
    let late = page(&server, &format!("after={after}")).await;
    assert_eq!(kinds(&late.events), [("held", "updated"), ("early", "registered"), ("gone", "deregistered")]);
    server.stop().await;
}
