//! What the catalog costs: its memory, what it takes to load and to change it, and what an answer takes.
//!
//! `cargo bench --bench catalog`. The fleets are made of the nodes in `tests/data`, over and over, each with an id, a
//! counter and a rack of its own; there are ten nodes in a rack.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use onex_registry::node::containment::contains;
use onex_registry::node::fault::Path;
use onex_registry::node::{
    ColumnText, DiscoveryQuery, Event, Faults, Filter, Horizon, Json, JsonObject, JsonText, NodeKey,
    NodeRecord, PageLimit, Revision, ShownRecord, Status, Timestamp, Ttl,
};
use onex_registry::registry::catalog::{Catalog, Outcome};
use onex_registry::store::{Loaded, Position, Recorded};

const TTL: Ttl = Ttl::from_seconds(90);
const NOW: Timestamp = Timestamp::NEG_INFINITY;

fn main() {
    let templates = templates();
    report_memory(&templates);
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    answers(&mut criterion, &templates);
    changes(&mut criterion, &templates);
    containment(&mut criterion);
    criterion.final_summary();
}

/// The nodes of the sample: type, version, capabilities, endpoints, metadata (without its closing brace).
struct Template {
    id: String,
    record: NodeRecord,
    metadata: String,
}

fn templates() -> Vec<Template> {
    let text = include_str!("../tests/data/onex_nodes.jsonl");
    let template = |line: &str| {
        let node: serde_json::Value = serde_json::from_str(line).ok()?;
        let column = |name: &str| node[name].to_string();
        let metadata = column("metadata");
        let id = node["node_id"].as_str()?.to_owned();
        Some(Template {
            record: NodeRecord {
                node_id: NodeKey::new(id.clone())?,
                node_type: node["node_type"].as_str()?.to_owned(),
                node_version: node["node_version"].as_str()?.to_owned(),
                capabilities: JsonText::from_database(object(&column("capabilities"))?.as_str()),
                endpoints: JsonText::from_database(&column("endpoints")),
                metadata: JsonText::from_database(&metadata),
                health_endpoint: None,
                last_heartbeat: Some(NOW),
                registered_at: NOW,
                updated_at: NOW,
                ttl_seconds: None,
                maintenance: None,
                revision: Revision::ZERO,
            },
            id,
            metadata: metadata.trim_end_matches('}').to_owned(),
        })
    };
    text.lines().filter_map(template).collect()
}

fn object(text: &str) -> Option<JsonObject> {
    JsonObject::read(serde_json::from_str(text).ok()?, &Path::Root, &mut Faults::at_most(1))
}

