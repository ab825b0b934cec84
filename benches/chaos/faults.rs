//! The faults: each is begun, lasts for some time, and ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::client::Site;
use crate::dice::Dice;
use crate::load;
use crate::mortal::MortalCluster;
use crate::pair::{connect, until_it_commits};
use crate::rules::Down;
use crate::servers::Server;
use crate::stage::Stage;

/// How long what has to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// What can be done to the servers, to their database, and to what lies in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL of a server, which is started again
    ServerKill,
    /// SIGTERM of a server, which is started again
    ServerStop,
    /// SIGKILL of all processes of the primary, which is started again
    PrimaryKill,
    /// SIGSTOP of all processes of the primary, for 2 to 8 seconds
    PrimaryFreeze,
    /// SIGSTOP of all processes of the standby, for 2 to 8 seconds: commits wait
    StandbyFreeze,
    /// The primary is killed, the standby promoted, and the old primary made anew as its standby
    Promotion,
    /// The primary's disk is full, data and log
    DiskFull,
    /// No packet passes between a server and the database
    LinkCut,
    /// One of five packets between a server and the database is lost, in either direction
    PacketsLost,
    /// Packets between a server and the database are late
    PacketsLate,
    /// A foreign transaction holds the rows of two nodes
    RowsHeld,
    /// A foreign transaction holds the whole table
    TableHeld,
    /// All connections of the servers are ended by the database, several times
    BackendsEnded,
    /// SIGKILL of the server on SQLite, which is started again
    FileServerKill,
    /// The disk of the server on SQLite is full
    FileDiskFull,
}

/// What a fault happens to. Two at once are of different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Server,
    Link,
    Primary,
    Standby,
    File,
}

impl Fault {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn goes_with(self, other: Self) -> bool {
        !self.places().iter().any(|place| other.places().contains(place))
    }

    /// Whether the server on SQLite is what it happens to.
    pub(crate) fn is_of_the_file(self) -> bool {
        self.places() == [Place::File]
    }

    /// How long it may take, after its end, until a write is acknowledged.
    pub(crate) fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::PrimaryFreeze | Self::StandbyFreeze | Self::LinkCut => 4,
            // A server has to start, too.
            Self::Promotion | Self::ServerKill | Self::ServerStop | Self::FileServerKill => 5,
            _ => 2,
        })
    }

    /// Why it can't be done here.
    pub(crate) fn is_missing(self, stage: &Stage) -> bool {
        match self {
            Self::DiskFull => stage.disks.is_empty(),
            Self::LinkCut | Self::PacketsLost | Self::PacketsLate => stage.links.is_empty(),
            Self::FileDiskFull => stage.file_disk.is_none(),
            _ => false,
        }
    }

    fn places(self) -> &'static [Place] {
        match self {
            Self::ServerKill | Self::ServerStop => &[Place::Server],
            Self::LinkCut | Self::PacketsLost | Self::PacketsLate => &[Place::Link],
            Self::PrimaryKill
            | Self::PrimaryFreeze
            | Self::DiskFull
            | Self::RowsHeld
            | Self::TableHeld
            | Self::BackendsEnded => &[Place::Primary],
            Self::StandbyFreeze => &[Place::Standby],
            Self::Promotion => &[Place::Primary, Place::Standby],
            Self::FileServerKill | Self::FileDiskFull => &[Place::File],
        }
    }

    /// Has it happen, and says when it was over: when the database could take writes from anybody, or when the server was
    /// started.
    pub(crate) async fn happen(self, stage: &Stage, mut dice: Dice) -> anyhow::Result<u64> {
        let which = dice.below(2);
        let now = || stage.fleet.book.now();
        match self {
            Self::ServerKill => return restart(stage, &stage.fleet, which, false).await,
            Self::ServerStop => return restart(stage, &stage.fleet, which, true).await,
            Self::FileServerKill => return restart(stage, &stage.file, 0, false).await,
            Self::PrimaryKill => {
                let mut primary = stage.pair.primary.lock().await;
                primary.be_killed();
                between(&mut dice, 500, 3_000).await;
                tokio::task::block_in_place(|| primary.come_back());
                until_it_commits(&primary).await?;
            }
            Self::PrimaryFreeze => {
                let primary = stage.pair.primary.lock().await;
                primary.freeze();
                between(&mut dice, 2_000, 8_000).await;
                primary.thaw();
                until_it_commits(&primary).await?;
            }
            Self::StandbyFreeze => {
                let standby = stage.pair.standby.lock().await;
                standby.freeze();
                between(&mut dice, 2_000, 8_000).await;
                standby.thaw();
                drop(standby);
                until_it_commits(&*stage.pair.primary.lock().await).await?;
            }
            Self::Promotion => stage.pair.fail_over().await?,
            Self::DiskFull => fill(stage, &mut dice).await?,
            Self::LinkCut | Self::PacketsLost | Self::PacketsLate => {
                let link = stage.links.get(which).context("there is no network to spoil")?;
                match self {
                    Self::LinkCut => link.cut()?,
                    Self::PacketsLost => link.lose(20)?,
                    _ => eprintln!("   packets are late by {}", link.delay()?),
                }
                between(&mut dice, 2_000, 8_000).await;
                link.heal()?;
            }
            Self::RowsHeld => {
                let (one, two) = (load::ids(dice.below(8)), load::ids(dice.below(8)));
                let rows = format!(
                    "SELECT 1 FROM node_registrations WHERE node_id IN ('{}', '{}') FOR UPDATE",
                    one[dice.below(one.len())],
                    two[dice.below(two.len())]
                );
                hold(&*stage.pair.primary.lock().await, &rows, &mut dice).await?;
            }
            Self::TableHeld => {
                let table = "LOCK TABLE node_registrations IN ACCESS EXCLUSIVE MODE";
                hold(&*stage.pair.primary.lock().await, table, &mut dice).await?;
            }
            Self::BackendsEnded => end_backends(&*stage.pair.primary.lock().await).await?,
            Self::FileDiskFull => {
                let disk = stage.file_disk.as_ref().context("there is no disk to fill")?;
                disk.fill()?;
                between(&mut dice, 2_000, 6_000).await;
                disk.empty()?;
            }
        }
        Ok(now())
    }
}

