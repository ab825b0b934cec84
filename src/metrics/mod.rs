//! What a server counts and measures, for Prometheus (text format, version 0.0.4).
//!
//! Every server has [`Metrics`] of its own. They know the vocabulary and plain numbers, and nothing of HTTP, the
//! registry or the database: those tell them what happened.
//!
//! The values of labels are types, or texts of the program itself: a client that could invent values could make as
//! many time series as it likes. Counters and histograms are there from the start, at 0. A gauge has no sample until
//! it is set: a 0 would be a claim.

mod catalog;
mod database;
mod door;
mod family;
mod keys;
mod label;
mod life;
mod log;
mod nodes;
mod probes;
mod requests;
mod watches;
mod writes;

use std::time::SystemTime;

use prometheus::{Gauge, IntGauge, Opts, Registry, TextEncoder};

pub use self::catalog::Catalog;
pub use self::database::{Connections, Database};
pub use self::door::{Door, Open};
pub use self::keys::Keys;
pub use self::label::{
    AuthFailure, BreakerPhase, DeregistrationOutcome, HeartbeatSource, HttpMethod, KeysReload, ProbeOutcome,
    Refusal, RegistrationOutcome, StatusChange, WatchEnd, WriteLane,
};
pub use self::life::{Life, SelfPreservation};
pub use self::log::Log;
pub use self::nodes::Nodes;
pub use self::probes::Probes;
pub use self::requests::{InFlight, Requests, Series};
pub use self::watches::{Waiting, Watches};
pub use self::writes::{QueueLengths, Writes};

/// Metrics that can't be made or written. It is a mistake in the program, such as a name that is there twice.
pub type MetricsError = prometheus::Error;

/// What one server counts and measures.
pub struct Metrics {
    /// The log.
    pub log: Log,
    /// Connections, and their encryption.
    pub door: Door,
    /// HTTP requests.
    pub requests: Requests,
    /// API keys, and what was refused for want of one.
    pub keys: Keys,
    /// Registrations and deregistrations, and the batches that they are written in.
    pub writes: Writes,
    /// Signs of life, and what follows from their absence.
    pub life: Life,
    /// Health checks.
    pub probes: Probes,
    /// Who waits for changes.
    pub watches: Watches,
    /// The registered nodes.
    pub nodes: Nodes,
    /// The copy of the fleet in memory.
    pub catalog: Catalog,
    /// The database, and how far this server has read its events.
    pub database: Database,
    registry: Registry,
}

impl Metrics {
    /// Metrics of a server that starts now.
    ///
    /// # Errors
    /// If a name is invalid or there twice.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        describe_server(&registry)?;
        Ok(Self {
            log: Log::new(&registry)?,
            door: Door::new(&registry)?,
            requests: Requests::new(&registry)?,
            keys: Keys::new(&registry)?,
            writes: Writes::new(&registry)?,
            life: Life::new(&registry)?,
            probes: Probes::new(&registry)?,
            watches: Watches::new(&registry)?,
            nodes: Nodes::new(&registry)?,
            catalog: Catalog::new(&registry)?,
            database: Database::new(&registry)?,
            registry,
        })
    }

    /// All of it, as Prometheus reads it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn text(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What never changes: the version, and since when it runs.
