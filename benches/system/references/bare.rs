//! The least that a server written with axum can do: a route, a handler, and bytes that are there already.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use serde_json::{Value, json};

use crate::client::{Connection, request};

/// An answer of the server, to be given again.
pub(crate) struct Captured {
    headers: Vec<(String, String)>,
    body: String,
}

impl Captured {
    /// What a server answers.
    pub(crate) async fn of(address: SocketAddr, target: &str) -> anyhow::Result<Self> {
        let answer = Connection::open(address).await?.send(request(Method::GET, target, "")).await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "{target}: {}", answer.status());
        let (parts, body) = answer.into_parts();
        // hyper makes these itself.
        let made = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING];
        let fields = parts.headers.iter().filter(|(name, _)| !made.contains(name));
        let headers = fields
            .map(|(name, value)| Ok((name.as_str().to_owned(), value.to_str()?.to_owned())))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { headers, body: String::from_utf8(body.collect().await?.to_bytes().into())? })
    }

    /// How many nodes are on the page.
    pub(crate) fn nodes(&self) -> anyhow::Result<usize> {
        let page: Value = serde_json::from_str(&self.body)?;
        Ok(page["nodes"].as_array().context("no page")?.len())
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let Self { headers, body } = self;
        Ok(std::fs::write(file, json!({ "headers": headers, "body": body }).to_string())?)
    }

    fn read(file: &Path) -> anyhow::Result<(HeaderMap, Bytes)> {
        let value: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let mut headers = HeaderMap::new();
        for field in value["headers"].as_array().context("no header fields")? {
            let text = |index: usize| field[index].as_str().context("no text");
            headers.insert(HeaderName::try_from(text(0)?)?, HeaderValue::try_from(text(1)?)?);
        }
        Ok((headers, Bytes::from(value["body"].as_str().context("no body")?.to_owned())))
    }
}

/// The answer of a file, as a page and as a node.
pub(super) fn router(file: &Path) -> anyhow::Result<Router> {
    let (headers, body) = Captured::read(file)?;
    let answer = move || {
        let answer = (headers.clone(), body.clone());
        async move {
            // The server logs a line per request too.
            tracing::info!(method = "GET", route = "/v1/nodes", status = 200, "request");
            answer
        }
    };
    Ok(Router::new().route("/v1/nodes", get(answer.clone())).route("/v1/nodes/{node_id}", get(answer)))
}
