//! Nodes that mean no good, or are large.

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::{Backend, TestServer, encoded, node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_node_does_nothing_and_can_be_seen_for_what_it_is() {
    let server = TestServer::start(Backend::Sqlite).await;
    let evil = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>";
    let turned = "safe\u{202E}live\u{2066}\u{200B}'; rm -rf / #";
    for id in [evil, turned] {
        let body = json!({
            "node_type": "effect", "capabilities": {evil: evil, "__proto__": {"x": 1}},
            "endpoints": {evil: "javascript:document.title='owned'", turned: turned, "web": "https://[::1]:8443/?a=<b>", "host": "localhost:50051"}, "metadata": {"a": [evil, turned]},
        });
        server.register(id, body).await;
        let reason = json!({"reason": evil});
        assert_eq!(server.put(&format!("{}/maintenance", node(id)), reason).await.status, 200);
    }
    let browser = Browser::open().await;
    let harm = "return [document.title.includes('owned'), document.querySelectorAll('main script, main img, main a[href^=javascript]').length]";
    for page in ["#/", "#/nodes"] {
        browser.go(&format!("{}/{page}", server.url)).await;
        browser.until_it_says("safe⟨U+202E⟩live⟨U+2066⟩⟨U+200B⟩").await;
        browser.until_it_says("<script>document.title").await;
        assert_eq!(browser.run(harm).await, json!([false, 0]), "{page}");
    }
    for id in [evil, turned] {
        browser.go(&format!("{}/#/node?node_id={}", server.url, encoded(id))).await;
        browser.until("document.querySelectorAll('.command').length === 6").await;
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
        browser.until_it_says("\"__proto__\": {").await;
        let marks = "return /[\\u202e\\u2066\\u200b]/.test(document.querySelector('main').textContent)";
        assert_eq!(browser.run(marks).await, false, "{id}");
        assert_eq!(browser.run("return document.querySelectorAll('main script, main img, main a[href^=javascript]').length").await, 0);
        let links =
            "return [...document.querySelectorAll('#main dd a')].map((link) => [link.href, link.rel])";
        assert_eq!(
            browser.run(links).await,
            json!([["https://[::1]:8443/?a=%3Cb%3E", "noopener noreferrer external"]])
        );
        let copied = browser.run("return [...document.querySelectorAll('.command')].map((one) => one.textContent.includes('⟨')).includes(true)").await;
        assert_eq!(copied, false, "a command is copied as it is seen");
        let command = browser.run("return document.querySelector('.command').textContent").await;
        assert_eq!(command, format!("curl '{}/v1/nodes/{}'", server.url, segment(id)));
    }
    for address in ["constructor", "__proto__", "/../", "%00?node_id=%"] {
        browser.go("about:blank").await;
        browser.go(&format!("{}/#{address}", server.url)).await;
        browser.until_it_says("There is no such page").await;
    }
    browser.close().await;
    server.stop().await;
}

/// As browsers encode it, and quotes and brackets too.
fn segment(id: &str) -> String {
    ["_", "-", "."].iter().fold(encoded(id), |text, kept| text.replace(&encoded(kept), kept))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_json_is_shown_whole_and_its_numbers_are_exact() {
    let server = TestServer::start(Backend::Sqlite).await;
    let word = "x".repeat(62_000);
    let exact = "1.10000000000000000000000000000000000001";
    let body = format!(
        r#"{{"node_type":"effect","metadata":{{"exact":{exact},"ten":1.10,"word":"{word}","deep":{}1{}}}}}"#,
        "[".repeat(30),
        "]".repeat(30)
    );
    server.register("large", body).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/node?node_id=large", server.url)).await;
    browser.click("details[data-column=metadata] summary").await;
    let text = "document.querySelector('details[data-column=metadata] pre').textContent";
    browser.until(&format!("{text}.includes('\"exact\": {exact}')")).await;
    browser.until(&format!("{text}.includes('\"ten\": 1.10')")).await;
    browser.until(&format!("{text}.includes('x'.repeat(62000))")).await;
    let fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    for width in [1280, 360] {
        browser.look("light", width).await;
        assert_eq!(browser.run(fits).await, true, "{width}");
    }
    browser.close().await;
    server.stop().await;
}
