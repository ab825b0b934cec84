//! Each page as it looks, in the build folder, for people to look at. What a machine can see of it is checked here.

use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::keys::KeyFile;
use crate::harness::{Backend, TestServer};

use super::register_real_nodes;

/// Whether a page is wider than its window: on a phone one would have to move it from side to side.
const FITS: &str = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";

/// Texts that stand out too little from what is behind them: less than 4.5 to 1 (WCAG 2.2, success criterion 1.4.3).
const PALE: &str = "
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const part = (c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const behind = (element) => {
        const color = numbers(getComputedStyle(element).backgroundColor);
        return color.length === 3 || color[3] === 1 ? color : behind(element.parentElement);
    };
    const contrast = (element, color) => {
        const [low, high] = [light(numbers(color)), light(behind(element))].sort((one, other) => one - other);
        return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const element = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.closest('noscript')) continue;
        const style = getComputedStyle(element);
        found.push([contrast(element, element.closest('svg') ? style.fill : style.color), walk.currentNode.data]);
    }
    for (const input of document.querySelectorAll('input[placeholder]')) {
        found.push([contrast(input, getComputedStyle(input, '::placeholder').color), input.placeholder]);
    }
    return [found.length > 5, found.filter(([ratio]) => !(ratio >= 4.5))];";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_fits_a_desk_and_a_phone_and_can_be_read_in_dark_and_light() {
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
                assert_eq!(browser.run(PALE).await, json!([true, []]), "{name} {scheme} {device}");
                browser.screenshot(&format!("{name}-{scheme}-{device}")).await;
            }
            grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor").await);
        }
        assert_ne!(grounds[0], grounds[1], "{name}");
        // Whoever can't see it is told what each thing is, and where.
        let things = "a, button, input, select, summary, nav, [role], pre[tabindex], section[aria-labelledby], ol[tabindex]";
        let unnamed = format!(
            ":is({things}):not([hidden], [role=status], [role=alert], [role=alert] *, dialog *, details:not([open]) > :not(summary))"
        );
        assert_eq!(browser.nameless(&unnamed).await, Vec::<Value>::new(), "{name}");
        let order = "
            const levels = [...document.querySelectorAll('h1, h2, h3')].filter((one) => one.checkVisibility()).map((one) => Number(one.tagName[1]));
            const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
            return [levels.filter((level) => level === 1).length, levels.every((level, n) => n === 0 || level <= levels[n - 1] + 1),
                document.querySelectorAll('main').length, ids.length - new Set(ids).size];";
        assert_eq!(browser.run(order).await, json!([1, true, 1, 0]), "{name}");
    }
    // The last column of the widest table, where there is little room.
    for width in [1000, 360] {
        browser.look("light", width).await;
        browser.go(&format!("{}/#/", server.url)).await;
        browser.until("document.querySelector('table.by-type')").await;
        // It is named above the column, or, on a phone, in the cell.
        let cut = "
            const box = document.querySelector('.tables .scroll');
            const cell = box.querySelector('td:last-child');
            const named = box.querySelector('thead').clientWidth > 1 || getComputedStyle(cell, '::before').content.includes('maintenance');
            return [box.scrollWidth - box.clientWidth, named];";
        assert_eq!(browser.run(cut).await, json!([0, true]), "{width}");
    }
    browser.close().await;
    guarded.stop().await;
    server.stop().await;
}
