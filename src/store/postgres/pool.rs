//! The connections to the database: lent, and taken back.
//!
//! A connection that comes back rolls back what was not finished, and is asked whether it is still there. sqlx waits
//! for the answer without a limit. On a connection whose other end has gone in silence none comes, and it takes the
//! system a quarter of an hour to say so (`tcp_retries2` in tcp(7)). So long it would count as in use: after an outage of
//! the network, all of them might. So they go back by a way of ours, which has a limit.
//!
//! Those that are known to be ready stay at hand for a moment instead, and are not asked: see [`Pool`].

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{Postgres, raw_sql};

use super::sessions::{FRESH, Sessions};
use crate::store::Connections;

/// How long a connection that comes back may take to be ready for the next. What it was left in the middle of has so
/// long to end; then the connection is closed, and another one can be made.
const RETURN_TIMEOUT: Duration = Duration::from_secs(3);
/// So many connections are kept at hand: as many as the writer uses at once.
const AT_HAND: usize = 4;
/// How long a connection is kept from sqlx's pool at the most. It sees to it that none grows too old.
const LONGEST_AT_HAND: Duration = Duration::from_mins(1);

/// sqlx's pool, and before it the connections that were used a moment ago and are known to be ready. Of those, the one
/// that was used last is lent first: its process is the one whose caches are warm, while sqlx lends each in turn. And
/// nobody asks whether it is still there, neither before nor after.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    inner: PgPool,
    sessions: Sessions,
    hand: Arc<Hand>,
}

/// What is at hand. Locked to put a connection in or to take one out, and never over an await.
#[derive(Debug, Default)]
struct Hand(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Last used, last.
    connections: Vec<AtHand>,
    /// So many wait at sqlx's pool. What comes back goes there then, or they would wait in vain.
    waiting: usize,
    closed: bool,
}

#[derive(Debug)]
struct AtHand {
    connection: PoolConnection<Postgres>,
    lent: Loan,
    used: Instant,
}

/// How a connection was lent by sqlx's pool.
#[derive(Debug, Clone, Copy)]
struct Loan {
    at: Instant,
    /// It was known by then that sessions are ours: it has our settings.
    ours: bool,
}

impl Pool {
    pub(super) fn new(pool: PgPool, sessions: Sessions) -> Self {
        Self { inner: pool, sessions, hand: Arc::default() }
    }

    pub(super) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let ours = self.sessions.known_to_be_ours();
        let _waiting = match self.hand.take(ours, &self.sessions) {
            Ok(AtHand { connection, lent, .. }) => return Ok(self.lend(connection, lent)),
            Err(waiting) => waiting,
        };
        let connection = self.inner.acquire().await?;
        Ok(self.lend(connection, Loan { at: Instant::now(), ours }))
    }

    fn lend(&self, connection: PoolConnection<Postgres>, loan: Loan) -> Lent {
        Lent { connection: Some(connection), in_transaction: false, loan, hand: Arc::clone(&self.hand) }
    }

    /// Begins a transaction with this statement, see [`super::begin`].
    pub(super) async fn begin_with(&self, statement: &'static str) -> Result<Transaction, sqlx::Error> {
        let mut connection = self.acquire().await?;
        // If it comes to nothing, there may be something to roll back.
        connection.in_transaction = true;
        raw_sql(statement).execute(&mut *connection).await?;
        Ok(Transaction(connection))
    }

    pub(super) fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.inner.connect_options()
    }

    /// Where connections are made to from now on.
    pub(super) fn set_connect_options(&self, options: PgConnectOptions) {
        self.inner.set_connect_options(options);
    }

    pub(super) fn connections(&self) -> Connections {
        let idle = self.inner.num_idle() + self.hand.lock().connections.len();
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        let max = self.inner.options().get_max_connections();
        Connections { idle, in_use: self.inner.size().saturating_sub(idle), max }
    }

    /// Waits for what is lent, and closes all.
    pub(super) async fn close(&self) {
        let at_hand = {
            let mut held = self.hand.lock();
            held.closed = true;
            std::mem::take(&mut held.connections)
        };
        for kept in at_hand {
            give_back(kept.connection);
        }
        self.inner.close().await;
    }
}

impl Hand {
    /// The connection that was used last, if that was a moment ago. Else all go back, and the caller waits at sqlx's
    /// pool.
    fn take(self: &Arc<Self>, ours: bool, sessions: &Sessions) -> Result<AtHand, Waiting> {
        let mut held = self.lock();
        if let Some(kept) = held.connections.pop() {
            let is_fit = kept.lent.ours == ours && sessions.moved.leaves(kept.lent.at.elapsed());
            if is_fit && kept.used.elapsed() < FRESH {
                return Ok(kept);
            }
            held.connections.push(kept);
        }
        held.waiting += 1;
        let old = std::mem::take(&mut held.connections);
        drop(held);
        for kept in old {
            give_back(kept.connection);
        }
        Err(Waiting(Arc::clone(self)))
    }

    fn put(&self, connection: PoolConnection<Postgres>, lent: Loan) {
        let mut held = self.lock();
        let is_to_go = held.closed
            || held.waiting > 0
            || held.connections.len() >= AT_HAND
            || lent.at.elapsed() > LONGEST_AT_HAND;
        if is_to_go {
            drop(held);
            give_back(connection);
        } else {
            held.connections.push(AtHand { connection, lent, used: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits at sqlx's pool, until this is dropped.
struct Waiting(Arc<Hand>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// A connection. It goes back when this is dropped.
pub(super) struct Lent {
    /// `None` once it has gone back.
    connection: Option<PoolConnection<Postgres>>,
    /// Whether there is something to roll back first.
    in_transaction: bool,
    loan: Loan,
    hand: Arc<Hand>,
}

impl Lent {
    /// It goes back as it is: its last statement has been answered to the end, and nothing is left on it.
    pub(super) fn keep_at_hand(mut self) {
        if let Some(connection) = self.connection.take() {
            self.hand.put(connection, self.loan);
        }
    }
}

/// A transaction. It is rolled back when this is dropped, unless it was committed.
pub(super) struct Transaction(Lent);

impl Transaction {
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        raw_sql("COMMIT").execute(&mut *self).await?;
        self.0.keep_at_hand();
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // Who closes the pool waits for these tasks.
        if self.in_transaction {
            // When the time is up before it has gone back, it is dropped. By sqlx's way it would go back then.
            connection.close_on_drop();
            tokio::spawn(tokio::time::timeout(RETURN_TIMEOUT, async move {
                match raw_sql("ROLLBACK").execute(&mut *connection).await {
                    Ok(_) => connection.return_to_pool().await,
                    Err(error) => tracing::info!(%error, "a connection is gone"),
                }
            }));
        } else {
            give_back(connection);
        }
    }
}

/// To sqlx's pool, which asks whether it is still there.
fn give_back(mut connection: PoolConnection<Postgres>) {
    tokio::spawn(tokio::time::timeout(RETURN_TIMEOUT, connection.return_to_pool()));
}

const GONE_BACK: &str = "a connection goes back when it is dropped, and nobody has it then";

#[allow(clippy::expect_used, reason = "only `drop` takes the connection")]
impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_deref().expect(GONE_BACK)
    }
}

#[allow(clippy::expect_used, reason = "only `drop` takes the connection")]
impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect(GONE_BACK)
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
