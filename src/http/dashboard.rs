//! The dashboard, at `/`: files that are part of the program. They hold nothing of the fleet, so anybody may load them;
//! what they show they ask of the API, with the key that the user has typed in.

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::page_headers;
use super::problem::Problem;

/// The paths, as the router knows them.
pub(super) const PAGES: [&str; 2] = ["/", "/dashboard/{file}"];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const PAGE: &str = include_str!("dashboard/index.html");

/// What the page loads: name, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("api.js", JAVASCRIPT, include_str!("dashboard/api.js")),
    ("app.js", JAVASCRIPT, include_str!("dashboard/app.js")),
    ("chart.js", JAVASCRIPT, include_str!("dashboard/chart.js")),
    ("dom.js", JAVASCRIPT, include_str!("dashboard/dom.js")),
    ("history.js", JAVASCRIPT, include_str!("dashboard/history.js")),
    ("icon.svg", SVG, include_str!("dashboard/icon.svg")),
    ("json.js", JAVASCRIPT, include_str!("dashboard/json.js")),
    ("live.js", JAVASCRIPT, include_str!("dashboard/live.js")),
    ("node.js", JAVASCRIPT, include_str!("dashboard/node.js")),
    ("nodes.js", JAVASCRIPT, include_str!("dashboard/nodes.js")),
    ("overview.js", JAVASCRIPT, include_str!("dashboard/overview.js")),
    ("sign_in.js", JAVASCRIPT, include_str!("dashboard/sign_in.js")),
    ("style.css", CSS, include_str!("dashboard/style.css")),
    ("time.js", JAVASCRIPT, include_str!("dashboard/time.js")),
    ("trail.js", JAVASCRIPT, include_str!("dashboard/trail.js")),
];

/// The page and its files.
pub(super) fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let [page, files] = PAGES;
    Router::new().route(page, get(async || answer(HTML, PAGE))).route(files, get(file))
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media_type, content)) => answer(media_type, content),
        None => Problem::unknown_path().into_response(),
    }
}

fn answer(media_type: &'static str, content: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, media_type)], content).into_response();
    page_headers::protect(response.headers_mut());
    response
}
