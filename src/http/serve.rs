//! Connections: accepted, served, and brought to an end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::transport::Transport;

/// How long a connection may take to send the head of its next request, the time in which it sends nothing included.
/// What is slower is closed: half-sent heads would fill the table of open files.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The pause after a failure to accept, such as too many open files: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How serving ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Whether all requests were answered, and none was cut off.
    pub in_time: bool,
    /// By when the rest of the stop should be done.
    pub deadline: Instant,
}

/// Serves until `stop`. Then no new connection is taken, and requests in flight finish within `limit`. What hasn't by
/// then is cut off. Half a head is no request: nobody is cut off who has sent no more.
///
/// All connections end with this future, also if it is dropped.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    limit: Duration,
) -> Ended {
    tokio::pin!(stop);
    let stopping = CancellationToken::new();
    let in_flight = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let served = connection(stream, router.clone(), stopping.clone(), Arc::clone(&in_flight));
                    connections.spawn(served);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Connections that have ended are let go of.
            Some(ended) = connections.join_next(), if !connections.is_empty() => note_panic(ended),
        }
    }
    tracing::info!("stopping: requests in flight finish");
    drop(listener);
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

/// A panic of a handler is an answer; one of a body that was being sent, or of ours, ends the connection.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    stopping: CancellationToken,
    in_flight: Arc<AtomicUsize>,
) {
    let transport = Transport::new(stream, stopping.clone());
    let peer = transport.peer();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let in_flight = InFlight::new(&in_flight);
        let answer = router.call(request);
        async move {
            let answer: Result<_, Infallible> = answer.await;
            drop(in_flight);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // A client may close its side when it has sent all, and wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(transport), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients hang up, send what is no HTTP, or nothing at all: nothing that the server could do about.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts a request as long as it is being answered.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
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
        let serving = serve(listener, router, stop.clone().cancelled_owned(), Duration::from_secs(10));
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
