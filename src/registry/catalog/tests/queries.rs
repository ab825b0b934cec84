//! What is found is what the conditions hold of, one by one.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::node::containment::contains;
use crate::node::fault::Path;
use crate::node::{
    ColumnText, Faults, Filter, Json, JsonObject, Outage, PageLimit, Shown, ShownRecord, Status,
};
use crate::store::page::{Room, rendered_bytes};

const IDS: [&str; 10] = ["a", "B", "é", "ab", "a\u{10FFFF}", "🦀", "", "z/", "%", "a\u{D7FF}"];
const TYPES: [&str; 4] = ["effect", "compute", "reducer", "Effect "];
const VERSIONS: [&str; 7] = ["1.0.0", "1.2.0", "1.2.0-rc.1", "2.0.0", "0.1.5+b1", "not one", "1.10.0"];

/// Texts that the column may hold, of few keys and values: they often have something in common.
fn json() -> impl Strategy<Value = String> {
    let scalars = [
        "null",
        "true",
        "1",
        "1.0",
        "1e0",
        "10",
        "-0",
        "0.00",
        r#""x""#,
        r#""\u0078""#,
        r#""1""#,
        "[]",
        "{}",
    ];
    select(scalars.to_vec()).prop_map(str::to_owned).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            object_of(inner),
        ]
    })
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = select(vec!["a", "b", r"\u0061", "bb", "", "é"]);
    vec((key, value), 0..4).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(key, value)| format!(r#""{key}":{value}"#)).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn object(text: &str) -> JsonObject {
    let mut faults = Faults::at_most(1);
    JsonObject::read(serde_json::from_str(text).unwrap(), &Path::Root, &mut faults).unwrap()
}

/// What a column may hold: most often what a registration wrote, and then again what nobody would think of.
fn column() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => object_of(json()).prop_map(|text| object(&text).as_str().to_owned()),
        // Keys twice, or in another order.
        2 => object_of(json()),
        1 => json(),
        1 => Just("{\"a\":".to_owned()),
        // More than is listed.
        1 => (0..3_u32).prop_map(|n| {
            let many: Vec<String> = (100..200).map(|n| n.to_string()).collect();
            format!(r#"{{"a":[{},{n},2,1,"x",{{"a":1,"b":{n}}}]}}"#, many.join(","))
        }),
        1 => Just(format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40))),
    ]
}

fn registered() -> impl Strategy<Value = NodeRecord> {
    let id = (select(IDS.to_vec()), option::weighted(0.9, 0..200_u32))
        .prop_map(|(id, n)| n.map_or(id.to_owned(), |n| format!("{id}{n}")));
    let life = (
        option::of(select(vec![i64::MIN, -90_000_001, -90_000_000, 0, i64::MAX])),
        option::of(select(vec![-1, 0, 1, i64::MAX])),
        prop::bool::weighted(0.1),
    );
    (id, select(TYPES.to_vec()), select(VERSIONS.to_vec()), column(), column(), life).prop_map(
        |(id, node_type, version, capabilities, metadata, (heartbeat, ttl, maintenance))| NodeRecord {
            node_type: node_type.into(),
            node_version: version.into(),
            capabilities: JsonText::from_database(&capabilities),
            metadata: JsonText::from_database(&metadata),
            last_heartbeat: heartbeat.map(Timestamp::from_unix_micros),
            ttl_seconds: ttl,
            maintenance: maintenance.then(|| "a \"reason\"".to_owned()),
            ..record(&id, 0)
        },
    )
}

fn query() -> impl Strategy<Value = DiscoveryQuery> {
    let some_of = |name: &'static str, values: Vec<&'static str>| {
        option::weighted(0.3, vec(select(values), 0..4)).prop_map(move |values| {
            values.and_then(|values| Filter::new(name, values.into_iter().map(str::to_owned).collect()))
        })
    };
    let filters = (
        some_of("node_type", TYPES.to_vec()),
        some_of("node_version", VERSIONS.to_vec()),
        option::weighted(0.1, vec((select(IDS.to_vec()), 0..200_u32), 0..40)).prop_map(|ids| {
            let ids = ids?.into_iter().map(|(id, n)| format!("{id}{n}")).collect();
            Filter::new("node_id", ids)
        }),
    );
    let prefix = option::weighted(
        0.2,
        select(vec!["", "a", "a1", "a\u{10FFFF}", "é", "🦀", "\u{10FFFF}", "a\u{D7FF}"]),
    );
    let range = option::weighted(0.2, select(vec!["^1.2", ">=1.0, <2.0", "*", "=1.2.0-rc.1", "^7"]));
    let wanted = || option::weighted(0.3, object_of(json()));
    let status = prop_oneof![2 => Just(vec![]), 1 => vec(select(Status::ALL.to_vec()), 1..3)];
    let page = (1..30_u16, option::weighted(0.3, (select(IDS.to_vec()), 0..200_u32)));
    (filters, prefix, range, wanted(), wanted(), status, page).prop_map(
        |(filters, prefix, range, capabilities, metadata, status, (limit, after))| DiscoveryQuery {
            filters: [filters.0, filters.1, filters.2].into_iter().flatten().collect(),
            node_id_prefix: prefix.and_then(ColumnText::new),
            status,
            capabilities: capabilities.as_deref().map(object),
            metadata: metadata.as_deref().map(object),
            version_req: range.map(|range| range.parse().unwrap()),
            limit: PageLimit::new(limit).unwrap(),
            after: after.and_then(|(id, n)| NodeKey::new(format!("{id}{n}"))),
        },
    )
}