/// Lets it last.
async fn between(dice: &mut Dice, least: usize, most: usize) {
    let millis = least + dice.below(most - least);
    tokio::time::sleep(Duration::from_millis(u64::try_from(millis).unwrap_or_default())).await;
}

/// A server goes, and comes back.
async fn restart(stage: &Stage, site: &Arc<Site>, which: usize, ask: bool) -> anyhow::Result<u64> {
    let server = &site.servers[which];
    let from = site.book.now();
    if ask {
        server.stop().await?;
    } else {
        server.kill()?;
    }
    server.start()?;
    let started = site.book.now();
    until_it_lives(server).await?;
    let down = Down { server: which, from, to: site.book.now(), was_asked: ask };
    stage.downs(site).push(down);
    Ok(started)
}

/// Waits until a server takes requests.
pub(crate) async fn until_it_lives(server: &Server) -> anyhow::Result<()> {
    let begun = Instant::now();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    let url = format!("http://{}/livez", server.address);
    while !client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
        anyhow::ensure!(!server.has_ended()?, "server {} has ended", server.number);
        anyhow::ensure!(begun.elapsed() < PATIENCE, "server {} doesn't live", server.number);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The primary has no room for data or log, until it has. It may give up meanwhile.
async fn fill(stage: &Stage, dice: &mut Dice) -> anyhow::Result<()> {
    let mut primary = stage.pair.primary.lock().await;
    let is_its = |folder: &std::path::Path| primary.folder().starts_with(folder);
    let disk = stage.disks.iter().find(|disk| is_its(&disk.folder)).context("there is no disk to fill")?;
    disk.fill()?;
    between(dice, 3_000, 7_000).await;
    disk.empty()?;
    let begun = Instant::now();
    loop {
        if primary.has_ended() {
            tokio::task::block_in_place(|| primary.come_back());
        }
        let commit = tokio::time::timeout(Duration::from_secs(2), until_it_commits(&primary));
        if let Ok(done) = commit.await {
            return done;
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the primary doesn't come back");
    }
}

/// A transaction of somebody else holds what it has.
async fn hold(primary: &MortalCluster, what: &str, dice: &mut Dice) -> anyhow::Result<()> {
    let mut connection = connect(primary).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {what}"))).execute(&mut connection).await?;
    between(dice, 2_000, 5_000).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// All who are connected are not any more, again and again.
async fn end_backends(primary: &MortalCluster) -> anyhow::Result<()> {
    let mut connection = connect(primary).await?;
    for _ in 0..5 {
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        .execute(&mut connection)
        .await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(connection.close().await?)
}
