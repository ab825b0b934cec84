//! Each page as it looks, in the build folder, for people to look at. What a machine can see of it is checked here.

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::keys::KeyFile;
use crate::harness::{Backend, TestServer};

use super::register_real_nodes;

/// Whether a page is wider than its window: on a phone one would have to move it from side to side.
const FITS: &str = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_fits_a_desk_and_a_phone_in_dark_and_light() {
    let server = TestServer::start(Backend::Sqlite).await;
    register_real_nodes(&server).await;
    let mut ids = server.ids("limit=100").await;
    ids.truncate(92);
    server.post("/v1/batch/heartbeats", json!({"node_ids": ids})).await;
    let reason = json!({"reason": "disk swap"});
    server.put("/v1/nodes/node_auth_gate_compute/maintenance", reason).await;
    let guarded = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    let browser = Browser::open().await;
    for (name, url, sign) in [
        ("overview", format!("{}/#/", server.url), ".events li"),
        ("nodes", format!("{}/#/nodes", server.url), "table.nodes tbody tr"),
        ("node", format!("{}/#/node?node_id=node_auth_gate_compute", server.url), ".command"),
        ("sign-in", format!("{}/#/", guarded.url), "#key"),
    ] {
        let mut grounds = Vec::new();
        for scheme in ["dark", "light"] {
            for (device, width) in [("desk", 1280), ("phone", 360)] {
                browser.look(scheme, width).await;
                browser.go(&url).await;
                browser.until(&format!("document.querySelector({})", json!(sign))).await;
                assert_eq!(browser.run(FITS).await, true, "{name} {scheme} {device}");
                browser.screenshot(&format!("{name}-{scheme}-{device}")).await;
            }
            grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor").await);
        }
        assert_ne!(grounds[0], grounds[1], "{name}");
    }
    browser.close().await;
    guarded.stop().await;
    server.stop().await;
}
