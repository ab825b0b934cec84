//! Several servers, of which one takes writes: it is found, and found again when another one has been promoted.
//!
//! A URL may name them as libpq does (PostgreSQL manual, section 34.1.1.3): `postgres://user@one:5432,two:5432/db`. Nothing is
//! said about which of them is the primary: they are asked. Where there is only one, nobody is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::pool::Pool;
use crate::going::keep_going;

/// How often the server in use is asked whether it takes writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// A standby takes none, and somebody may have said so of a server that is to be left alone.
const TAKES_WRITES: &str =
    "SELECT NOT pg_is_in_recovery() AND NOT current_setting('default_transaction_read_only')::boolean";

/// The servers that a URL names.
#[derive(Debug, Clone)]
pub(super) struct Hosts(Arc<Vec<PgConnectOptions>>);

/// Since when another server is in use than before: connections that are older lead to one that is not.
#[derive(Debug, Clone, Default)]
pub(super) struct Moved(Arc<Mutex<Option<Instant>>>);

impl Hosts {
    /// Reads a URL; `read` reads one with a single host.
    pub(super) fn of(
        url: &str,
        read: impl Fn(&str) -> Result<PgConnectOptions, sqlx::Error>,
    ) -> Result<Self, sqlx::Error> {
        let urls = split(url).unwrap_or_else(|| vec![url.to_owned()]);
        urls.iter().map(|url| read(url)).collect::<Result<Vec<_>, _>>().map(|hosts| Self(Arc::new(hosts)))
    }

    /// The first one that is named.
    pub(super) fn first(&self) -> Option<&PgConnectOptions> {
        self.0.first()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PgConnectOptions> {
        self.0.iter()
    }

    pub(super) fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// The one that takes writes. All are asked at once, and the first to say so is it.
    ///
    /// # Errors
    /// If none does: what the server said that says most.
    pub(super) async fn find(&self) -> Result<&PgConnectOptions, sqlx::Error> {
        let mut asked: FuturesUnordered<_> =
            self.0.iter().map(|host| async move { (host, asked(host).await) }).collect();
        let mut why = None;
        while let Some((host, answer)) = asked.next().await {
            match answer {
                Ok(true) => return Ok(host),
                // That we may not be there is for somebody to mend, that it is away is not.
                Err(error) if why.is_none() || error.as_database_error().is_some() => why = Some(error),
                Ok(false) | Err(_) => {}
            }
        }
        Err(why.unwrap_or_else(|| sqlx::Error::Protocol("no server takes writes".to_owned())))
    }
}

async fn asked(host: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let asking = async {
        let mut connection = host.connect().await?;
        let answer = takes_writes(&mut connection).await;
        // Whether it hears of our leaving is its own affair.
        drop(connection.close().await);
        answer
    };
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(TAKES_WRITES).persistent(false).fetch_one(connection).await
}

impl Moved {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection of that age leads to the server in use.
    pub(super) fn leaves(&self, age: Duration) -> bool {
        self.leaves_at(Instant::now(), age)
    }

    fn leaves_at(&self, now: Instant, age: Duration) -> bool {
        let moved = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moved.is_none_or(|moved| age < now.saturating_duration_since(moved))
    }
}

/// Sees to it that the server in use is the one that takes writes.
#[derive(Debug)]
pub(super) struct Seeker {
    stop: CancellationToken,
    /// Ends the task of a store that is dropped without being closed.
    _stop_when_dropped: DropGuard,
    /// The task, waited for in [`Seeker::close`].
    task: TaskTracker,
}

impl Seeker {
    pub(super) fn start(hosts: Hosts, pool: Pool, moved: Moved) -> Self {
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        if hosts.are_several() {
            let stopped = stop.clone();
            task.spawn(async move {
                stopped
                    .run_until_cancelled(keep_going("looking for the primary", || {
                        seek(&hosts, &pool, &moved)
                    }))
                    .await
            });
        }
        task.close();
        Self { _stop_when_dropped: stop.clone().drop_guard(), stop, task }
    }

    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

async fn seek(hosts: &Hosts, pool: &Pool, moved: &Moved) {
    let mut is_lost = false;
    // Not one of the pool: those may all be in use, and that is no reason to look for another server.
    let mut asking = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let before = pool.connect_options();
        let in_use = tokio::time::timeout(ANSWER_TIMEOUT, still_takes_writes(&mut asking, &before)).await;
        if matches!(in_use, Ok(Ok(true))) {
            is_lost = false;
            continue;
        }
        asking = None;
        match hosts.find().await {
            Ok(host) => {
                let is_another = place(host) != place(&before);
                // What leads to one that said no may lead there for longer than that one does.
                if is_another || matches!(in_use, Ok(Ok(false))) {
                    use_host(pool, host, moved);
                }
                if is_another {
                    tracing::warn!(
                        from = place(&before),
                        to = place(host),
                        "another server takes writes now"
                    );
                }
                is_lost = false;
            }
            Err(error) if !is_lost => {
                tracing::warn!(%error, "none of the database servers takes writes");
                is_lost = true;
            }
            Err(_) => {}
        }
    }
}

/// Asks over the same connection as before, if there is one.
async fn still_takes_writes(
    asking: &mut Option<PgConnection>,
    host: &PgConnectOptions,
) -> Result<bool, sqlx::Error> {
    let connection = match asking {
        Some(connection) => connection,
        None => asking.insert(host.connect().await?),
    };
    takes_writes(connection).await
}

/// From now on connections are made to this one, and those that there are go.
pub(super) fn use_host(pool: &Pool, host: &PgConnectOptions, moved: &Moved) {
    pool.set_connect_options(host.clone());
    moved.now();
}

/// Where a server is.
pub(super) fn place(host: &PgConnectOptions) -> String {
    match host.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), host.get_port()),
        None => format!("{}:{}", host.get_host(), host.get_port()),
    }
}

/// A URL for each host. `None` if there is one host, or none.
fn split(url: &str) -> Option<Vec<String>> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let hosts: Vec<&str> = hosts.split(',').collect();
    // An empty one is a fault that the reader of URLs wouldn't see.
    if hosts.len() < 2 || hosts.iter().any(|host| host.is_empty()) {
        return None;
    }
    Some(hosts.into_iter().map(|host| format!("{scheme}://{user}{host}{rest}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_of_a_url_has_the_rest_of_it() {
        let several = split("postgres://u:p%2C@one:1,two,[::1]:3/db?sslmode=disable").unwrap();
        assert_eq!(
            several,
            [
                "postgres://u:p%2C@one:1/db?sslmode=disable",
                "postgres://u:p%2C@two/db?sslmode=disable",
                "postgres://u:p%2C@[::1]:3/db?sslmode=disable",
            ]
        );
        assert_eq!(split("postgres://one,two"), Some(vec!["postgres://one".into(), "postgres://two".into()]));
        for single in
            ["postgres://one/db", "postgres:///db", "postgres://u,v@one/a,b", "postgres://one,/db", "no url"]
        {
            assert_eq!(split(single), None, "{single}");
        }
    }

    #[test]
    fn only_connections_that_are_younger_than_a_move_lead_to_the_server_in_use() {
        let moved = Moved::default();
        assert!(moved.leaves(Duration::from_hours(1)));
        moved.now();
        let (just, second) = (Instant::now(), Duration::from_secs(1));
        assert!(!moved.leaves_at(just, second));
        assert!(moved.leaves_at(just + second + second, second));
    }
}
