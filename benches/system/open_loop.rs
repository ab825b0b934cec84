//! Load at a rate that the server has no say in: requests are due at fixed times, answered or not.
//!
//! wrk can't do that. It sends the next request after the answer, so that whoever is slow is asked less.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
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
    /// Of successes: from when a request was due, or, if nothing held it up but our own clock, from when it was sent.
    pub(crate) latencies: Vec<Duration>,
    /// Successes per second.
    pub(crate) rate: f64,
}

/// What came of it where the server may refuse.
#[derive(Default)]
pub(crate) struct Overloaded {
    /// Of successes, from when they were sent: whoever sends more than is taken makes itself late.
    pub(crate) accepted: Vec<Duration>,
    /// Of refusals.
    pub(crate) refused: Vec<Duration>,
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
        running.spawn(on_one_connection(offer.clone(), number, begin, Late::Sent));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        for answer in ended?? {
            anyhow::ensure!(answer.status.is_success(), "an answer is {}", answer.status);
            latencies.push(answer.since_due);
        }
    }
    let answers = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
    Ok(Outcome { latencies, rate: f64::from(answers) / begin.elapsed().as_secs_f64() })
}

/// Sends as much of it as the connections let through: who waits for an answer sends nothing meanwhile.
///
/// # Errors
/// If there is an answer that is neither a success nor says that the server takes no more.
pub(crate) async fn overload<R>(offer: Offer<R>) -> anyhow::Result<Overloaded>
where
    R: Fn(u32) -> Request<Full<Bytes>> + Clone + Send + 'static,
{
    let mut running = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(100);
    for number in 0..offer.connections {
        running.spawn(on_one_connection(offer.clone(), number, begin, Late::LeftOut));
    }
    let mut outcome = Overloaded::default();
    while let Some(ended) = running.join_next().await {
        for Answer { status, since_sent, .. } in ended?? {
            if status.is_success() {
                outcome.accepted.push(since_sent);
            } else {
                anyhow::ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "an answer is {status}");
                outcome.refused.push(since_sent);
            }
        }
    }
    Ok(outcome)
}

/// What becomes of what is still due at the end, because those before it took so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    Sent,
    LeftOut,
}

/// An answer, and how long it took.
struct Answer {
    status: StatusCode,
    since_due: Duration,
    since_sent: Duration,
}

async fn on_one_connection<R>(
    offer: Offer<R>,
    number: u32,
    begin: Instant,
    late: Late,
) -> anyhow::Result<Vec<Answer>>
where
    R: Fn(u32) -> Request<Full<Bytes>>,
{
    let mut connection = Connection::open(offer.address).await?;
    let interval = Duration::from_secs_f64(f64::from(offer.connections) / offer.rate);
    // Connections take turns.
    let first = begin + interval * number / offer.connections;
    let mut answers = Vec::new();
    let mut free = first;
    for turn in 0.. {
        let due = first + interval * turn;
        if due >= begin + offer.time {
            break;
        }
        tokio::time::sleep_until(due).await;
        // The timer counts in milliseconds, and its lateness is not the server's. An answer's is.
        let sent = Instant::now();
        if late == Late::LeftOut && sent >= begin + offer.time {
            break;
        }
        let from = if free > due { due } else { sent };
        let request = (offer.request)(turn * offer.connections + number);
        let (status, _) = connection.ask(request).await?;
        free = Instant::now();
        answers.push(Answer { status, since_due: free - from, since_sent: free - sent });
    }
    Ok(answers)
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
