//! HTTP requests.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

use super::label::Label as _;
use super::{HttpMethod, MetricsError, family};

/// From what memory answers in to the longest that a request may take unless it is configured otherwise, in seconds.
const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// HTTP requests.
pub struct Requests {
    answered: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            answered: family::counters(
                registry,
                "http_requests_total",
                "Requests that were answered, by method, route and status; without those whose head was no HTTP.",
                &["method", "route", "status"],
            )?,
            duration: family::histograms(
                registry,
                "http_request_duration_seconds",
                "Time from the head of a request to the head of its answer.",
                &["method", "route"],
                &BUCKETS,
            )?,
            in_flight: family::gauge(
                registry,
                "http_requests_in_flight",
                "Requests that are being answered, the one that reads this included.",
            )?,
        })
    }

    /// Makes the series of a route that exists, so that they begin at 0 and not with the first request.
    pub fn announce(
        &self,
        method: HttpMethod,
        route: &'static str,
        statuses: impl IntoIterator<Item = u16>,
    ) -> Series {
        let answered = |status: u16| {
            let labels = [method.value(), route, &status.to_string()];
            (status, self.answered.with_label_values(&labels))
        };
        Series {
            method,
            route,
            duration: self.duration.with_label_values(&[method.value(), route]),
            answered: statuses.into_iter().map(answered).collect(),
        }
    }

    /// A request has come. It is in flight as long as the value lives.
    pub fn begun(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request was answered with this status. `route` is the template of its path.
    pub fn answered(&self, method: HttpMethod, route: &'static str, status: u16, took: Duration) {
        self.answered.with_label_values(&[method.value(), route, &status.to_string()]).inc();
        self.duration.with_label_values(&[method.value(), route]).observe(took.as_secs_f64());
    }
}

/// The series of a method of a route, to be counted in without looking them up.
pub struct Series {
    method: HttpMethod,
    route: &'static str,
    duration: Histogram,
    /// By status. There are a dozen.
    answered: Vec<(u16, IntCounter)>,
}

impl Series {
    /// The method.
    #[must_use]
    pub fn method(&self) -> HttpMethod {
        self.method
    }

    /// The template of the path.
    #[must_use]
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// A request was answered with this status. `false` if it isn't one of those that were announced, and nothing was
    /// counted.
    #[must_use]
    pub fn answered(&self, status: u16, took: Duration) -> bool {
        let Some((_, count)) = self.answered.iter().find(|(announced, _)| *announced == status) else {
            return false;
        };
        count.inc();
        self.duration.observe(took.as_secs_f64());
        true
    }
}

/// A request that is being answered. It counts as long as this lives, so that one that is dropped half way is not
/// counted for ever.
#[derive(Debug)]
#[must_use = "a request is in flight as long as this lives"]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
