//! Connections to the database, as long as its files are those that were opened.
//!
//! A file that is removed or replaced while it is open goes on to be written to, and is gone with the last process that has
//! it open (unlink(2); sqlite.org/howtocorrupt.html, section 2.4). Who looks finds that out; SQLite doesn't.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;

/// A pool that lends nothing once the files have gone.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    inner: SqlitePool,
    files: Arc<[Opened]>,
}

/// A file, and which one it was when it was opened.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Pool {
    pub(super) fn of(inner: SqlitePool, files: &Files) -> Self {
        Self { inner, files: Arc::clone(&files.0) }
    }

    /// A connection, for a moment.
    ///
    /// # Errors
    /// If there is none in time, or a file is not the one that was opened.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        // A system call per file, which doesn't wait for the disk: what is open is known to the system.
        self.files.iter().try_for_each(Opened::is_there)?;
        self.inner.acquire().await
    }

    pub(super) fn idle(&self) -> u32 {
        u32::try_from(self.inner.num_idle()).unwrap_or(u32::MAX)
    }

    pub(super) fn size(&self) -> u32 {
        self.inner.size()
    }

    pub(super) fn max(&self) -> u32 {
        self.inner.options().get_max_connections()
    }

    pub(super) async fn close(&self) {
        self.inner.close().await;
    }
}

/// The files of a database, as they were opened.
pub(super) struct Files(Arc<[Opened]>);

impl Files {
    /// Those of these that there are.
    pub(super) fn opened(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().filter_map(|path| Opened::now(&path).ok()).collect())
    }
}

impl Opened {
    fn now(path: &Path) -> io::Result<Self> {
        let found = metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn is_there(&self) -> io::Result<()> {
        let is_it =
            Self::now(&self.path).is_ok_and(|now| (now.device, now.inode) == (self.device, self.inode));
        if is_it {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} was removed or replaced while it was in use: what is written would be lost; put it back, or start the \
             server again",
            self.path.display()
        )))
    }
}
