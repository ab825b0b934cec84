//! What has been, as those see it who come later or whose clock is wrong.

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::{Backend, TestServer, sql};

use super::EFFECT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_the_page_just_now_sees_how_the_fleet_was() {
    let server = TestServer::start(Backend::Sqlite).await;
    sql::eventually("the nodes were counted", async || {
        server.get("/v1/summary/history").await.json()["since"].is_string()
    })
    .await;
    server.put("/v1/nodes/alive?alive=true", EFFECT).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/", server.url)).await;
    browser.until_it_says("Counted once a minute by the replica that answers, which began").await;
    // From none to one: up.
    browser.until("(() => { const points = document.querySelector('.chart .line')?.points; return points?.length >= 2 && points[0].y > points[points.length - 1].y; })()").await;
    browser.until("[...document.querySelectorAll('.chart')].some((chart) => chart.ariaLabel.startsWith('1 nodes are healthy now; in the time shown at least 0, at most 1'))").await;
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_right_on_a_machine_whose_clock_is_wrong_by_hours() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.put("/v1/nodes/alive?alive=true", EFFECT).await;
    let browser = Browser::open().await;
    for hours in [-7, 12] {
        // What is said twice adds up: 7 behind, then 5 ahead.
        browser.mistake_the_time(hours).await;
        browser.go("about:blank").await;
        browser.go(&format!("{}/#/nodes", server.url)).await;
        let wrong = "return Math.abs(Date.now() - new Date().getTime()) > 4 * 3600000";
        assert_eq!(browser.run(wrong).await, true);
        browser.until("document.querySelectorAll('table.nodes time').length === 2").await;
        let times = browser.run("return [...document.querySelectorAll('table.nodes time')].map((time) => /^(just now|\\d+ (s|min) ago)$/.test(time.textContent))").await;
        assert_eq!(times, json!([true, true]), "{hours}");
        browser.click("#nav-overview").await;
        browser.until("document.querySelector('.bar title')?.textContent.endsWith('1 to 0 min ago') || document.querySelector('.bar title')?.textContent.endsWith('2 to 1 min ago')").await;
    }
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_events_of_a_node_are_first_and_older_ones_come_when_asked_for() {
    let server = TestServer::start(Backend::Sqlite).await;
    // More than a page of the API has.
    for begin in [0, 600] {
        let version =
            |n| json!({"node_id": "old", "node_type": "effect", "node_version": format!("1.0.{n}")});
        let nodes: Vec<_> = (begin..begin + 600).map(version).collect();
        assert_eq!(server.post("/v1/batch/nodes", json!({"nodes": nodes})).await.status, 200);
    }
    let newest = server.get("/v1/nodes/old").await.json()["revision"].clone();
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/node?node_id=old", server.url)).await;
    let first = |revision| {
        format!("document.querySelector('.events li')?.textContent.endsWith('revision {revision}')")
    };
    browser.until(&first(newest)).await;
    let count = "return document.querySelectorAll('.events li').length";
    assert_eq!(browser.run(count).await, 100);
    browser.until_it_says("Older (1,100 more)").await;
    browser.run("document.getElementById('older').focus()").await;
    browser.click("#older").await;
    assert_eq!(browser.run(count).await, 200);
    assert_eq!(browser.run("return document.activeElement.id").await, "older", "whoever goes on goes on");

    let maintained = server.put("/v1/nodes/old/maintenance", json!({"reason": "disk"})).await.json();
    browser.until(&first(maintained["revision"].clone())).await;
    browser.until_it_says("Older (1,001 more)").await;
    browser.close().await;
    server.stop().await;
}
