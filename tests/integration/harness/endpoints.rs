//! Health endpoints of nodes, each on a port of its own, that can die and come back.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A health endpoint that says 200 while it lives. While it doesn't, nobody listens there.
pub(crate) struct Endpoint {
    /// `http://127.0.0.1:PORT/health`
    pub url: String,
    port: u16,
    asked: Arc<Mutex<Vec<Instant>>>,
    serving: Option<JoinHandle<()>>,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::default());
        let serving = tokio::spawn(serve(listener, Arc::clone(&asked)));
        Self { url: format!("http://127.0.0.1:{port}/health"), port, asked, serving: Some(serving) }
    }

    /// Nobody listens any more, and connections are cut.
    pub(crate) async fn die(&mut self) {
        let serving = self.serving.take().expect("it lives");
        serving.abort();
        let _ = serving.await;
    }

    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.serving = Some(tokio::spawn(serve(listener, Arc::clone(&self.asked))));
    }

    /// When it was asked, so far.
    pub(crate) fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener, asked: Arc<Mutex<Vec<Instant>>>) {
    // Dropped with this future: the connections end with the listener.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(answer(stream, Arc::clone(&asked)));
    }
}

async fn answer(mut stream: TcpStream, asked: Arc<Mutex<Vec<Instant>>>) {
    let mut request = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if request.ends_with(b"\r\n\r\n") {
            asked.lock().unwrap().push(Instant::now());
            request.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    }
}
