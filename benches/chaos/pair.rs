//! A primary and its synchronous standby.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::Mutex;

use crate::mortal::MortalCluster;

/// PostgreSQL writes to disk as it does by default. Times are short, so that a standby is back soon, and what is kept of the
/// log of changes is little enough for a small disk.
const SETTINGS: [&str; 8] = [
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "listen_addresses=*",
    "wal_retrieve_retry_interval=500ms",
    "wal_keep_size=96MB",
    "max_wal_size=160MB",
    "max_connections=100",
];
/// How long what has to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A statement that is answered once the database takes writes again, from whoever: its commit has to be written, and to
/// be with the standby.
const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'chaos', 'a commit')";

/// Both, and which of them is which. Whoever does something to one of them has its lock meanwhile.
pub(crate) struct Pair {
    pub(crate) primary: Mutex<MortalCluster>,
    pub(crate) standby: Mutex<MortalCluster>,
}

impl Pair {
    pub(crate) async fn start(primary: &Path, standby: &Path) -> anyhow::Result<Self> {
        let mut primary = MortalCluster::prepare_in(primary.to_owned(), &SETTINGS);
        // Servers come from namespaces of their own.
        let rules = primary.folder().join("data/pg_hba.conf");
        let text = std::fs::read_to_string(&rules)?;
        std::fs::write(&rules, format!("{text}\nhost all all 10.233.0.0/16 trust\n"))?;
        primary.come_back();
        let standby = primary.standby_in(standby.to_owned());
        require_standby(&primary, "*").await?;
        until_synchronous(&primary).await?;
        Ok(Self { primary: Mutex::new(primary), standby: Mutex::new(standby) })
    }

    /// The URL of both, by whatever name a server has for this machine.
    pub(crate) async fn url(&self, host: &str) -> String {
        let (one, two) = (self.primary.lock().await.port(), self.standby.lock().await.port());
        format!("postgres://postgres@{host}:{one},{host}:{two}/postgres")
    }

    /// The primary is gone for good, and the standby takes its place. Ends once that takes writes; it has no standby then.
    pub(crate) async fn fail_over(&self) -> anyhow::Result<()> {
        let (mut primary, mut standby) = (self.primary.lock().await, self.standby.lock().await);
        until_synchronous(&primary).await?;
        primary.be_killed();
        execute(&standby, "SELECT pg_promote(true, 60)").await?;
        std::mem::swap(&mut *primary, &mut *standby);
        require_standby(&primary, "").await?;
        until_it_commits(&primary).await
    }

    /// A standby that is dead is made anew.
    pub(crate) async fn tidy_up(&self) -> anyhow::Result<()> {
        let (primary, mut standby) = (self.primary.lock().await, self.standby.lock().await);
        if standby.has_ended() {
            tokio::task::block_in_place(|| standby.come_back_as_standby_of(&primary));
            require_standby(&primary, "*").await?;
        }
        until_synchronous(&primary).await
    }
}

/// Waits until a primary takes writes from anybody.
pub(crate) async fn until_it_commits(primary: &MortalCluster) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(PATIENCE, execute(primary, COMMIT)).await.context("no commit ends")? {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error).context("it takes no writes"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Waits until what a primary acknowledges is with its standby, too.
async fn until_synchronous(primary: &MortalCluster) -> anyhow::Result<()> {
    let begun = Instant::now();
    let query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    loop {
        // What fails, fails because the primary isn't there yet.
        if let Ok(mut connection) = connect(primary).await
            && matches!(sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await, Ok(1))
        {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the standby is not attached");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Which standbys a commit waits for. Not waited for here.
async fn require_standby(primary: &MortalCluster, which: &str) -> anyhow::Result<()> {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{which}'");
    execute(primary, &set).await?;
    execute(primary, "SELECT pg_reload_conf()").await
}

/// A connection of a program that is not ours.
pub(crate) async fn connect(cluster: &MortalCluster) -> anyhow::Result<PgConnection> {
    Ok(PgConnection::connect(&cluster.url()).await?)
}

async fn execute(cluster: &MortalCluster, statements: &str) -> anyhow::Result<()> {
    let mut connection = connect(cluster).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
