//! Connections: accepted, served, and brought to an end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Shared};
use super::gate::Gate;
use super::last_connections;
use super::problem::Problem;
use super::seldom::Seldom;
use super::tls::Tls;
use super::turned_away;
use crate::config::ConnectionLimits;
use crate::metrics::{Metrics, Refusal};

/// The pause after a failure to accept, such as too many open files: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients are told that the server is about to stop: longer than a busy one waits between two requests.
const LEAVE_TIME: Duration = Duration::from_millis(200);
/// So long, the first request of a connection may take to be seen that was made at the last moment.
const LAST_REQUESTS: Duration = Duration::from_millis(50);

/// So many clients that are turned away are waited for until they have read it. They are open files, too.
const MOST_TOLD_AT_ONCE: usize = 64;

/// How serving ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Whether all requests were answered, and none was cut off.
    pub in_time: bool,
    /// By when the rest of the stop should be done.
    pub deadline: Instant,
}

/// Where connections come in.
pub struct Door {
    /// The socket that listens.
    pub listener: TcpListener,
    /// How connections are encrypted; `None`: they are not.
    pub tls: Option<Tls>,
    /// How many connections there may be.
    pub limits: ConnectionLimits,
    /// What connections are counted in.
    pub metrics: Arc<Metrics>,
}

/// Serves until `stop`, and a moment longer. Then no new connection is taken, and requests in flight finish within `limit`.
/// What hasn't by then is cut off. Half a head is no request: nobody is cut off who has sent no more.
///
/// All connections end with this future, also if it is dropped.
pub async fn serve(door: Door, router: Router, stop: impl Future<Output = ()>, limit: Duration) -> Ended {
    let Door { listener, tls, limits, metrics } = door;
    let gate = Arc::new(Gate::new(limits, Arc::clone(&metrics)));
    let tellers = Arc::new(Semaphore::new(MOST_TOLD_AT_ONCE));
    let (acceptors, reloader) = tls.map(|tls| (tls.acceptors, tls.reloader)).unzip();
    let reloading = async {
        match reloader {
            Some(reloader) => reloader.keep_current().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(reloading);
    let (leaving, stopping) = (CancellationToken::new(), CancellationToken::new());
    let in_flight = Arc::new(AtomicUsize::new(0));
    let shared = Arc::new(Shared {
        router,
        acceptors,
        metrics,
        leaving: leaving.clone(),
        stopping: stopping.clone(),
        in_flight: Arc::clone(&in_flight),
    });
    let mut connections = JoinSet::new();
    let told = Seldom::default();
    // Until the stop, and for a moment longer: who keeps a connection is told by the next answer to make another one
    // elsewhere, instead of losing a request that is on its way when it is closed.
    let until_closed = async {
        stop.await;
        tracing::info!("stopping: requests in flight finish");
        leaving.cancel();
        tokio::time::sleep(LEAVE_TIME.min(limit / 10)).await;
    };
    tokio::pin!(until_closed);
    loop {
        tokio::select! {
            () = &mut until_closed => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => let_in(accepted, &gate, &shared, &tellers, &mut connections),
                Err(error) => {
                    if told.is_due() {
                        tracing::warn!(
                            %error,
                            "connections can't be accepted; if there are too many open files, raise the limit (ulimit -n) or \
                             lower ONEX_REGISTRY_MAX_CONNECTIONS"
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Connections that have ended are let go of.
            Some(ended) = connections.join_next(), if !connections.is_empty() => note_panic(ended),
            () = &mut reloading => {}
        }
    }
    last_connections::close(listener, limit, |accepted| {
        let_in(accepted, &gate, &shared, &tellers, &mut connections);
    })
    .await;
    tokio::time::sleep(LAST_REQUESTS.min(limit / 10)).await;
    stopping.cancel();
    let deadline = Instant::now() + limit;
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    };
    let in_time = tokio::time::timeout_at(deadline, all_ended).await.is_ok();
    Ended { in_time: in_time || in_flight.load(Ordering::Acquire) == 0, deadline }
}

fn let_in(
    (stream, address): (TcpStream, SocketAddr),
    gate: &Arc<Gate>,
    shared: &Arc<Shared>,
    tellers: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
) {
    match gate.enter(address.ip()) {
        Ok(entered) => {
            let shared = Arc::clone(shared);
            connections.spawn(async move {
                connection::serve(stream, address.ip(), shared).await;
                drop(entered);
            });
        }
        Err(why) => turn_away(stream, why, shared, tellers, connections),
    }
}

/// Tells a client why it may not come in, and hangs up.
fn turn_away(
    stream: TcpStream,
    why: Refusal,
    shared: &Shared,
    tellers: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
) {
    if shared.acceptors.is_some() {
        return;
    }
    let problem = match why {
        Refusal::Full => Problem::too_many_connections(),
        Refusal::Address => Problem::too_many_of_an_address(),
    };
    match Arc::clone(tellers).try_acquire_owned() {
        Ok(teller) => {
            connections.spawn(async move {
                turned_away::tell(&stream, problem).await;
                drop(teller);
            });
        }
        // There are many of them. Most will read it all the same.
        Err(_) => turned_away::say(&stream, problem),
    }
}

/// A panic of a handler is an answer; one of a body that was being sent, or of ours, ends the connection.
pub(super) fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::{StreamExt as _, stream};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The log of one thread.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_connection_that_panics_is_logged_and_others_are_served() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let broken = || async {
            let parts = stream::iter([0, 1]).map(|part| {
                assert_eq!(part, 0, "a body that panics");
                Ok::<_, Infallible>(Bytes::from_static(b"part"))
            });
            Body::from_stream(parts)
        };
        let router = Router::new().route("/broken", get(broken)).route("/", get(|| async { "fine" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let limits = ConnectionLimits { most: 10, per_address: None };
        let door = Door { listener, tls: None, limits, metrics: Arc::new(Metrics::new().unwrap()) };
        let serving = serve(door, router, stop.clone().cancelled_owned(), Duration::from_secs(10));
        let asking = async {
            for (path, answered) in [("/broken", false), ("/", true)] {
                let mut client = TcpStream::connect(address).await.unwrap();
                let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                assert_eq!(answer.ends_with(b"fine"), answered, "{path}");
            }
            stop.cancel();
        };
        tokio::join!(serving, asking);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("a connection ended in a panic"), "{log}");
    }
}
