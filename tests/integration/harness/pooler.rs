//! A pooler in transaction mode between a server and its database: `PgBouncer`, which has to be installed.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::TestDatabase;
use super::cluster::{self, owner};
use super::sql::eventually;

/// It listens on a socket in a folder of its own, and ends with this value.
pub(crate) struct Pooler {
    process: Child,
    folder: TempDir,
    database: String,
}

impl Pooler {
    /// In front of a database, with so many connections to it.
    pub(crate) async fn start(database: &TestDatabase, connections: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = url::Url::parse(cluster::url()).unwrap();
        let settings = format!(
            "[databases]\n\
             * = host={} port={} user={} password={}\n\
             [pgbouncer]\n\
             listen_port = 6432\nunix_socket_dir = {}\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {connections}\nmax_client_conn = 500\nlogfile = {}\n",
            server.host_str().unwrap(),
            server.port().unwrap_or(5432),
            server.username(),
            server.password().unwrap_or("none"),
            folder.path().display(),
            folder.path().join("log").display(),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(program());
        // Like PostgreSQL, it refuses to run as root.
        if let Some((uid, gid)) = owner(folder.path()) {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
            chown(&file, Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let process = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer can be run");
        let socket = folder.path().join(".s.PGSQL.6432");
        eventually("PgBouncer listens", async || socket.exists()).await;
        Self { process, folder, database: database.name().to_owned() }
    }

    /// The database's URL through it.
    pub(crate) fn url(&self) -> String {
        let folder = super::encoded(&self.folder.path().display().to_string());
        format!("postgres://anybody@localhost:6432/{}?host={folder}", self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Debian puts it where only root's PATH leads.
fn program() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
        .expect("the tests need PgBouncer. Install it (apt-get install pgbouncer), or run ./scripts/test, which does that")
}
