//! A strict reader of the Prometheus text format 0.0.4: it refuses all that Prometheus would, and what the
//! conventions advise against.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample, in the order of their names.
type Labels = BTreeMap<String, String>;

/// What a server exposes.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    samples: BTreeMap<(String, Labels), f64>,
    /// Families, with their types.
    families: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads a text, or says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        let mut helped = BTreeSet::new();
        let mut present: Option<(String, String)> = None;
        let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
        for line in body.split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| format!("no help: {line}"))?;
                require(is_name(name) && !help.is_empty(), "a help", line)?;
                require(helped.insert(name.to_owned()), "help once", line)?;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
                require(matches!(kind, "counter" | "gauge" | "histogram"), "a type that we have", line)?;
                require(helped.contains(name), "help before the type", line)?;
                require((kind == "counter") == name.ends_with("_total"), "_total on counters", line)?;
                let before = read.families.insert(name.to_owned(), kind.to_owned());
                require(before.is_none(), "one type, and samples that stand together", line)?;
                present = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| format!("no sample: {line}"))?;
                let (family, kind) = present.as_ref().ok_or_else(|| format!("no type: {line}"))?;
                let suffix = name.strip_prefix(family.as_str());
                let fits = match kind.as_str() {
                    "histogram" => match suffix {
                        Some("_bucket") => labels.contains_key("le"),
                        Some("_sum" | "_count") => !labels.contains_key("le"),
                        _ => false,
                    },
                    _ => suffix == Some(""),
                };
                require(fits, "a sample of the family above", line)?;
                require(kind == "gauge" || value >= 0.0, "no negative count", line)?;
                let before = read.samples.insert((name, labels), value);
                require(before.is_none(), "a series once", line)?;
            }
        }
        for (family, kind) in &read.families {
            let of_family = |(name, _): &(String, Labels)| {
                matches!(name.strip_prefix(family.as_str()), Some("" | "_bucket"))
            };
            require(read.samples.keys().any(of_family), "a sample of each family", family)?;
            if kind == "histogram" {
                read.check_histogram(family)?;
            }
        }
        require(helped.len() == read.families.len(), "a type for each help", "")?;
        Ok(read)
    }

    /// Buckets are cumulative, and the last holds all.
    fn check_histogram(&self, family: &str) -> Result<(), String> {
        let mut all: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), count) in &self.samples {
            let mut labels = labels.clone();
            match name.strip_prefix(family) {
                Some("_bucket") => {
                    let bound = labels.remove("le").and_then(|bound| bound.parse().ok());
                    all.entry(labels).or_default().push((bound.ok_or("a bound is a number")?, *count));
                }
                Some("_sum" | "_count") => {
                    all.entry(labels).or_default();
                }
                _ => {}
            }
        }
        for (labels, mut buckets) in all {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            let cumulative = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            require(cumulative, "cumulative buckets", family)?;
            let of = |suffix: &str| self.samples.get(&(format!("{family}{suffix}"), labels.clone())).copied();
            let (Some(count), Some(sum)) = (of("_count"), of("_sum")) else {
                return Err(format!("no count or no sum: {family} {labels:?}"));
            };
            require(sum.is_finite(), "a finite sum", family)?;
            require(buckets.last() == Some(&(f64::INFINITY, count)), "all in the last bucket", family)?;
        }
        Ok(())
    }

    /// The value of a series, or 0 if there is none.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }

    /// The value of a series.
    pub(super) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect::<Labels>();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// All values that a label has anywhere.
    pub(super) fn values_of(&self, label: &str) -> BTreeSet<&str> {
        self.samples.keys().filter_map(|(_, labels)| labels.get(label)).map(String::as_str).collect()
    }
}

fn require(holds: bool, what: &str, line: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("there must be {what}: {line}")) }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// `name 1` or `name{label="value",other="value"} 1`, without a time.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(label) || value.is_empty() || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            if let Some(more) = after.strip_prefix(',') {
                rest = more;
            } else {
                rest = after.strip_prefix('}')?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then_some((name.to_owned(), labels, value))
}

/// A value up to its closing quotation mark, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

#[test]
fn the_reader_takes_what_is_right() {
    let text = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\"} 2\na_total 0.5\n\
        # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    let read = Exposition::read(text).unwrap();
    assert_eq!((read.len(), read.find("a_total", &[("x", "1\"\\")])), (6, Some(2.0)));
}

#[test]
fn the_reader_refuses_what_is_wrong() {
    let histogram = |samples: &str| format!("# HELP h H.\n# TYPE h histogram\n{samples}");
    let counter = |samples: &str| format!("# HELP a_total A.\n# TYPE a_total counter\n{samples}");
    for wrong in [
        String::new(),
        "a_total 1\n".to_owned(),
        "# TYPE a_total counter\na_total 1\n".to_owned(),
        "# HELP a A.\n# TYPE a counter\na 1\n".to_owned(),
        counter(""),
        counter("a_total 1"),
        counter("a_total 1\n\n"),
        counter("a_total 1\na_total 1\n"),
        counter("a_total{x=\"1\",y=\"2\"} 1\na_total{y=\"2\",x=\"1\"} 1\n"),
        counter("a_total{x=\"1\",x=\"2\"} 1\n"),
        counter("a_total{x=\"1} 1\n"),
        counter("a_total{x=\"\\1\"} 1\n"),
        counter("a_total{X=\"1\"} 1\n"),
        counter("a_total one\n"),
        counter("a_total -1\n"),
        counter("a_total 1 1700000000000\n"),
        counter("b_total 1\n"),
        counter("a_total 1\n# HELP a_total A.\n"),
        counter("a_total 1\n# HELP b_total B.\n"),
        histogram("h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n"),
        histogram("h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"),
        histogram("h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 1\n"),
        histogram("h_bucket{le=\"+Inf\"} 1\nh_count 1\n"),
        histogram("h_bucket{le=\"+Inf\"} 1\nh_sum 1\n"),
        histogram("h_bucket 1\nh_sum 1\nh_count 1\n"),
        histogram("h_sum 1\nh_count 1\n"),
    ] {
        assert!(Exposition::read(&wrong).is_err(), "{wrong}");
    }
}