fn record(templates: &[Template], n: usize, counter: usize, revision: i64) -> NodeRecord {
    let template = &templates[n % templates.len()];
    let comma = if template.metadata.ends_with('{') { "" } else { "," };
    let metadata = format!(r#"{}{comma}"counter":{counter},"rack":"r{}"}}"#, template.metadata, n / 10);
    // In the order in which a registration keeps them.
    let metadata = object(&metadata).map_or_else(|| JsonText::from_database(&metadata), JsonText::from);
    NodeRecord {
        node_id: NodeKey::new(format!("{}-{n:06}", template.id)).unwrap_or(template.record.node_id.clone()),
        metadata,
        revision: Revision::new(revision).unwrap_or_default(),
        ..template.record.clone()
    }
}

fn loaded(revision: i64) -> Loaded {
    let mut position = Position::default();
    position.revision = Revision::new(revision).unwrap_or_default();
    Loaded { position, horizon: Horizon::at(NOW) }
}

fn catalog(templates: &[Template], nodes: usize) -> Catalog {
    let catalog = Catalog::new(TTL);
    let mut loading = catalog.load();
    for n in 0..nodes {
        loading.take(record(templates, n, n, 1));
    }
    let finished = loading.finish(&loaded(1));
    assert!(finished.is_ok(), "nothing was written meanwhile");
    catalog
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap_or_default() * 1_024
}

fn report_memory(templates: &[Template]) {
    const NODES: usize = 100_000;
    const MB: usize = 1_000_000;
    let before = resident();
    let begun = Instant::now();
    let mut json = 0;
    for n in 0..NODES {
        json += ShownRecord::of(&record(templates, n, n, 1)).len();
    }
    let making = begun.elapsed();
    let begun = Instant::now();
    let catalog = catalog(templates, NODES);
    let took = begun.elapsed().saturating_sub(making);
    println!(
        "{NODES} nodes: {} MB of JSON, {} MB of memory, loaded in about {took:?}",
        json / MB,
        (resident() - before) / MB
    );
    let begun = Instant::now();
    let mut revision = 1;
    for round in 0..40 {
        let nodes = (0..500).map(|n| (round * 7_919 + n * 199) % NODES);
        let batch = batch(templates, nodes, NODES + round, &mut revision);
        catalog.written(&batch.0, batch.1);
    }
    println!("after 20,000 changes, in {:?}: {} MB", begun.elapsed(), (resident() - before) / MB);
}

fn batch(
    templates: &[Template],
    nodes: impl Iterator<Item = usize>,
    counter: usize,
    revision: &mut i64,
) -> (Vec<Recorded>, Vec<Outcome>) {
    let previous = Revision::new(*revision).unwrap_or_default();
    let (mut events, mut outcomes) = (Vec::new(), Vec::new());
    for n in nodes {
        *revision += 1;
        let record = record(templates, n, counter, *revision);
        events.push(Event {
            revision: record.revision,
            node_id: record.node_id.clone(),
            kind: "updated".to_owned(),
            changed: vec!["metadata".to_owned()],
            actor: "anonymous".to_owned(),
            correlation_id: None,
            occurred_at: NOW,
        });
        let shown = Arc::new(ShownRecord::of(&record));
        outcomes.push(Outcome::Present(record, shown));
    }
    (vec![Recorded { previous, events }], outcomes)
}

fn by(filters: &[(&str, &str)], limit: u16) -> DiscoveryQuery {
    DiscoveryQuery {
        filters: filters
            .iter()
            .filter_map(|(name, value)| Filter::new(name, vec![(*value).to_owned()]))
            .collect(),
        limit: PageLimit::new(limit).unwrap_or_default(),
        ..DiscoveryQuery::default()
    }
}

fn queries() -> Vec<(&'static str, DiscoveryQuery)> {
    let effects = [("node_type", "effect"), ("node_version", "1.0.0")];
    let ten = by(&effects, 10);
    let after = |id: &str| DiscoveryQuery { after: NodeKey::new(id), ..ten.clone() };
    vec![
        ("type and version, 10", ten.clone()),
        ("type and version, 10 from the middle", after("node_m")),
        ("type and version, 100", by(&effects, 100)),
        ("healthy of a type, 10", DiscoveryQuery { status: vec![Status::Healthy], ..by(&effects[..1], 10) }),
        ("stale of all, none", DiscoveryQuery { status: vec![Status::Stale], ..by(&[], 10) }),
        ("version range, 10", DiscoveryQuery { version_req: ">=0.1, <1.0".parse().ok(), ..by(&[], 10) }),
        ("prefix, 10", DiscoveryQuery { node_id_prefix: ColumnText::new("node_contract"), ..by(&[], 10) }),
        ("metadata of 10 nodes", DiscoveryQuery { metadata: object(r#"{"rack":"r77"}"#), ..by(&[], 100) }),
        (
            "capability of many, 10",
            DiscoveryQuery {
                capabilities: object(r#"{"capabilities":["rule_based_analysis"]}"#),
                ..by(&[], 10)
            },
        ),
        (
            "capability and type, 10",
            DiscoveryQuery {
                capabilities: object(r#"{"capabilities":["rule_based_analysis"]}"#),
                ..by(&[("node_type", "compute")], 10)
            },
        ),
    ]
}

fn answers(criterion: &mut Criterion, templates: &[Template]) {
    for nodes in [1_000, 20_000, 100_000] {
        let catalog = catalog(templates, nodes);
        let ids: Vec<NodeKey> = (0..1_000).map(|n| record(templates, n * 97 % nodes, 0, 0).node_id).collect();
        let mut next = ids.iter().cycle();
        criterion.bench_with_input(BenchmarkId::new("get", nodes), &catalog, |bencher, catalog| {
            bencher.iter(|| catalog.fleet().and_then(|fleet| fleet.get(next.next()?).cloned()));
        });
        criterion.bench_with_input(
            BenchmarkId::new("heartbeats of 100", nodes),
            &catalog,
            |bencher, catalog| {
                let beats: Vec<_> = ids.iter().take(100).map(|id| (id.clone(), NOW)).collect();
                bencher.iter(|| catalog.beaten(&beats));
            },
        );
        for (name, query) in queries() {
            let found = catalog.fleet().map(|fleet| fleet.discover(&query).nodes.len());
            println!("{name} of {nodes}: {found:?} nodes");
            criterion.bench_with_input(BenchmarkId::new(name, nodes), &catalog, |bencher, catalog| {
                bencher.iter(|| catalog.fleet().map(|fleet| fleet.discover(&query)));
            });
        }
        criterion.bench_with_input(BenchmarkId::new("summary", nodes), &catalog, |bencher, catalog| {
            bencher.iter(|| catalog.fleet().map(|fleet| fleet.summary()));
        });
    }
}

fn changes(criterion: &mut Criterion, templates: &[Template]) {
    const NODES: usize = 100_000;
    const BATCH: usize = 500;
    let mut group = criterion.benchmark_group("changes at 100,000");
    group.sample_size(20);
    group.bench_function("load", |bencher| {
        bencher.iter_batched(
            || (0..NODES).map(|n| record(templates, n, n, 1)).collect::<Vec<_>>(),
            |records| {
                let catalog = Catalog::new(TTL);
                let mut loading = catalog.load();
                for record in records {
                    loading.take(record);
                }
                black_box(loading.finish(&loaded(1))).is_ok()
            },
            BatchSize::PerIteration,
        );
    });
    let (catalog, mut revision, mut round) = (catalog(templates, NODES), 1, 0);
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("500 registrations that differ in a counter", |bencher| {
        bencher.iter_batched(
            || {
                round += 1;
                let nodes = (0..BATCH).map(|n| (round * 7_919 + n * 199) % NODES);
                batch(templates, nodes, NODES + round, &mut revision)
            },
            |(recorded, outcomes)| catalog.written(&recorded, outcomes),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("500 new nodes", |bencher| {
        let mut next = NODES;
        bencher.iter_batched(
            || {
                next += BATCH;
                batch(templates, next..next + BATCH, next, &mut revision)
            },
            |(recorded, outcomes)| catalog.written(&recorded, outcomes),
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("1 registration that differs in a counter", |bencher| {
        bencher.iter_batched(
            || {
                round += 1;
                batch(templates, std::iter::once(round * 7_919 % NODES), NODES + round, &mut revision)
            },
            |(recorded, outcomes)| catalog.written(&recorded, outcomes),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn containment(criterion: &mut Criterion) {
    let stored = r#"{"capabilities":["a","b","c","d"],"limits":{"cpu":4,"memory":[{"of":"ram","gb":16}]}}"#;
    let wanted = Json::read_stored(r#"{"capabilities":["d"],"limits":{"memory":[{"gb":16.0}]}}"#);
    criterion.bench_function("containment, read and judged", |bencher| {
        bencher.iter(|| {
            Json::read_stored(stored).zip(wanted.as_ref()).map(|(own, wanted)| contains(&own, wanted))
        });
    });
}
