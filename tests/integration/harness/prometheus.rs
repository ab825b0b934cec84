//! A real Prometheus, which has to be installed. It reads what is to be scraped from a server, and scrapes it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::waiting::Waiting;

/// It ends with this value.
pub(crate) struct Prometheus {
    process: Child,
    address: String,
    folder: TempDir,
}

impl Prometheus {
    /// With these jobs, as its `scrape_configs` have them.
    pub(crate) async fn start(jobs: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        let global = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n";
        std::fs::write(&file, format!("{global}{jobs}")).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        // It takes no port 0. Whoever takes this one meanwhile makes the test fail, and not lie.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let process = Command::new(program())
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus can be run");
        let prometheus = Self { process, address, folder };
        let waiting = Waiting::begin();
        while prometheus.get("/-/ready").await.is_none() {
            waiting.look_again(|| "Prometheus is ready".to_owned()).await;
        }
        prometheus
    }

    /// The body of an answer, if that is 200.
    async fn get(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await.ok()?;
        if answer.status() == 200 { answer.text().await.ok() } else { None }
    }

    /// What it has said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn data(&self, path: &str) -> Value {
        let text = self.get(path).await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["data"].take()
    }

    /// The targets that it scrapes now.
    pub(crate) async fn targets(&self) -> Vec<Value> {
        self.data("/api/v1/targets?state=active").await["activeTargets"].as_array().unwrap().clone()
    }

    /// Its targets, once they are as wanted.
    pub(crate) async fn targets_until(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let waiting = Waiting::begin();
        loop {
            let targets = self.targets().await;
            if wanted(&targets) {
                return targets;
            }
            waiting.look_again(|| format!("the targets: {targets:?}; {}", self.log())).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// On the PATH, or where `scripts/test` puts it.
fn program() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .chain([tools])
        .map(|folder| folder.join("prometheus"))
        .find(|program| program.is_file())
        .expect("the tests need Prometheus. Install it, or run ./scripts/test, which unpacks it from Debian's package")
}
