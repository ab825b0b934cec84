//! The dashboard, in a real browser.

mod hands;
mod notices;
mod past;
mod pictures;
mod strangers;

use serde_json::{Value, json};

use crate::harness::browser::{Browser, key};
use crate::harness::keys::{KeyFile, secret};
use crate::harness::{Backend, TestServer, node};

const EFFECT: &str = r#"{"node_type":"effect"}"#;

/// The nodes of a real system.
const REAL: &str = include_str!("../data/onex_nodes.jsonl");

/// Registers the real nodes.
async fn register_real_nodes(server: &TestServer) {
    let nodes: Vec<Value> = REAL.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = server.post("/v1/batch/nodes", json!({"nodes": nodes})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// The row of a node in the table, as an expression.
fn row(id: &str) -> String {
    format!(
        "[...document.querySelectorAll('table.nodes tbody tr')].find((row) => row.querySelector('a').textContent === {})",
        json!(id)
    )
}

async fn is_live(browser: &Browser) {
    browser.until("document.getElementById('live').dataset.state === 'live'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_and_its_end_are_seen_without_a_reload() {
    let server = TestServer::start(Backend::Sqlite).await;
    register_real_nodes(&server).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    browser.until_it_says("50 nodes on this page").await;
    is_live(&browser).await;
    browser.run("window.loaded_once = true").await;
    server.register("a_new_node", EFFECT).await;
    browser.until(&row("a_new_node")).await;
    server.delete(&node("a_new_node")).await;
    browser.until(&format!("!{}", row("a_new_node"))).await;
    assert_eq!(browser.run("return window.loaded_once").await, true);

    browser.click("#nav-overview").await;
    browser.until("document.querySelector('.tile strong')?.textContent === '115'").await;
    server.register("a_new_node", EFFECT).await;
    browser.until("document.querySelector('.tile strong')?.textContent === '116'").await;
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_turns_the_row_stale() {
    let server = TestServer::start_with(Backend::Sqlite, &["--ttl=15s"]).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    browser.until_it_says("No nodes are registered yet.").await;
    server.put("/v1/nodes/mortal?alive=true", EFFECT).await;
    browser.until(&format!("{}?.dataset.status === 'healthy'", row("mortal"))).await;
    browser.until(&format!("{}?.dataset.status === 'stale'", row("mortal"))).await;
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_are_in_the_address_and_survive_a_reload() {
    let server = TestServer::start(Backend::Sqlite).await;
    register_real_nodes(&server).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    browser.until_it_says("50 nodes on this page").await;
    browser.type_into("#capabilities", "circuit_breaker_protection").await;
    browser.until("new URLSearchParams(location.hash.split('?')[1]).get('capabilities') === '{\"capabilities\":[\"circuit_breaker_protection\"]}'").await;
    browser.type_into("#node_id_prefix", "node_l").await;
    browser.until_it_says("1 node").await;
    let count = server.ids("capabilities=%7B%22capabilities%22%3A%5B%22circuit_breaker_protection%22%5D%7D&node_id_prefix=node_l").await;
    assert_eq!(count, ["node_llm_inference_effect"]);
    browser.reload().await;
    browser.until(&row("node_llm_inference_effect")).await;
    let values = "return ['capabilities', 'node_id_prefix'].map((id) => document.getElementById(id).value)";
    assert_eq!(browser.run(values).await, json!(["circuit_breaker_protection", "node_l"]));
    assert_eq!(browser.run("return document.querySelectorAll('table.nodes tbody tr').length").await, 1);

    // What is wrong with one is said, and what there isn't.
    browser.go(&format!("{}/#/nodes?version_req=junk", server.url)).await;
    browser.until("document.querySelector('.problem code')?.textContent === 'version_req'").await;
    browser.go(&format!("{}/#/nodes?node_version=9.9.9", server.url)).await;
    browser.until_it_says("No node matches.").await;
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_value_of_a_repeated_filter_is_in_the_form() {
    let server = TestServer::start(Backend::Sqlite).await;
    register_real_nodes(&server).await;
    let browser = Browser::open().await;
    let filters = "node_type=compute&node_type=reducer&node_version=1.0.0&node_version=1.1.0";
    browser.go(&format!("{}/#/nodes?{filters}&node_id=node_contract_validate_compute", server.url)).await;
    browser.until("document.querySelectorAll('table.nodes tbody tr').length === 1").await;
    browser.run("document.getElementById('node_id').value = ''").await;
    browser.type_into("#node_id_prefix", "node_").await;
    browser.until(&format!("location.hash === '#/nodes?node_id_prefix=node_&{filters}'")).await;
    let count = server.ids(&format!("node_id_prefix=node_&limit=1000&{filters}")).await.len();
    browser
        .until(&format!("document.querySelectorAll('table.nodes tbody tr').length === {}", count.min(50)))
        .await;
    let values = "return ['node_type', 'node_type-2', 'node_version', 'node_version-2'].map((id) => document.getElementById(id).value)";
    assert_eq!(browser.run(values).await, json!(["compute", "reducer", "1.0.0", "1.1.0"]));
    let types = browser.run("return [...new Set([...document.querySelectorAll('table.nodes tbody td:nth-child(2)')].map((cell) => cell.textContent))].sort()").await;
    assert_eq!(types, json!(["compute", "reducer"]));
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other_to_the_end_and_back() {
    let server = TestServer::start(Backend::Sqlite).await;
    register_real_nodes(&server).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    let ids = server.ids("limit=1000").await;
    for first in [&ids[0], &ids[50], &ids[100]] {
        browser.until(&format!("{} === document.querySelector('table.nodes tbody tr')", row(first))).await;
        if *first != ids[100] {
            browser.click("a[rel=next]").await;
        }
    }
    browser.until("!document.querySelector('a[rel=next]')").await;
    for first in [&ids[50], &ids[0]] {
        browser.click("a[rel=prev]").await;
        browser.until(&format!("{} === document.querySelector('table.nodes tbody tr')", row(first))).await;
    }
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_in_with_a_key_sees_what_it_may_see() {
    let keys = KeyFile::usual();
    let mut server = keys.serve(Backend::Sqlite, &[]).await;
    server.key = Some(secret("admin"));
    server.register("somebody", EFFECT).await;
    let browser = Browser::open().await;
    let page = format!("{}/#/node?node_id=somebody", server.url);
    browser.go(&page).await;
    browser.until_it_says("This registry asks for an API key.").await;
    assert_eq!(browser.run("return document.body.innerText.includes('effect')").await, false);
    browser.type_into("#key", "onex_wrong\u{E007}").await;
    browser.until_it_says("That key is not valid.").await;
    browser.run("document.getElementById('key').value = ''").await;
    browser.type_into("#key", &secret("reader")).await;
    browser.press(&["\u{E007}"]).await;
    browser.until_it_says("effect").await;
    is_live(&browser).await;
    let kept = "return [sessionStorage.length, localStorage.length, document.cookie, document.documentElement.outerHTML.includes('onex_secret')]";
    assert_eq!(browser.run(kept).await, json!([0, 0, "", false]), "it is in memory, and nowhere else");

    browser.until_it_says("It needs a key with the role write").await;
    browser.click("#deregister").await;
    browser.click("#deregister-now").await;
    browser.until_it_says("Your key may not do that").await;
    browser.press(&[key::ESCAPE]).await;
    browser.until_it_says("Your key may not deregister this node.").await;
    assert_eq!(browser.run("return document.getElementById('deregister')").await, Value::Null);
    assert_eq!(server.get(&node("somebody")).await.status, 200);

    browser.reload().await;
    browser.click("#keep").await;
    browser.type_into("#key", &secret("writer")).await;
    browser.click("form button").await;
    browser.until_it_says("effect").await;
    browser.reload().await;
    browser.click("#deregister").await;
    browser.click("#deregister-now").await;
    browser.until("location.hash === '#/nodes'").await;
    assert_eq!(server.get(&node("somebody")).await.status, 404);
    browser.click("#sign-out").await;
    browser.until_it_says("This registry asks for an API key.").await;
    assert_eq!(browser.run("return sessionStorage.length").await, 0);
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_for_all_and_has_nothing_but_its_files() {
    let server = KeyFile::usual().serve(Backend::Sqlite, &[]).await;
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for file in ["app.js", "style.css", "icon.svg"] {
        let answer = server.get(&format!("/dashboard/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        assert!(
            answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"),
            "{file}"
        );
    }
    for path in ["/dashboard/nothing.js", "/dashboard/..%2Fdashboard.rs", "/dashboard/%00"] {
        server.get(path).await.problem(404, "unknown-path");
    }
    server.stop().await;
}

/// What was asked for with a key that is not shown any more comes late, and to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_user_was_reading_the_next_one_does_not_see() {
    let server = TestServer::start(Backend::Sqlite).await;
    register_real_nodes(&server).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    browser.until_it_says("50 nodes on this page").await;
    let seen = "
        return (async () => {
            const history = await import('/dashboard/history.js');
            history.forget();
            const real = window.fetch;
            let release;
            const held = new Promise((resolve) => { release = resolve; });
            window.fetch = async (...asked) => { await held; return real(...asked); };
            const before = history.changes(115).then(() => 'seen', (error) => error.name);
            history.forget();
            window.fetch = real;
            const after = (await history.changes(115)).events.length;
            release();
            return [await before, after, (await history.changes(115)).events.length];
        })()";
    assert_eq!(browser.run(seen).await, json!(["AbortError", 115, 115]));
    browser.close().await;
    server.stop().await;
}
