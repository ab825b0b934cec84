//! A file of API keys, and a client that shows them.

use std::path::{Path, PathBuf};

use onex_registry::keys::Fingerprint;
use reqwest::Method;
use tempfile::TempDir;

use super::{Answer, Backend, TestServer};

/// A file of keys, in a folder of its own.
pub(crate) struct KeyFile {
    folder: TempDir,
}

/// The secret of the key with this name.
pub(crate) fn secret(name: &str) -> String {
    format!("onex_secret-of-{name}")
}

/// A key for the file; `more` are more lines, such as its patterns.
pub(crate) fn entry(name: &str, role: &str, more: &str) -> String {
    let digest = Fingerprint::of(secret(name).as_bytes()).to_hex();
    format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nroles = [\"{role}\"]\n{more}\n")
}

impl KeyFile {
    pub(crate) fn of(entries: &[String]) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.write(&entries.concat());
        file
    }

    /// The keys `reader`, `writer`, `admin`, and `billing`, which may change `billing-*`.
    pub(crate) fn usual() -> Self {
        Self::of(&[
            entry("reader", "read", ""),
            entry("writer", "write", ""),
            entry("admin", "admin", ""),
            entry("billing", "write", "node_ids = [\"billing-*\"]"),
        ])
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keys.toml")
    }

    pub(crate) fn write(&self, content: &str) {
        std::fs::write(self.path(), content).unwrap();
    }

    /// A server that has these keys.
    pub(crate) async fn serve(&self, backend: Backend, arguments: &[&str]) -> TestServer {
        let file = format!("--api-keys-file={}", self.path().display());
        TestServer::start_with(backend, &[&[file.as_str()], arguments].concat()).await
    }
}

impl TestServer {
    /// A request of the client that has the key with this name, or none.
    pub(crate) async fn ask_as(&self, name: Option<&str>, method: Method, path: &str, body: &str) -> Answer {
        let shown = name.map(|name| format!("Bearer {}", secret(name)));
        let headers: Vec<(&str, &str)> =
            shown.iter().map(|shown| ("authorization", shown.as_str())).collect();
        self.send(method, path, body.to_owned(), &headers).await
    }

    pub(crate) async fn get_as(&self, name: &str, path: &str) -> Answer {
        self.ask_as(Some(name), Method::GET, path, "").await
    }
}