fn describe_server(registry: &Registry) -> Result<(), MetricsError> {
    let version = Opts::new("build_info", "Always 1; the label says which version this is.")
        .namespace(family::NAMESPACE)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = IntGauge::with_opts(version)?;
    build.set(1);
    registry.register(Box::new(build))?;
    // The conventions want this very name, without a prefix.
    let started =
        Gauge::new("process_start_time_seconds", "When the server started, in seconds since 1970.")?;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    started.set(since_1970.as_secs_f64());
    registry.register(Box::new(started))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::{NodeType, Status};

    fn metrics() -> Metrics {
        Metrics::new().unwrap()
    }

    /// The value of a series, such as `leader` or `nodes{status="stale",type="effect"}`.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("onex_registry_")?.strip_prefix(series));
        line.and_then(|rest| rest.strip_prefix(' ')).map(|value| value.parse().unwrap())
    }

    #[track_caller]
    fn assert_values(metrics: &Metrics, expected: &[(&str, f64)]) {
        for (series, number) in expected {
            let found = value(metrics, series);
            assert!(found.is_some_and(|found| (found - number).abs() < 1e-9), "{series}: {found:?}");
        }
    }

    const COUNTERS: [&str; 32] = [
        "auth_failures_total{reason=\"missing\"}",
        "auth_failures_total{reason=\"not_covered\"}",
        "api_keys_reloads_total{outcome=\"taken\"}",
        "api_keys_reloads_total{outcome=\"refused\"}",
        "registrations_total{outcome=\"created\"}",
        "registrations_total{outcome=\"renewed\"}",
        "registrations_total{outcome=\"refused\"}",
        "registrations_total{outcome=\"failed\"}",
        "deregistrations_total{outcome=\"removed\"}",
        "deregistrations_total{outcome=\"not_found\"}",
        "deregistrations_total{outcome=\"refused\"}",
        "deregistrations_total{outcome=\"failed\"}",
        "writes_rejected_total{lane=\"writes\"}",
        "writes_rejected_total{lane=\"heartbeats\"}",
        "write_batch_items_count{lane=\"writes\"}",
        "write_batch_items_count{lane=\"held\"}",
        "write_batch_duration_seconds_count{lane=\"heartbeats\"}",
        "heartbeats_total{source=\"client\"}",
        "heartbeats_total{source=\"probe\"}",
        "heartbeats_unknown_total",
        "probes_total{outcome=\"success\"}",
        "probes_total{outcome=\"refused\"}",
        "probes_total{outcome=\"connect\"}",
        "probe_duration_seconds_count{outcome=\"success\"}",
        "probe_duration_seconds_count{outcome=\"tls\"}",
        "probe_duration_seconds_bucket{outcome=\"timeout\",le=\"+Inf\"}",
        "probe_lateness_seconds_count",
        "status_changes_total{kind=\"healthy\"}",
        "status_changes_total{kind=\"stale\"}",
        "expired_total",
        "events_pruned_total",
        "watches_ended_total{reason=\"slow_reader\"}",
    ];

    #[test]
    fn a_counter_is_0_before_anything_happens() {
        let metrics = metrics();
        for series in COUNTERS {
            assert_values(&metrics, &[(series, 0.0)]);
        }
        let build = format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_values(
            &metrics,
            &[(&build, 1.0), ("http_requests_in_flight", 0.0), ("watchers", 0.0), ("long_polls", 0.0)],
        );
        assert!(metrics.text().unwrap().contains("\nprocess_start_time_seconds 1"));
    }

    #[test]
    fn what_happens_is_counted() {
        let metrics = metrics();
        metrics.writes.registered(RegistrationOutcome::Created, 2);
        metrics.writes.deregistered(DeregistrationOutcome::NotFound, 1);
        metrics.writes.batch_begun(WriteLane::Heartbeats, 300);
        metrics.writes.batch_ended(WriteLane::Heartbeats, Duration::from_millis(5));
        metrics.writes.rejected(WriteLane::Writes, 9);
        metrics.life.heartbeats(HeartbeatSource::Client, 500);
        metrics.life.heartbeats(HeartbeatSource::Probe, 3);
        metrics.life.heartbeats_unknown(2);
        metrics.life.status_changed(StatusChange::Stale, 7);
        metrics.life.expired(4);
        metrics.probes.begun(Duration::from_millis(20));
        metrics.probes.ended(ProbeOutcome::Resolve, Duration::from_millis(300));
        metrics.database.events_pruned(1_000);
        assert_values(
            &metrics,
            &[
                ("registrations_total{outcome=\"created\"}", 2.0),
                ("deregistrations_total{outcome=\"not_found\"}", 1.0),
                ("write_batch_items_sum{lane=\"heartbeats\"}", 300.0),
                ("write_batch_items_bucket{lane=\"heartbeats\",le=\"200\"}", 0.0),
                ("write_batch_duration_seconds_count{lane=\"heartbeats\"}", 1.0),
                ("write_batch_duration_seconds_count{lane=\"writes\"}", 0.0),
                ("writes_rejected_total{lane=\"writes\"}", 9.0),
                ("heartbeats_total{source=\"client\"}", 500.0),
                ("heartbeats_total{source=\"probe\"}", 3.0),
                ("heartbeats_unknown_total", 2.0),
                ("status_changes_total{kind=\"stale\"}", 7.0),
                ("status_changes_total{kind=\"healthy\"}", 0.0),
                ("expired_total", 4.0),
                ("probe_lateness_seconds_sum", 0.02),
                ("probe_lateness_seconds_bucket{le=\"0.05\"}", 1.0),
                ("probes_total{outcome=\"resolve\"}", 1.0),
                ("probe_duration_seconds_sum{outcome=\"resolve\"}", 0.3),
                ("probe_duration_seconds_bucket{outcome=\"resolve\",le=\"0.25\"}", 0.0),
                ("probe_duration_seconds_bucket{outcome=\"resolve\",le=\"0.5\"}", 1.0),
                ("events_pruned_total", 1_000.0),
            ],
        );
    }

    #[test]
    fn a_gauge_has_no_sample_until_it_is_known() {
        let metrics = metrics();
        let gauges = [
            ("api_keys", 2.0),
            ("api_keys_outdated", 1.0),
            ("self_preservation", 1.0),
            ("self_preservation_stale", 60.0),
            ("self_preservation_of", 100.0),
            ("leader", 0.0),
            ("probe_targets", 12.0),
            ("database_up", 1.0),
            ("database_connections{state=\"idle\"}", 3.0),
            ("database_connections{state=\"in_use\"}", 4.0),
            ("database_connections_max", 10.0),
            ("revision", 42.0),
            ("event_lag_seconds", 1.5),
            ("database_breaker{phase=\"open\"}", 1.0),
            ("database_breaker{phase=\"closed\"}", 0.0),
            ("catalog_stale_seconds", 4.5),
            ("catalog_changes", 300.0),
            ("snapshot_written_timestamp_seconds", 1_700_000_000.0),
            ("write_queue_length{lane=\"writes\"}", 1.0),
            ("write_queue_length{lane=\"heartbeats\"}", 2.0),
            ("write_queue_length{lane=\"held\"}", 3.0),
        ];
        for (series, _) in gauges {
            assert_eq!(value(&metrics, series), None, "{series}");
        }
        metrics.keys.in_use(2);
        metrics.keys.reloaded(KeysReload::Refused);
        metrics.life.set_self_preservation(SelfPreservation { on: true, stale: 60, of: 100 });
        metrics.life.set_leader(false);
        metrics.probes.set_targets(12);
        metrics.database.set_up(true);
        metrics.database.set_connections(Connections { idle: 3, in_use: 4, max: 10 });
        metrics.database.set_revision(42);
        metrics.database.set_event_lag(Duration::from_millis(1_500));
        metrics.database.set_breaker(BreakerPhase::Open);
        metrics.catalog.set_stale(Duration::from_millis(4_500));
        metrics.catalog.set_changes(300);
        metrics.catalog.snapshot_written(Duration::from_secs(1_700_000_000));
        metrics.writes.set_queue_lengths(QueueLengths { writes: 1, heartbeats: 2, held: 3 });
        assert_values(&metrics, &gauges);
    }

    #[test]
    fn nodes_are_set_as_a_whole_and_forgotten_as_a_whole() {
        let metrics = metrics();
        let samples =
            || metrics.text().unwrap().lines().filter(|l| l.starts_with("onex_registry_nodes{")).count();
        assert_eq!(samples(), 0);
        let effect = (Some(NodeType::Effect), Status::Healthy, 5);
        metrics.nodes.set(&[effect, (None, Status::Unknown, 1), (None, Status::Unknown, 2)]);
        assert_eq!(samples(), 20, "five types in four statuses");
        let (effects, others) =
            ("nodes{status=\"healthy\",type=\"effect\"}", "nodes{status=\"unknown\",type=\"other\"}");
        assert_values(&metrics, &[(effects, 5.0), (others, 3.0)]);
        metrics.nodes.set(&[(Some(NodeType::Reducer), Status::Stale, u64::MAX)]);
        assert_values(&metrics, &[(effects, 0.0), (others, 0.0)]);
        metrics.nodes.clear();
        assert_eq!(samples(), 0);
        assert!(!metrics.text().unwrap().contains("onex_registry_nodes"), "no family without a sample");
    }

    #[test]
    fn a_request_is_in_flight_until_it_is_dropped() {
        let metrics = metrics();
        let requests = (metrics.requests.begun(), metrics.requests.begun());
        assert_values(&metrics, &[("http_requests_in_flight", 2.0)]);
        drop(requests);
        assert_values(&metrics, &[("http_requests_in_flight", 0.0)]);
    }

    #[test]
    fn a_route_that_is_announced_is_counted_from_0() {
        let metrics = metrics();
        let requests = |status: u16| {
            format!("http_requests_total{{method=\"GET\",route=\"/v1/nodes\",status=\"{status}\"}}")
        };
        let count = "http_request_duration_seconds_count{method=\"GET\",route=\"/v1/nodes\"}";
        let series = metrics.requests.announce(HttpMethod::Get, "/v1/nodes", [200, 503]);
        assert_values(&metrics, &[(&requests(200), 0.0), (&requests(503), 0.0), (count, 0.0)]);
        assert!(series.answered(200, Duration::from_secs(2)));
        assert!(!series.answered(404, Duration::from_secs(2)), "it was not announced");
        metrics.requests.answered(HttpMethod::Get, "/v1/nodes", 404, Duration::from_secs(2));
        assert_values(
            &metrics,
            &[(&requests(200), 1.0), (&requests(503), 0.0), (&requests(404), 1.0), (count, 2.0)],
        );
    }

    #[test]
    fn each_has_its_own() {
        let (one, other) = (metrics(), metrics());
        one.life.expired(1);
        assert_values(&one, &[("expired_total", 1.0)]);
        assert_values(&other, &[("expired_total", 0.0)]);
    }
}
