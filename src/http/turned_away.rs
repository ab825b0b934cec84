//! Who can't be served is told so in a few bytes, without HTTP being spoken with them.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::net::TcpStream;

use super::auth::Authority;
use super::context::RequestContext;
use super::problem::{MEDIA_TYPE, Problem};

/// How long, and for how many bytes, what the client sends is thrown away, so that it gets to read the answer instead of
/// seeing its connection reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// Tells a client by HTTP/1.1 what is wrong, and ends the connection.
pub(super) async fn tell(stream: &TcpStream, problem: Problem) {
    say(stream, problem);
    let _ = tokio::time::timeout(LINGER, drain(stream)).await;
}

/// The same without waiting for the client, which may miss it.
pub(super) fn say(stream: &TcpStream, problem: Problem) {
    // A new socket has room for it. Where it doesn't, or the client has gone, nothing is lost that could be kept.
    let _ = stream.try_write(&answer(problem));
    let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}

async fn drain(stream: &TcpStream) {
    let mut thrown_away = [0; 4096];
    let mut bytes = 0;
    while bytes < LINGER_BYTES && stream.readable().await.is_ok() {
        match stream.try_read(&mut thrown_away) {
            Ok(read @ 1..) => bytes += read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn answer(problem: Problem) -> Vec<u8> {
    let context = RequestContext::of(&HeaderMap::new(), Authority::new(None));
    let status = problem.status();
    let retry_after = problem.header(&header::RETRY_AFTER).map(|value| format!("retry-after: {value}\r\n"));
    // Strings and numbers: this can't fail.
    let body = serde_json::to_string(&problem.body(context.correlation_id())).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\nx-correlation-id: {}\r\n{}connection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        context.correlation_id(),
        retry_after.unwrap_or_default(),
        body.len()
    )
    .into_bytes()
}
