//! What faults happen to: a pair of PostgreSQL servers with two registries, and one registry on SQLite; their disks and
//! networks. All of it is gone with this, and what this machine doesn't permit is said.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use sqlx::Connection as _;

use crate::book::Book;
use crate::client::Site;
use crate::cluster;
use crate::disk::Disk;
use crate::link::Link;
use crate::pair::Pair;
use crate::rules::Down;
use crate::servers::Server;

/// Room for a cluster, and for what a run writes.
const CLUSTER_MEBIBYTES: u64 = 700;
/// Room for an SQLite file, and for what a run writes.
const FILE_MEBIBYTES: u64 = 64;
const PORT: u16 = 8080;

/// Fields are dropped in this order: who uses something goes before it.
pub(crate) struct Stage {
    /// On PostgreSQL.
    pub(crate) fleet: Arc<Site>,
    /// On SQLite.
    pub(crate) file: Arc<Site>,
    pub(crate) pair: Pair,
    /// Of the two clusters; none where there is none to be mounted.
    pub(crate) disks: Vec<Disk>,
    pub(crate) file_disk: Option<Disk>,
    /// Of the two servers on PostgreSQL; none where namespaces are not permitted.
    pub(crate) links: Vec<Link>,
    /// What can't be done here, and why.
    pub(crate) missing: Vec<String>,
    /// When a server was not there, by site. A std mutex, held for a push.
    fleet_downs: Mutex<Vec<Down>>,
    file_downs: Mutex<Vec<Down>>,
    folder: Folder,
}

impl Stage {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let path = folder.0.as_path();
        let mut missing = Vec::new();
        let disks: Vec<Disk> = (0..2)
            .map(|n| Disk::in_a_file(&path.join(format!("disk-{n}")), CLUSTER_MEBIBYTES))
            .collect::<anyhow::Result<_>>()
            .unwrap_or_else(|error| none(&mut missing, "a full disk of PostgreSQL", &error));
        let file_disk = Disk::in_memory(&path.join("file"), FILE_MEBIBYTES)
            .map_err(|error| missing.push(format!("a full disk of SQLite: {error:#}")))
            .ok();
        let links: Vec<Link> = (0..2)
            .map(Link::make)
            .collect::<anyhow::Result<_>>()
            .unwrap_or_else(|error| none(&mut missing, "a bad network", &error));
        let home = |n: usize| disks.get(n).map_or_else(|| path.to_owned(), |disk| disk.folder.clone());
        let pair = Pair::start(&home(0).join("cluster-0"), &home(1).join("cluster-1")).await?;
        let began = Instant::now();
        let mut servers = Vec::new();
        for number in 0..2 {
            let link = links.get(number);
            let address = match link {
                Some(link) => SocketAddr::from((link.server, PORT)),
                None => free_address()?,
            };
            let database = link.map_or(Ipv4Addr::LOCALHOST, |link| link.database).to_string();
            let (namespace, url) = (link.map(|link| link.namespace.as_str()), pair.url(&database).await);
            servers.push(Arc::new(Server::new(number, address, namespace, url, path)));
        }
        let file = path.join("file");
        std::fs::create_dir_all(&file)?;
        let url = format!("sqlite://{}", file.join("registry.db").display());
        let alone = vec![Arc::new(Server::new(2, free_address()?, None, url, path))];
        Ok(Self {
            fleet: Arc::new(Site { name: "PostgreSQL", servers, book: Book::new(began) }),
            file: Arc::new(Site { name: "SQLite", servers: alone, book: Book::new(began) }),
            pair,
            disks,
            file_disk,
            links,
            missing,
            fleet_downs: Mutex::default(),
            file_downs: Mutex::default(),
            folder,
        })
    }

    pub(crate) fn sites(&self) -> [&Arc<Site>; 2] {
        [&self.fleet, &self.file]
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.sites().into_iter().flat_map(|site| &site.servers)
    }

    /// Copies the servers' logs to where they stay, and says where.
    pub(crate) fn keep_logs(&self) -> anyhow::Result<PathBuf> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos");
        std::fs::create_dir_all(&folder)?;
        for server in self.servers() {
            let log = server.log();
            std::fs::copy(&log, folder.join(log.file_name().context("a log has a name")?))?;
        }
        Ok(folder)
    }

    /// When servers of a site were not there.
    pub(crate) fn downs(&self, site: &Site) -> MutexGuard<'_, Vec<Down>> {
        let downs = if site.name == self.fleet.name { &self.fleet_downs } else { &self.file_downs };
        downs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What SQLite finds wrong with its file, which no server has open.
    pub(crate) async fn integrity(&self) -> anyhow::Result<Option<String>> {
        let file = self.folder.0.join("file/registry.db");
        let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
        let found: String = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(&mut connection)
            .await
            .context("no check")?;
        connection.close().await?;
        Ok((found != "ok").then_some(found))
    }
}

/// What there is instead of something that can't be had.
fn none<T>(missing: &mut Vec<String>, what: &str, why: &anyhow::Error) -> Vec<T> {
    missing.push(format!("{what}: {why:#}"));
    Vec::new()
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Where all lies. Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let path = cluster::folder("onex-registry-chaos");
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
