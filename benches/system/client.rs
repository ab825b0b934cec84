//! A connection to a server, over HTTP/1.1.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A request, with a host as HTTP/1.1 wants it.
pub(crate) fn request(method: Method, target: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    // The benchmark makes its targets itself; if one is no URI after all, the answer is that of "/".
    *request.uri_mut() = target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(HOST, hyper::header::HeaderValue::from_static("localhost"));
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    request
}

/// One connection, kept for all requests.
pub(crate) struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    /// Ends with the sender, or because of what it tells of.
    ended: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the server takes no connection")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self { address, sender, ended: tokio::spawn(connection) })
    }

    /// The head of the answer; the body is still to be read.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        if self.sender.ready().await.is_err() {
            // Servers close connections that nobody uses for long, as after a pause of the machine. Nothing was sent.
            let next = Self::open(self.address).await?;
            let ended = std::mem::replace(self, next).ended.await?;
            eprintln!(
                "{}: a connection was closed before a request, and is made anew ({ended:?})",
                self.address
            );
        }
        Ok(self.sender.send_request(request).await?)
    }

    /// Status and body.
    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let answer = self.send(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// The JSON of an answer that has to be a success.
    pub(crate) async fn json(&mut self, method: Method, target: &str, body: String) -> anyhow::Result<Value> {
        let (status, body) = self.ask(request(method, target, body)).await?;
        let shown = || String::from_utf8_lossy(&body).into_owned();
        anyhow::ensure!(status.is_success(), "{target}: {status}: {}", shown());
        serde_json::from_slice(&body).with_context(shown)
    }
}