/// Whether a record is one that is asked for, as slowly as it can be said.
fn is_wanted(query: &DiscoveryQuery, record: &NodeRecord, horizon: &Horizon) -> bool {
    let one_of = |values: &[ColumnText], own: &str| values.iter().any(|value| value.as_str() == own);
    let has = |own: &JsonText, wanted: &Option<JsonObject>| {
        wanted.as_ref().is_none_or(|wanted| {
            Json::read_stored(own.as_str()).is_some_and(|own| contains(&own, &wanted.to_json()))
        })
    };
    query.filters.iter().all(|filter| match filter {
        Filter::NodeType(values) => one_of(values, &record.node_type),
        Filter::NodeId(values) => one_of(values, record.node_id.as_str()),
        Filter::NodeVersion(values) => one_of(values, &record.node_version),
    }) && query
        .node_id_prefix
        .as_ref()
        .is_none_or(|prefix| record.node_id.as_str().starts_with(prefix.as_str()))
        && (query.status.is_empty() || query.status.contains(&record.status(horizon, TTL)))
        && query.version_req.as_ref().is_none_or(|range| {
            semver::Version::parse(&record.node_version).is_ok_and(|version| range.matches(&version))
        })
        && has(&record.capabilities, &query.capabilities)
        && has(&record.metadata, &query.metadata)
}

fn ids(nodes: &[Shown]) -> Vec<&str> {
    nodes.iter().map(|node| node.record.node_id().as_str()).collect()
}

/// The same page, from all records one by one.
fn naive<'r>(
    query: &DiscoveryQuery,
    all: &'r BTreeMap<NodeKey, NodeRecord>,
    horizon: &Horizon,
) -> (Vec<&'r str>, bool) {
    let mut room = Room::new(query.limit.get());
    let mut page = Vec::new();
    for (id, record) in all {
        if query.after.as_ref().is_none_or(|after| id > after)
            && is_wanted(query, record, horizon)
            && room.take(rendered_bytes(record))
        {
            page.push(id.as_str());
        }
    }
    (page, room.is_full())
}

fn judged_at() -> impl Strategy<Value = Horizon> {
    let outage = Outage { began: Timestamp::from_unix_micros(-5), ended: Timestamp::from_unix_micros(5) };
    (select(vec![-1, 0, 1, 90_000_000, 90_000_001]), option::weighted(0.2, Just(outage)))
        .prop_map(|(at, outage)| Horizon { at: Timestamp::from_unix_micros(at), outage })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_page_is_what_the_conditions_hold_of(
        records in prop_oneof![vec(registered(), 1..60), vec(registered(), 400..900)],
        changes in vec((any::<prop::sample::Index>(), option::of(registered())), 0..60),
        copies in 0..400_u32,
        horizon in judged_at(),
        queries in vec(query(), 40),
    ) {
        let mut fleet = Fleet::empty(TTL, 1);
        let mut all = BTreeMap::new();
        // Many of a kind, so that bitmaps come into it.
        let copies: Vec<NodeRecord> = (0..copies).map(|n| NodeRecord { node_id: NodeKey::new(format!("c{n}")).unwrap(), ..records[0].clone() }).collect();
        for record in records.into_iter().chain(copies) {
            all.insert(record.node_id.clone(), record.clone());
            fleet.put(record);
        }
        let snapshot = fleet.clone();
        let before = all.clone();
        for (which, change) in changes {
            let id = which.get(&all.keys().cloned().collect::<Vec<_>>()).clone();
            if let Some(record) = change {
                let record = NodeRecord { node_id: id.clone(), ..record };
                all.insert(id, record.clone());
                fleet.put(record);
            } else if all.len() > 1 {
                all.remove(&id);
                fleet.remove(&id);
            }
        }
        for (mut fleet, all) in [(fleet, all), (snapshot, before)] {
            fleet.loaded(Revision::ZERO, horizon);
            prop_assert_eq!(fleet.len(), all.len());
            for query in &queries {
                let found = fleet.discover(query);
                prop_assert_eq!((ids(&found.nodes), found.more), naive(query, &all, &horizon), "{:?}", query);
                for steps in [50, 2_000] {
                    if let Some(quick) = fleet.discover_within(query, steps) {
                        prop_assert_eq!((ids(&quick.nodes), quick.more), (ids(&found.nodes), found.more));
                    }
                }
                for (id, record) in all.iter().take(20) {
                    let node = fleet.get(id).unwrap();
                    let holds = Conditions::of(query).hold(node);
                    let any_status = DiscoveryQuery { status: vec![], ..query.clone() };
                    prop_assert_eq!(holds, is_wanted(&any_status, record, &horizon));
                    let matches = holds && Conditions::of(query).hold_of_status(fleet.show(node).moment.status);
                    prop_assert_eq!(matches, is_wanted(query, record, &horizon));
                }
            }
            let mut summary = crate::node::SummaryBuilder::default();
            for record in all.values() {
                summary.add(record.node_type.clone(), record.node_version.clone(), record.status(&horizon, TTL), 1);
            }
            prop_assert_eq!(fleet.summary(), summary.finish());
            for id in all.keys() {
                fleet.remove(id);
            }
            prop_assert!(fleet.leaves_nothing());
        }
    }

    #[test]
    fn a_node_is_what_its_record_is(record in registered()) {
        let mut fleet = Fleet::empty(TTL, 1);
        let node = fleet.put(record.clone());
        let horizon = Horizon::at(Timestamp::from_unix_micros(7));
        let shown = node.show(&horizon, TTL);
        prop_assert_eq!(&*shown.record, &ShownRecord::of(&record));
        prop_assert_eq!(shown.moment.status, record.status(&horizon, TTL));
        prop_assert_eq!(shown.record.read_back(&shown.moment), Some(record.clone()));
        prop_assert_eq!(node.digest(), crate::store::Digest {
            revision: record.revision,
            columns: crate::store::digest::of_columns(&record),
            last_heartbeat: record.last_heartbeat,
            registered_at: record.registered_at,
            updated_at: record.updated_at,
        });
        let mut digests = Vec::new();
        fleet.for_each_digest(|id, digest| digests.push((id.clone(), digest)));
        prop_assert_eq!(digests, vec![(record.node_id, node.digest())]);
    }
}

