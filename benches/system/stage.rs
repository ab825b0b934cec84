//! What scenarios stand on: the cluster, databases with fleets in them, servers and references.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::cluster::{self, Cluster};
use crate::fleet::Fleet;
use crate::server::{Log, Server};

/// Our table as the design has it, and nothing else of ours.
const PLAIN_TABLE: &str = include_str!("../../migrations/postgres/0001_node_registrations.sql");

/// How thorough a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How often each pair is run.
    pub(crate) rounds: usize,
    /// How long a run under load takes.
    pub(crate) run: Duration,
    /// How long an idle server is watched.
    pub(crate) idle: Duration,
}

impl Pace {
    /// For figures. Idle long enough that what a server does once a minute is in it.
    pub(crate) const FULL: Self =
        Self { rounds: 5, run: Duration::from_secs(10), idle: Duration::from_secs(65) };
    /// To see that it works.
    pub(crate) const QUICK: Self =
        Self { rounds: 1, run: Duration::from_secs(2), idle: Duration::from_secs(5) };
}

/// A private cluster, and what has been made in it so far.
pub(crate) struct Stage {
    cluster: Cluster,
    folder: PathBuf,
    pub(crate) pace: Pace,
    /// Databases that others are copies of.
    templates: RefCell<Vec<String>>,
    copies: RefCell<Vec<String>>,
    /// So many runs of load have begun: each registers what no other does.
    runs: Cell<u32>,
}

/// A database in the cluster.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) fleet: Fleet,
}

impl Stage {
    /// The cluster writes to disk as PostgreSQL does by default: no setting is changed.
    pub(crate) fn set(pace: Pace) -> Self {
        let folder = cluster::folder("onex-registry-bench");
        let cluster = Cluster::start(&folder, &["fsync=on", "synchronous_commit=on"]);
        let (templates, copies) = Default::default();
        Self { cluster, folder, pace, templates, copies, runs: Cell::new(0) }
    }

    /// For files. It goes with the cluster.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A number that no other run has.
    pub(crate) fn next_run(&self) -> u32 {
        self.runs.set(self.runs.get() + 1);
        self.runs.get()
    }

    /// A database of its own with so many nodes, all alive, and all our migrations.
    pub(crate) async fn fleet(&self, nodes: usize) -> anyhow::Result<Database> {
        let template = format!("fleet_{nodes}");
        if !self.has(&template) {
            let database = self.create(&template, "template0", nodes).await?;
            let server = self.serve(&database, Log::Warn).await?;
            database.fleet.load(server.address).await?;
            server.stop().await?;
            self.settle(&template).await?;
        }
        self.copy(&template, nodes).await
    }

    /// The same nodes in the design's table with its five indexes, and nothing else.
    pub(crate) async fn plain(&self, nodes: usize) -> anyhow::Result<Database> {
        let template = format!("plain_{nodes}");
        if !self.has(&template) {
            let database = self.create(&template, "template0", nodes).await?;
            let mut connection = PgConnection::connect(&database.url).await?;
            sqlx::raw_sql(PLAIN_TABLE).execute(&mut connection).await?;
            for batch in database.fleet.batches() {
                sqlx::query(
                    "INSERT INTO node_registrations (node_id, node_type, node_version, capabilities, endpoints,
                                                     metadata, health_endpoint, last_heartbeat)
                     SELECT node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, now()
                       FROM jsonb_to_recordset($1::jsonb)
                         AS node (node_id text, node_type text, node_version text, capabilities jsonb,
                                  endpoints jsonb, metadata jsonb, health_endpoint text)",
                )
                .bind(batch.to_string())
                .execute(&mut connection)
                .await?;
            }
            connection.close().await?;
            self.settle(&template).await?;
        }
        self.copy(&template, nodes).await
    }

    /// Starts a server on a database, and waits until it is ready.
    pub(crate) async fn serve(&self, database: &Database, log: Log) -> anyhow::Result<Server> {
        Server::start(&database.url, log, &self.folder).await
    }

    /// Has PostgreSQL write out now what it would write out later, during somebody else's run.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        self.execute("postgres", "CHECKPOINT").await
    }

    /// Removes the databases that scenarios were given.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        for name in self.copies.take() {
            self.execute("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        }
        Ok(())
    }

    /// Runs statements in a database.
    pub(crate) async fn run_in(&self, database: &Database, sql: &str) -> anyhow::Result<()> {
        execute(&database.url, sql).await
    }

    fn has(&self, template: &str) -> bool {
        self.templates.borrow().iter().any(|name| name == template)
    }

    async fn create(&self, name: &str, template: &str, nodes: usize) -> anyhow::Result<Database> {
        self.execute("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        Ok(Database { url: self.url(name), fleet: Fleet::of(nodes)? })
    }

    async fn copy(&self, template: &str, nodes: usize) -> anyhow::Result<Database> {
        let name = format!("copy_{}", self.next_run());
        let database = self.create(&name, template, nodes).await?;
        self.copies.borrow_mut().push(name);
        Ok(database)
    }

    /// As a database is that has been in use for some time.
    async fn settle(&self, template: &str) -> anyhow::Result<()> {
        self.execute(template, "VACUUM (ANALYZE)").await?;
        self.templates.borrow_mut().push(template.to_owned());
        Ok(())
    }

    async fn execute(&self, database: &str, sql: &str) -> anyhow::Result<()> {
        execute(&self.url(database), sql).await
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.cluster.url)
    }
}

async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let statement = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(statement).execute(&mut connection).await.with_context(|| sql.to_owned())?;
    Ok(connection.close().await?)
}
