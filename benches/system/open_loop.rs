//! Load at a rate that the server has no say in: requests are due at fixed times, answered or not.
//!
//! wrk can't do that. It sends the next request after the answer, so that whoever is slow is asked less.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::Request;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Connection;

/// What is to be sent.
#[derive(Clone)]
pub(crate) struct Offer<R> {
    pub(crate) address: SocketAddr,
    pub(crate) connections: u32,
    /// Requests per second, over all connections.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
    /// The request of this number. No two have the same.
    pub(crate) request: R,
}

/// What came of it.
pub(crate) struct Outcome {
    /// From when a request was due, or, if nothing held it up but our own clock, from when it was sent.
    pub(crate) latencies: Vec<Duration>,
    /// Answers per second.
    pub(crate) rate: f64,
}

/// Sends all of it.
///
/// # Errors
/// If there is an answer other than a success.
pub(crate) async fn run<R>(offer: Offer<R>) -> anyhow::Result<Outcome>
where
    R: Fn(u32) -> Request<Full<Bytes>> + Clone + Send + 'static,
{
    let mut running = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(100);
    for number in 0..offer.connections {
        running.spawn(on_one_connection(offer.clone(), number, begin));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        latencies.extend(ended??);
    }
    let answers = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
    Ok(Outcome { latencies, rate: f64::from(answers) / begin.elapsed().as_secs_f64() })
}

async fn on_one_connection<R>(offer: Offer<R>, number: u32, begin: Instant) -> anyhow::Result<Vec<Duration>>
where
    R: Fn(u32) -> Request<Full<Bytes>>,
{
    let mut connection = Connection::open(offer.address).await?;
    let interval = Duration::from_secs_f64(f64::from(offer.connections) / offer.rate);
    // Connections take turns.
    let first = begin + interval * number / offer.connections;
    let mut latencies = Vec::new();
    let mut free = first;
    for turn in 0.. {
        let due = first + interval * turn;
        if due >= begin + offer.time {
            break;
        }
        tokio::time::sleep_until(due).await;
        // The timer counts in milliseconds, and its lateness is not the server's. An answer's is.
        let from = if free > due { due } else { Instant::now() };
        let request = (offer.request)(turn * offer.connections + number);
        let (status, body) = connection.ask(request).await?;
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        free = Instant::now();
        latencies.push(free - from);
    }
    Ok(latencies)
}

/// The same on a thread of its own, so that it doesn't wait for other load to be made.
pub(crate) async fn run_apart<R>(offer: Offer<R>) -> anyhow::Result<Outcome>
where
    R: Fn(u32) -> Request<Full<Bytes>> + Clone + Send + 'static,
{
    tokio::task::spawn_blocking(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(offer))
    })
    .await?
}