#[test]
fn a_page_ends_where_the_stores_end_it() {
    let mut fleet = Fleet::empty(TTL, 1);
    let mut all = BTreeMap::new();
    for (n, kilobytes) in [1_500, 1_500, 1_500, 5_000, 1, 4_095, 1].into_iter().enumerate() {
        let large = JsonText::from_database(&format!(r#"{{"a":"{}"}}"#, "x".repeat(kilobytes * 1_024)));
        let record = NodeRecord { metadata: large, ..record(&format!("n{n}"), 0) };
        all.insert(record.node_id.clone(), record.clone());
        fleet.put(record);
    }
    let mut query = DiscoveryQuery::default();
    let mut pages = Vec::new();
    loop {
        let found = fleet.discover(&query);
        assert_eq!((ids(&found.nodes), found.more), naive(&query, &all, fleet.horizon()));
        pages.push(found.nodes.len());
        if !found.more {
            break;
        }
        query.after = found.nodes.last().map(|node| node.record.node_id().clone());
    }
    assert_eq!(pages, [2, 1, 1, 1, 1, 1]);
}

#[test]
fn a_node_is_shown_as_it_was_judged() {
    let catalog = Catalog::new(TTL);
    let mut loading = catalog.load();
    let seen_long_ago = Some(Timestamp::from_unix_micros(0));
    loading.take(NodeRecord { last_heartbeat: seen_long_ago, ..record("n", 0) });
    loading.finish(&loaded(0, 1_000_000_000)).unwrap();
    let stale = DiscoveryQuery { status: vec![Status::Stale], ..DiscoveryQuery::default() };
    let fleet = catalog.fleet().unwrap();
    let found = fleet.discover(&stale);
    // Between the look and the answer.
    catalog.beaten(&[(NodeKey::new("n").unwrap(), Timestamp::from_unix_micros(999_000_000))]);
    assert_eq!(found.nodes[0].moment.status, Status::Stale);
    assert_eq!(found.nodes[0].moment.last_heartbeat, seen_long_ago);
    assert!(fleet.discover(&stale).nodes.is_empty(), "all fleets share the signs of life");
}

#[test]
fn to_read_large_columns_takes_long() {
    // An element with two members: only the column itself says whether they are of one.
    let wanted = Some(object(r#"{"a":[{"b":1,"c":2}]}"#));
    let query = DiscoveryQuery { metadata: wanted, ..DiscoveryQuery::default() };
    for (bytes, is_quick) in [(100, true), (64_000, false)] {
        let mut fleet = Fleet::empty(TTL, 1);
        for n in 0..10 {
            let metadata = format!(r#"{{"a":[{{"b":1}},{{"c":2}}],"d":"{}"}}"#, "x".repeat(bytes));
            fleet.put(NodeRecord {
                metadata: JsonText::from_database(&metadata),
                ..record(&format!("n{n}"), 0)
            });
        }
        assert_eq!(fleet.discover_within(&query, 20_000).is_some(), is_quick, "{bytes} bytes each");
    }
}
