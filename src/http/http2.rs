//! HTTP/2 connections (RFC 9113): their limits, and their end.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{IDLE_TIMEOUT, InFlight, MAX_HEAD_BYTES, Shared, note_end};
use super::owed::Owed;
use super::peer::Sender;
use super::serve::note_panic;
use super::transport::PATIENCE;

/// What a client begins with that speaks HTTP/2 without asking (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests that a client may have under way on one connection.
const MAX_STREAMS: u32 = 256;
/// What a client may send before it is read: of one body, and of all together.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How much of one answer is handed to the connection ahead of what the client takes.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Requests that a client may have taken back before they were looked at, and mistakes that it may make, before it is cut
/// off: asking and taking back costs it nothing (CVE-2023-44487).
const MAX_TAKEN_BACK: usize = 20;
const MAX_MISTAKES: usize = 64;
/// Every so often a client is asked whether it is there, and has so long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a connection is looked after, and how often when it should end.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const LAST_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a client without requests has to close a connection that it was told to.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(super) async fn serve<S>(stream: S, sender: Sender, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let owed = Owed::new();
    let tasks = Tasks::default();
    let router = TowerToHyperService::new(shared.router.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        sender.sign(request.extensions_mut());
        let begun = owed.begun();
        let in_flight = InFlight::new(&shared.in_flight);
        let answer = router.call(request);
        async move {
            let Ok(answer) = answer.await;
            let answer = in_flight.until_sent(answer);
            Ok::<_, Infallible>(answer.map(|body| begun.answered(body)))
        }
    });
    let connection = http2::Builder::new(tasks.executor())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
        .max_local_error_reset_streams(MAX_MISTAKES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // As soon as it is known: here there is a way to say which requests are answered, and which are to be sent elsewhere.
    let mut stopping = std::pin::pin!(shared.leaving.cancelled());
    let mut stay = Stay { is_stopping: false, told: None };
    let mut looks = looks(LOOK_INTERVAL);
    loop {
        tokio::select! {
            result = connection.as_mut() => return note_end(result),
            () = stopping.as_mut(), if !stay.is_stopping => {
                stay.is_stopping = true;
                stay.told = Some(Instant::now());
                looks = self::looks(LAST_LOOK_INTERVAL);
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => match stay.look(&owed) {
                Verdict::Stay => {}
                Verdict::Leave => {
                    stay.told = Some(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::CutOff(why) => {
                    tracing::debug!(why, "a connection was cut off");
                    return;
                }
            },
        }
    }
}

fn looks(interval: Duration) -> tokio::time::Interval {
    let mut looks = tokio::time::interval_at(Instant::now() + interval, interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// Whether a connection may stay.
struct Stay {
    is_stopping: bool,
    /// When the client was told to leave.
    told: Option<Instant>,
}

enum Verdict {
    Stay,
    /// Requests under way are answered, and no more are taken.
    Leave,
    CutOff(&'static str),
}

impl Stay {
    fn look(&self, owed: &Owed) -> Verdict {
        let patience = if self.is_stopping { PATIENCE.stalled_at_stop } else { PATIENCE.stalled };
        if owed.waiting_for() >= patience {
            return Verdict::CutOff("the client takes too little");
        }
        match (owed.idle_for(), self.told) {
            (Some(idle), Some(told)) if idle.min(told.elapsed()) >= LEAVE_TIME => {
                Verdict::CutOff("the client was told to leave, and has not")
            }
            (Some(idle), None) if idle >= IDLE_TIMEOUT => Verdict::Leave,
            _ => Verdict::Stay,
        }
    }
}

/// The tasks in which the requests of one connection are answered. They end with it.
#[derive(Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn executor(&self) -> InTasks {
        InTasks(Arc::downgrade(&self.0))
    }
}

/// Weak: the tasks have this too, and would keep themselves alive.
#[derive(Clone)]
struct InTasks(Weak<Mutex<JoinSet<()>>>);

impl<F> Executor<F> for InTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        // The connection has ended, and whoever asked has hung up.
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            note_panic(ended);
        }
        tasks.spawn(future);
    }
}
