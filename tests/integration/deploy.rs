//! What is in `deploy/` for Prometheus and Grafana looks at metrics that the server has.
//!
//! The names are looked up where they are registered, and not in what a server answers: a gauge that was never set, such as
//! the expiry of a certificate, is in no answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PREFIX: &str = "onex_registry_";
/// What a histogram adds to its name.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names that a file has, without the prefix.
fn named(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c: char| !is_of_name(c))
        .filter_map(|word| word.strip_prefix(PREFIX))
        .map(str::to_owned)
        .collect()
}

/// All that is quoted in the sources of the metrics, and the names of metrics with it.
fn quoted() -> BTreeSet<String> {
    let sources = fs::read_dir(root().join("src/metrics")).unwrap();
    let texts = sources.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    // What tests quote is no proof.
    texts
        .flat_map(|text| {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            code.split('"').map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_metric_that_a_rule_or_a_panel_names_is_one_of_the_server() {
    let there = quoted();
    for file in ["deploy/prometheus/onex-registry.rules.yml", "deploy/grafana/onex-registry.json"] {
        let names = named(file);
        assert!(names.len() > 10, "{file} names {names:?}");
        for name in names {
            let whole = PARTS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            assert!(there.contains(whole) || there.contains(&name), "{file}: {PREFIX}{name}");
        }
    }
}

#[test]
fn the_dashboard_is_json_whose_panels_have_numbers_of_their_own() {
    let text = fs::read_to_string(root().join("deploy/grafana/onex-registry.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let numbers: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
    }
}
