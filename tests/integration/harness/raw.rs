//! Requests byte for byte, for what no HTTP client would send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::TestServer;
use super::server::Answer;

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

impl TestServer {
    /// Sends a request line such as `GET /v1/nodes/..` as it is, with header fields and a body that are added as they
    /// are, on a connection of its own.
    pub(crate) async fn raw(&self, line: &str, fields: &[&str], body: &[u8]) -> Answer {
        let mut request = format!("{line} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n");
        for field in fields {
            request.push_str(field);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        self.bytes([request.as_bytes(), body].concat()).await
    }

    /// Sends bytes, keeps the connection open, and reads until the server closes it.
    pub(crate) async fn bytes(&self, request: Vec<u8>) -> Answer {
        let address = self.url.trim_start_matches("http://").to_owned();
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the server answers and closes the connection");
            answer
        };
        parse(&tokio::task::spawn_blocking(exchange).await.unwrap())
    }
}

fn parse(answer: &[u8]) -> Answer {
    let text = String::from_utf8(answer.to_vec()).expect("the answer is text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {text}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    Answer { status, headers, text: body.to_owned() }
}
