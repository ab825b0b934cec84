//! A real browser: Chromium, driven by `chromedriver`, which has to be installed. What is said to it is the protocol
//! `WebDriver` (W3C Recommendation), as far as the tests need it: JSON over HTTP.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, header};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::waiting::Waiting;

/// What names an element in an answer (`WebDriver`, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys, as `WebDriver` writes them (section 17.4.2).
pub(crate) mod key {
    pub(crate) const ENTER: &str = "\u{E007}";
    pub(crate) const ESCAPE: &str = "\u{E00C}";
    pub(crate) const TAB: &str = "\u{E004}";
}

/// A browser with one window and a profile of its own. It ends with this value.
pub(crate) struct Browser {
    driver: Child,
    /// Ends the driver, if this process can't do it any more, too.
    watchdog: Child,
    client: reqwest::Client,
    session: String,
    /// Kept open: the driver may write to it.
    _stdout: BufReader<ChildStdout>,
    _profile: TempDir,
}

impl Browser {
    pub(crate) async fn open() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // In a group of processes of its own: the browser is started by the driver, and ends with it.
        let mut driver = Command::new(program("chromedriver"))
            .arg("--port=0")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver can be run");
        // At once: whatever comes next may be cut off.
        let watchdog = watchdog(driver.id(), profile.path());
        let mut stdout = BufReader::new(driver.stdout.take().unwrap());
        let reading = tokio::task::spawn_blocking(move || (port(&mut stdout), stdout));
        let (port, stdout) = reading.await.unwrap();
        let base = format!("http://127.0.0.1:{port}/session");
        let folder = format!("--user-data-dir={}", profile.path().display());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut browser =
            Self { driver, watchdog, client, session: String::new(), _stdout: stdout, _profile: profile };
        // Containers have neither what its sandbox needs, nor much of shared memory. It loads pages of ours only.
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900", &folder];
        let options = json!({"args": arguments});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let made = browser
            .send(Method::POST, &base, &json!({"capabilities": {"alwaysMatch": wanted}}))
            .await
            .unwrap();
        browser.session = format!("{base}/{}", made["sessionId"].as_str().unwrap());
        browser
    }

    async fn send(&self, method: Method, url: &str, body: &Value) -> Result<Value, String> {
        let mut request = self.client.request(method.clone(), url);
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let text = request.send().await.expect("the driver answers").text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        if answer["value"]["error"].is_string() { Err(text) } else { Ok(answer["value"].take()) }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.send(Method::POST, &format!("{}{path}", self.session), &body).await.unwrap()
    }

    pub(crate) async fn go(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    pub(crate) async fn reload(&self) {
        self.post("/refresh", json!({})).await;
    }

    /// What a piece of JavaScript returns. The driver puts it into the page, whatever the policy of that is.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let waiting = Waiting::begin();
        while self.run(&format!("return Boolean({expression})")).await != true {
            let page = self.run("return document.body.innerText").await;
            waiting.look_again(|| format!("{expression}, and the page says: {page}")).await;
        }
    }

    /// Waits until the page says this.
    pub(crate) async fn until_it_says(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Clicks what a selector of CSS finds first, once it is there.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Types into what a selector finds first.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// Types where the focus is.
    pub(crate) async fn press(&self, keys: &[&str]) {
        let down_and_up =
            |key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.iter().flat_map(down_and_up).collect();
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}))
            .await;
    }

    async fn element(&self, selector: &str) -> String {
        self.until(&format!("document.querySelector({})", json!(selector))).await;
        let found = self.post("/element", json!({"using": "css selector", "value": selector})).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// What has no name for who can't see it, of all that a selector finds: its HTML.
    pub(crate) async fn nameless(&self, selector: &str) -> Vec<Value> {
        let found = self.post("/elements", json!({"using": "css selector", "value": selector})).await;
        let mut nameless = Vec::new();
        for element in found.as_array().unwrap() {
            let url =
                format!("{}/element/{}/computedlabel", self.session, element[ELEMENT].as_str().unwrap());
            let label = self.send(Method::GET, &url, &Value::Null).await.unwrap();
            if label.as_str().unwrap().trim().is_empty() {
                let script = "return arguments[0].outerHTML";
                nameless.push(self.post("/execute/sync", json!({"script": script, "args": [element]})).await);
            }
        }
        nameless
    }

    /// Its clock goes wrong by so many hours, on each page that it opens from now on.
    pub(crate) async fn mistake_the_time(&self, hours: i32) {
        let source =
            format!("{{ const right = Date.now; Date.now = () => right.call(Date) + {hours} * 3600000; }}");
        let cmd = "Page.addScriptToEvaluateOnNewDocument";
        self.post("/goog/cdp/execute", json!({"cmd": cmd, "params": {"source": source}})).await;
    }

    /// What the page has complained of, such as what its policy forbids, but for answers that are no good ones.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({"type": "browser"})).await;
        let severe = log.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        let texts = severe.map(|entry| entry["message"].as_str().unwrap().to_owned());
        texts.filter(|text| !text.contains("Failed to load resource")).collect()
    }

    /// As somebody sees it who prefers `dark` or `light`, in a window of this width.
    pub(crate) async fn look(&self, scheme: &str, width: u32) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.post("/goog/cdp/execute", json!({"cmd": "Emulation.setEmulatedMedia", "params": media})).await;
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        let cmd = "Emulation.setDeviceMetricsOverride";
        self.post("/goog/cdp/execute", json!({"cmd": cmd, "params": metrics})).await;
    }

    /// Saves what is to be seen in the build folder.
    pub(crate) async fn screenshot(&self, name: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let url = format!("{}/screenshot", self.session);
        let png = self.send(Method::GET, &url, &Value::Null).await.unwrap();
        let file = folder.join(format!("{name}.png"));
        std::fs::write(&file, BASE64.decode(png.as_str().unwrap()).unwrap()).unwrap();
        file
    }

    /// Ends it. Whatever has to be true of every page is looked at here.
    pub(crate) async fn close(self) {
        assert_eq!(self.complaints().await, Vec::<String>::new(), "the page complains of nothing");
        self.end().await;
    }

    /// Ends it, whatever it complains of.
    pub(crate) async fn end(self) {
        self.send(Method::DELETE, &self.session, &Value::Null).await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its pipe is what the watchdog waits for.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        let _ = self.driver.wait();
    }
}

/// Waits for this process to end, even by SIGKILL, or for the browser to be dropped. Then it ends the driver with its
/// browser, and removes the profile, to which that may write for a moment still.
fn watchdog(driver: u32, profile: &Path) -> Child {
    let script = r#"read -r _; kill -s KILL -- "-$1"; rm -rf "$2" || { sleep 0.3; rm -rf "$2"; }"#;
    Command::new("sh")
        .args(["-c", script, "watchdog", &driver.to_string()])
        .arg(profile)
        // Ctrl-C is for the tests.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be run")
}

/// The port that the driver says it listens on.
fn port(stdout: &mut impl BufRead) -> u16 {
    stdout
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| {
            line.split_once("on port ").and_then(|(_, port)| port.trim_end_matches('.').parse().ok())
        })
        .find(|port| *port != 0)
        .expect("chromedriver listens")
}

fn program(name: &str) -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .expect("the tests need Chromium and its driver. Install them (apt-get install chromium chromium-driver), or run ./scripts/test, which does that")
}
