//! What is wrong with the registry is said above every page, and goes when it is well again.

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::mortal::MortalCluster;
use crate::harness::{Backend, TestServer, sql};
use crate::health::cut_off::{FLEET, fleet, heartbeats};
use crate::outages::SOON;

use super::{EFFECT, is_live, row};

const NO_NOTICE: &str = "document.querySelectorAll('#alerts .notice').length === 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_and_the_nodes_are_shown() {
    let mut cluster = MortalCluster::start();
    let server = TestServer::start_on(&cluster.url(), &SOON).await;
    server.register("a", EFFECT).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/", server.url)).await;
    browser.until("document.querySelector('.tile strong')?.textContent === '1'").await;
    browser.until(NO_NOTICE).await;
    cluster.die();
    browser.until_it_says("The registry is degraded: the database can't be reached").await;
    browser.until_it_says("Not known: ").await;
    assert_eq!(browser.run("return document.querySelector('.tile strong').textContent").await, "1");
    // Whoever can't see it is told, on the other pages too.
    let role = "return [document.getElementById('alerts').role, document.getElementById('alerts').ariaLive]";
    assert_eq!(browser.run(role).await, json!(["status", "polite"]));
    browser.click("#nav-nodes").await;
    browser.until(&row("a")).await;
    browser.until_it_says("The registry is degraded").await;
    cluster.come_back();
    browser.until(NO_NOTICE).await;
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn self_preservation_is_told_while_it_lasts() {
    let server = TestServer::start_with(Backend::Sqlite, &FLEET).await;
    let ids = fleet(&server, 12).await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/#/nodes", server.url)).await;
    browser.until_it_says("Self-preservation began").await;
    browser.until_it_says("Healthy now: 0 of 12 that take part.").await;
    sql::eventually("it ends when all are well", async || {
        heartbeats(&server, &ids).await;
        browser.run(&format!("return {NO_NOTICE}")).await == true
    })
    .await;
    browser.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_told_and_one_that_is_back_is_followed_again() {
    let server = TestServer::start(Backend::Sqlite).await;
    let url = server.url.clone();
    let browser = Browser::open().await;
    browser.go(&format!("{url}/#/nodes")).await;
    is_live(&browser).await;
    server.stop().await;
    browser.until("document.getElementById('live').dataset.state === 'away'").await;
    browser.until_it_says("The server can't be reached. What is shown may be old.").await;
    let listen = format!("--listen={}", url.trim_start_matches("http://"));
    let server = TestServer::start_with(Backend::Sqlite, &[&listen]).await;
    server.register("new", EFFECT).await;
    is_live(&browser).await;
    browser.until(&row("new")).await;
    browser.until(NO_NOTICE).await;
    browser.close().await;
    server.stop().await;
}
