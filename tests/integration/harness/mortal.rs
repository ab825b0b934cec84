//! A cluster of its own for one test, which can die and come back, and be stopped in the middle of what it does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};

use super::cluster::{self, Owner};

/// What the tests run with: nothing is worth more to them than speed.
const OF_THE_TESTS: [&str; 2] = ["fsync=off", "full_page_writes=off"];

/// A PostgreSQL that a test has for itself, with one database. It is gone with this value.
pub(crate) struct MortalCluster {
    folder: PathBuf,
    owner: Option<Owner>,
    port: u16,
    settings: Vec<String>,
    /// `None` while it is dead.
    postgres: Option<Child>,
    /// Those who see to its end if this process ends first.
    watchdogs: Vec<Child>,
}

impl MortalCluster {
    /// It lives.
    pub(crate) fn start() -> Self {
        let mut cluster = Self::prepare();
        cluster.come_back();
        cluster
    }

    /// It is made, and has never lived.
    pub(crate) fn prepare() -> Self {
        Self::prepare_in(new_folder(), &OF_THE_TESTS)
    }

    /// The same in a folder that is made for it, with settings of its own.
    pub(crate) fn prepare_in(folder: PathBuf, settings: &[&str]) -> Self {
        let owner = cluster::make(&folder);
        let settings = settings.iter().map(ToString::to_string).collect();
        Self { folder, owner, port: cluster::free_port(), settings, postgres: None, watchdogs: Vec::new() }
    }

    /// A standby of this one, which lives.
    pub(crate) fn standby(&self) -> Self {
        self.standby_in(new_folder())
    }

    /// The same in a folder that is made for it.
    pub(crate) fn standby_in(&self, folder: PathBuf) -> Self {
        let owner = cluster::copy(self.port, &folder);
        let (settings, watchdogs) = (self.settings.clone(), Vec::new());
        let mut standby =
            Self { folder, owner, port: cluster::free_port(), settings, postgres: None, watchdogs };
        standby.come_back();
        standby
    }

    /// This one, which is dead, lives again as a standby of another one, and has nothing left of its own.
    #[allow(dead_code, reason = "for scripts/chaos")]
    pub(crate) fn come_back_as_standby_of(&mut self, primary: &Self) {
        cluster::copy(primary.port, &self.folder);
        self.come_back();
    }

    #[allow(dead_code, reason = "for scripts/chaos")]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection of a program that is not ours.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// It dies as in a crash: all connections end at once.
    pub(crate) fn die(&mut self) {
        let mut postgres = self.postgres.take().expect("it lives");
        signal("QUIT", &[postgres.id()]);
        postgres.wait().unwrap();
    }

    /// All its processes are killed, and nothing is put in order.
    #[allow(dead_code, reason = "for scripts/chaos")]
    pub(crate) fn be_killed(&mut self) {
        // First none may make others.
        signal("STOP", &[self.pid()]);
        let processes = self.processes();
        let mut postgres = self.postgres.take().expect("it lives");
        signal("KILL", &processes);
        postgres.wait().unwrap();
    }

    /// Whether it has ended by itself. Then it is dead.
    #[allow(dead_code, reason = "for scripts/chaos")]
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.postgres.as_mut().is_none_or(|postgres| postgres.try_wait().unwrap().is_some());
        if ended {
            self.postgres = None;
        }
        ended
    }

    /// It lives again.
    pub(crate) fn come_back(&mut self) {
        assert!(self.postgres.is_none(), "it is dead");
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let (postgres, watchdog) = cluster::launch(&self.folder, self.owner, self.port, &settings);
        self.postgres = Some(postgres);
        self.watchdogs.push(watchdog);
    }

    /// None of its processes does anything any more, and no connection ends.
    pub(crate) fn freeze(&self) {
        // First the one that makes others.
        signal("STOP", &[self.pid()]);
        signal("STOP", &self.processes());
    }

    /// They go on.
    pub(crate) fn thaw(&self) {
        signal("CONT", &self.processes());
    }

    fn pid(&self) -> u32 {
        self.postgres.as_ref().expect("it lives").id()
    }

    fn processes(&self) -> Vec<u32> {
        let pid = self.pid();
        let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("ps can be run");
        let text = String::from_utf8(output.stdout).unwrap();
        let children = text.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse::<u32>);
            let (child, parent) = (fields.next()?.ok()?, fields.next()?.ok()?);
            (parent == pid).then_some(child)
        });
        std::iter::once(pid).chain(children).collect()
    }
}

impl Drop for MortalCluster {
    fn drop(&mut self) {
        if self.postgres.is_some() {
            self.thaw();
            self.die();
        }
        for watchdog in &mut self.watchdogs {
            // It waits for the end of its pipe, and has nothing left to kill.
            drop(watchdog.stdin.take());
            let _ = watchdog.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    cluster::folder(&format!("onex-registry-mortal-{number}"))
}

/// Some may have ended by themselves.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(ToString::to_string);
    let _ = Command::new("kill").args(["-s", name]).args(pids).output().expect("kill can be run");
}
