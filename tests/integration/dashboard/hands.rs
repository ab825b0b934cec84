//! By keyboard alone, and on the page to try the API.

use crate::harness::browser::{Browser, key};
use crate::harness::{Backend, TestServer, node};

use super::EFFECT;

const FOCUSED: &str = "return document.activeElement.id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_can_be_done_by_keyboard() {
    let server = TestServer::start(Backend::Sqlite).await;
    for id in ["one", "other"] {
        server.register(id, EFFECT).await;
    }
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    browser.until_it_says("2 nodes").await;
    browser.press(&[key::TAB]).await;
    assert_eq!(browser.run(FOCUSED).await, "skip");
    browser.press(&[key::ENTER]).await;
    assert_eq!(browser.run(FOCUSED).await, "main");
    browser.press(&[key::TAB, "o", "n"]).await;
    browser.until_it_says("1 node").await;
    assert_eq!(browser.run(FOCUSED).await, "node_id_prefix", "whoever types goes on typing");
    browser.press(&["e"]).await;
    browser.until("location.hash.endsWith('=one')").await;

    browser.run("document.querySelector('table.nodes a').focus()").await;
    browser.press(&[key::ENTER]).await;
    browser.until("document.getElementById('deregister')").await;
    assert_eq!(browser.run(FOCUSED).await, "main", "a new page is read from its top");
    browser.run("document.getElementById('deregister').focus()").await;
    browser.press(&[key::ENTER]).await;
    browser.until("document.querySelector('dialog').open").await;
    browser.press(&[key::ESCAPE]).await;
    browser.until("!document.querySelector('dialog').open").await;
    assert_eq!(browser.run(FOCUSED).await, "deregister");
    assert_eq!(server.get(&node("one")).await.status, 200);
    browser.press(&[key::ENTER, key::TAB, key::ENTER]).await;
    browser.until("location.hash === '#/nodes'").await;
    assert_eq!(server.get(&node("one")).await.status, 404);
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_can_be_tried_out_in_swagger_ui() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.register("tried_out", EFFECT).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/swagger-ui/", server.url)).await;
    browser.click("#operations-overview-summarize button.opblock-summary-control").await;
    browser.click("#operations-overview-summarize button.execute").await;
    browser.until("document.querySelector('#operations-overview-summarize .live-responses-table')?.innerText.includes('\"nodes\": 1')").await;
    browser.screenshot("swagger-ui").await;
    // It would like to have styles in its elements, and does without.
    let others = |complaint: &String| !complaint.contains("Applying inline style violates");
    assert_eq!(
        browser.complaints().await.into_iter().filter(others).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    browser.end().await;
    server.stop().await;
}
