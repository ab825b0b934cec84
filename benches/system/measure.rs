//! Samples, and what is made of several of them.

use std::time::Duration;

/// What one run under load gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Answers per second, refusals left out.
    pub(crate) rate: f64,
    /// Refusals, as a part of all answers.
    pub(crate) refused: f64,
    /// Of all answers.
    pub(crate) latency: Latency,
}

/// How long answers took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Latency {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { p50: percentile(&times, 50), p99: percentile(&times, 99) }
    }
}

/// The smallest that so many percent are not above. Of none, it is nothing.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
}

/// Runs of ours and of the reference, in turn.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) ours: Vec<Sample>,
    pub(crate) reference: Vec<Sample>,
}

impl Pairs {
    /// Ours to the reference in each round.
    pub(crate) fn ratios(&self, of: fn(&Sample) -> f64) -> Vec<f64> {
        self.ours.iter().zip(&self.reference).map(|(ours, reference)| of(ours) / of(reference)).collect()
    }
}

/// Runs both in turn, ours first, so that what happens to the machine meanwhile happens to both.
pub(crate) async fn alternate(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> anyhow::Result<Sample>,
    mut reference: impl AsyncFnMut() -> anyhow::Result<Sample>,
) -> anyhow::Result<Pairs> {
    let mut pairs = Pairs::default();
    for _ in 0..rounds {
        pairs.ours.push(ours().await?);
        pairs.reference.push(reference().await?);
    }
    Ok(pairs)
}

pub(crate) fn rate(sample: &Sample) -> f64 {
    sample.rate
}

pub(crate) fn p50(sample: &Sample) -> f64 {
    sample.latency.p50.as_secs_f64()
}

pub(crate) fn p99(sample: &Sample) -> f64 {
    sample.latency.p99.as_secs_f64()
}
