//! The connections to the database: lent, and taken back.
//!
//! A connection that comes back rolls back what was not finished, and is asked whether it is still there. sqlx waits
//! for the answer without a limit. On a connection whose other end has gone in silence none comes, and it takes the
//! system a quarter of an hour to say so (`tcp_retries2` in tcp(7)). So long it would count as in use: after an outage of
//! the network, all of them might. So they go back by a way of ours, which has a limit.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{Postgres, raw_sql};

use crate::store::Connections;

/// How long a connection that comes back may take to be ready for the next. What it was left in the middle of has so
/// long to end; then the connection is closed, and another one can be made.
const RETURN_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub(super) struct Pool(PgPool);

impl Pool {
    pub(super) fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    pub(super) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent { connection: Some(self.0.acquire().await?), in_transaction: false })
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
        self.0.connect_options()
    }

    pub(super) fn connections(&self) -> Connections {
        let idle = u32::try_from(self.0.num_idle()).unwrap_or(u32::MAX);
        let max = self.0.options().get_max_connections();
        Connections { idle, in_use: self.0.size().saturating_sub(idle), max }
    }

    /// Waits for what is lent, and closes all.
    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}

/// A connection. It goes back when this is dropped.
pub(super) struct Lent {
    /// `None` once it has gone back.
    connection: Option<PoolConnection<Postgres>>,
    /// Whether there is something to roll back first.
    in_transaction: bool,
}

/// A transaction. It is rolled back when this is dropped, unless it was committed.
pub(super) struct Transaction(Lent);

impl Transaction {
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        raw_sql("COMMIT").execute(&mut *self).await?;
        self.0.in_transaction = false;
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
            tokio::spawn(tokio::time::timeout(RETURN_TIMEOUT, connection.return_to_pool()));
        }
    }
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
