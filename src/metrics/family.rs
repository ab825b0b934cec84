//! Counters, histograms and gauges as this program has them: named alike, at 0 from the start, unknown until set.
//!
//! The crate's `with_label_values` panics if a family has another number of labels. Their number stands in the type
//! here, or next to the name.

use std::marker::PhantomData;
use std::time::Duration;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};

use super::label::Label;

/// What every name begins with.
pub(super) const NAMESPACE: &str = "onex_registry";

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    let counter = IntCounter::with_opts(opts(name, help))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec> {
    let counters = IntCounterVec::new(opts(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

/// A gauge that is 0 at first.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    let gauge = IntGauge::with_opts(opts(name, help))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(opts(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(opts)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec> {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    let histograms = HistogramVec::new(opts, labels)?;
    registry.register(Box::new(histograms.clone()))?;
    Ok(histograms)
}

/// One counter per value of a label. All are there from the start: the rate of a counter that begins at 1 misses the
/// first time.
pub(super) struct Counters<L> {
    all: IntCounterVec,
    label: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    pub(super) fn new(registry: &Registry, name: &str, help: &str, label: &str) -> Result<Self> {
        let all = counters(registry, name, help, &[label])?;
        for value in L::ALL {
            all.get_metric_with_label_values(&[value.value()])?;
        }
        Ok(Self { all, label: PhantomData })
    }

    pub(super) fn add(&self, label: L, count: u64) {
        self.all.with_label_values(&[label.value()]).inc_by(count);
    }
}

/// One histogram of durations per value of a label, all there from the start.
pub(super) struct Durations<L> {
    all: HistogramVec,
    label: PhantomData<L>,
}

impl<L: Label> Durations<L> {
    pub(super) fn new(
        registry: &Registry,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> Result<Self> {
        let all = histograms(registry, name, help, &[label], buckets)?;
        for value in L::ALL {
            all.get_metric_with_label_values(&[value.value()])?;
        }
        Ok(Self { all, label: PhantomData })
    }

    pub(super) fn observe(&self, label: L, took: Duration) {
        self.all.with_label_values(&[label.value()]).observe(took.as_secs_f64());
    }
}

/// One histogram of numbers of items per value of a label, all there from the start.
pub(super) struct Sizes<L> {
    all: HistogramVec,
    label: PhantomData<L>,
}

impl<L: Label> Sizes<L> {
    pub(super) fn new(
        registry: &Registry,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> Result<Self> {
        let all = histograms(registry, name, help, &[label], buckets)?;
        for value in L::ALL {
            all.get_metric_with_label_values(&[value.value()])?;
        }
        Ok(Self { all, label: PhantomData })
    }

    pub(super) fn observe(&self, label: L, items: usize) {
        let items = f64::from(u32::try_from(items).unwrap_or(u32::MAX));
        self.all.with_label_values(&[label.value()]).observe(items);
    }
}

/// Without labels, a family has no series until its first value, and is left out of the text.
const NO_LABELS: &[&str] = &[];

/// A number that has no sample until it is known.
pub(super) struct Number(IntGaugeVec);

impl Number {
    pub(super) fn new(registry: &Registry, name: &str, help: &str) -> Result<Self> {
        gauges(registry, name, help, NO_LABELS).map(Self)
    }

    pub(super) fn set(&self, value: i64) {
        self.0.with_label_values(NO_LABELS).set(value);
    }

    pub(super) fn set_count(&self, count: u64) {
        self.set(clamped(count));
    }
}

/// A time in seconds that has no sample until it is known.
pub(super) struct Seconds(GaugeVec);

impl Seconds {
    pub(super) fn new(registry: &Registry, name: &str, help: &str) -> Result<Self> {
        let gauges = GaugeVec::new(opts(name, help), NO_LABELS)?;
        registry.register(Box::new(gauges.clone()))?;
        Ok(Self(gauges))
    }

    pub(super) fn set(&self, time: Duration) {
        self.0.with_label_values(NO_LABELS).set(time.as_secs_f64());
    }
}

/// A count as a gauge has it.
pub(super) fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
