//! The table that a run ends with, in Markdown.

use std::fmt;
use std::time::Duration;

use crate::measure::{Latency, Pairs, Sample, median};

/// What has to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Of the ratio.
    AtLeast(f64),
    /// Of the ratio.
    AtMost(f64),
    /// Of the ratio.
    Under(f64),
    /// Nothing: a figure to compare with.
    None,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::Under(bound) => write!(f, "< {bound}"),
            Self::None => f.write_str(EMPTY),
        }
    }
}

impl Target {
    fn is_met(self, ratio: f64) -> &'static str {
        let met = match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
            Self::Under(bound) => ratio < bound,
            Self::None => return EMPTY,
        };
        yes_or_no(met)
    }
}

pub(crate) fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}

/// Stands where there is nothing to say.
pub(crate) const EMPTY: &str = "–";

const COLUMNS: [&str; 9] =
    ["work", "ours", "reference", "ratio", "spread", "p50/p99 ours", "p50/p99 reference", "target", "met?"];

/// A row, as text.
#[derive(Debug, Clone)]
pub(crate) struct Row([String; 9]);

impl Row {
    /// Both sides as rates, and the ratio of what `of` says.
    pub(crate) fn of_pairs(
        work: &str,
        reference: &str,
        pairs: &Pairs,
        of: fn(&Sample) -> f64,
        target: Target,
    ) -> Self {
        let ratios = pairs.ratios(of);
        let shown = |samples: &[Sample]| {
            let rate = format!("{}/s", count(median(samples.iter().map(|sample| sample.rate))));
            let refused = median(samples.iter().map(|sample| sample.refused));
            if refused > 0.0 { format!("{rate}, and {:.1} % refused", 100.0 * refused) } else { rate }
        };
        Self([
            work.to_owned(),
            shown(&pairs.ours),
            format!("{} ({reference})", shown(&pairs.reference)),
            format!("{:.2}", median(ratios.iter().copied())),
            spread(&ratios),
            latency(&pairs.ours),
            latency(&pairs.reference),
            target.to_string(),
            target.is_met(median(ratios.iter().copied())).to_owned(),
        ])
    }

    /// A figure of ours that has no reference but its bound.
    pub(crate) fn of_figure(work: &str, ours: String, target: &str, met: bool) -> Self {
        let mut row = Self::blank(work);
        row.0[1] = ours;
        target.clone_into(&mut row.0[7]);
        yes_or_no(met).clone_into(&mut row.0[8]);
        row
    }

    pub(crate) fn with_reference(mut self, reference: String) -> Self {
        self.0[2] = reference;
        self
    }

    pub(crate) fn with_ratio(mut self, ratio: f64) -> Self {
        self.0[3] = format!("{ratio:.2}");
        self
    }

    pub(crate) fn with_spread(mut self, spread: String) -> Self {
        self.0[4] = spread;
        self
    }

    pub(crate) fn with_latency(mut self, ours: Latency) -> Self {
        self.0[5] = format!("{}/{}", time(ours.p50), time(ours.p99));
        self
    }

    /// What could not be measured, and why.
    pub(crate) fn without_figures(work: &str, why: &str) -> Self {
        let mut row = Self::blank(work);
        row.0[1] = why.replace('|', "\\|").replace('\n', " ");
        row
    }

    fn blank(work: &str) -> Self {
        let mut row = Self([EMPTY; 9].map(str::to_owned));
        work.clone_into(&mut row.0[0]);
        row
    }
}

/// All rows, under their heading.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", COLUMNS.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(COLUMNS.len()))?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.0.join(" | ")))
    }
}

/// The smallest and the largest.
pub(crate) fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.2}–{most:.2}")
}

fn latency(samples: &[Sample]) -> String {
    let median = |of: fn(&Sample) -> f64| time(Duration::from_secs_f64(median(samples.iter().map(of))));
    format!("{}/{}", median(crate::measure::p50), median(crate::measure::p99))
}

/// Three digits are enough: the spread is wider than the fourth.
pub(crate) fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        1e3..1e4 => format!("{:.2} ms", micros / 1e3),
        1e4..1e5 => format!("{:.1} ms", micros / 1e3),
        1e5..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// A rate for people.
fn count(rate: f64) -> String {
    if rate < 10_000.0 { format!("{rate:.0}") } else { format!("{:.1}k", rate / 1e3) }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
