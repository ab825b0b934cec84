//! A private PostgreSQL cluster on a free port, in a temporary folder, gone when the tests end, however they end. The
//! benchmark starts one too, with settings of its own.
//!
//! PostgreSQL refuses to run as root; then it runs as the user `postgres`, or as `nobody`. `TEST_DATABASE_URL` names a
//! server that is there already, and a role that may create databases and roles on it.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The URL of the server, without a database.
pub(crate) fn url() -> &'static str {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    &CLUSTER.get_or_init(Cluster::find_or_start).url
}

/// What the tests run with: speed is worth more to them than what they write.
const OF_THE_TESTS: [&str; 5] = [
    "fsync=off",
    "full_page_writes=off",
    "max_connections=300",
    "max_prepared_transactions=4",
    "deadlock_timeout=200ms",
];

pub(crate) struct Cluster {
    pub(crate) url: String,
    /// Holds the pipe that the watchdog waits at. It breaks when this process ends.
    _watchdog: Option<Child>,
}

impl Cluster {
    fn find_or_start() -> Self {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => {
                let mut parsed = url::Url::parse(&url).expect("TEST_DATABASE_URL is a URL");
                parsed.set_path("");
                Self { url: parsed.to_string().trim_end_matches('/').to_owned(), _watchdog: None }
            }
            Err(_) => Self::start(&folder("onex-registry-test"), &OF_THE_TESTS),
        }
    }

    /// Starts a cluster in a folder that is made for it, and goes with it.
    pub(crate) fn start(folder: &Path, settings: &[&str]) -> Self {
        let owner = make(folder);
        let port = free_port();
        let (_, watchdog) = launch(folder, owner, port, settings);
        Self { url: format!("postgres://postgres@127.0.0.1:{port}"), _watchdog: Some(watchdog) }
    }
}

/// A user and a group.
pub(super) type Owner = (u32, u32);

/// Makes a cluster in a folder, in place of what is there. Says who is to run it, if we may not.
pub(super) fn make(folder: &Path) -> Option<Owner> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir(folder).expect("the temporary folder is writable");
    let owner = owner(folder);
    if let Some((uid, gid)) = owner {
        chown(folder, Some(uid), Some(gid)).expect("root may give a folder away");
    }
    let mut initdb = program("initdb", folder, owner);
    initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    initdb.arg("-D").arg(folder.join("data"));
    let output = initdb.output().expect("initdb can be run");
    assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    owner
}

/// Makes a folder that has what the cluster at a port has, to be launched as its standby.
pub(super) fn copy(port: u16, folder: &Path) -> Option<Owner> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir(folder).expect("the temporary folder is writable");
    let owner = owner(folder);
    if let Some((uid, gid)) = owner {
        chown(folder, Some(uid), Some(gid)).expect("root may give a folder away");
    }
    let mut backup = program("pg_basebackup", folder, owner);
    backup.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
    backup.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
    backup.arg("-D").arg(folder.join("data"));
    let output = backup.output().expect("pg_basebackup can be run");
    assert!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
    owner
}

/// A port that is free now; whoever takes it before PostgreSQL does makes the start fail, loudly.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

/// Starts the cluster in a folder, and who sees to its end.
pub(super) fn launch(folder: &Path, owner: Option<Owner>, port: u16, settings: &[&str]) -> (Child, Child) {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut postgres = program("postgres", folder, owner);
    postgres.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1"].iter().chain(settings) {
        postgres.args(["-c", setting]);
    }
    let mut postgres = postgres
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for the tests; the watchdog sees to the rest.
        .process_group(0)
        .spawn()
        .expect("postgres can be run");
    let watchdog = watchdog(postgres.id(), folder);
    await_ready(&mut postgres, folder);
    (postgres, watchdog)
}

/// A program of PostgreSQL's, run by who may.
fn program(name: &str, folder: &Path, owner: Option<Owner>) -> Command {
    // Beside the server's programs, or somewhere else on the PATH: this one may be a client's.
    let path = programs().join(name);
    let mut command = Command::new(if path.exists() { path } else { name.into() });
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command.current_dir(folder).stdin(Stdio::null()).env_remove("PGDATA");
    command
}

/// A folder for this process.
pub(crate) fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{name}-{}", std::process::id()))
}

/// Waits for this process to end, even by SIGKILL, then stops the cluster and removes its folder.
fn watchdog(postgres: u32, folder: &Path) -> Child {
    let script =
        r#"read -r _; kill -QUIT "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2""#;
    Command::new("sh")
        .args(["-c", script, "watchdog", &postgres.to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh can be run")
}

/// PostgreSQL writes into its lock file how it is: it takes connections before it is ready for them.
fn await_ready(postgres: &mut Child, folder: &Path) {
    let begun = Instant::now();
    let lock_file = folder.join("data/postmaster.pid");
    while !std::fs::read_to_string(&lock_file)
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "ready"))
    {
        let ended = postgres.try_wait().unwrap();
        assert!(
            ended.is_none() && begun.elapsed() < Duration::from_mins(1),
            "PostgreSQL did not start: {}",
            std::fs::read_to_string(folder.join("log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where PostgreSQL's programs are. Debian doesn't put them on the PATH.
pub(crate) fn programs() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    for (parent, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr/local/opt", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr", "bin"),
        ("/usr/local/pgsql", ""),
    ] {
        let mut found: Vec<PathBuf> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(below))
            .filter(|path| {
                path.to_string_lossy().contains("pg") || path.to_string_lossy().contains("postgres")
            })
            .collect();
        // By number: 15 is after 9.6.
        found.sort_by(|a, b| version(a).total_cmp(&version(b)));
        // The newest version first.
        candidates.extend(found.into_iter().rev());
    }
    candidates.into_iter().find(|path| path.join("initdb").is_file() && path.join("postgres").is_file()).expect(
        "the tests need a PostgreSQL server. Install one (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf \
         install postgresql-server; macOS: brew install postgresql), run ./scripts/test, which does that, or set \
         TEST_DATABASE_URL to a server whose role may create databases and roles",
    )
}

/// The version in the name of a folder of PostgreSQL, such as `postgresql@15/bin` or `postgresql/9.6/bin`.
fn version(programs: &Path) -> f32 {
    let names = programs.iter().rev().map(|name| name.to_string_lossy().into_owned());
    let numbers =
        names.map(|name| name.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect::<String>());
    numbers.into_iter().find_map(|number| number.parse().ok()).unwrap_or(0.0)
}

/// Who is to run PostgreSQL, and what else refuses to run as root, if we are root: judged by whom a folder belongs to.
pub(super) fn owner(ours: &Path) -> Option<Owner> {
    if std::fs::metadata(ours).unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).unwrap_or((65_534, 65_534)))
}
