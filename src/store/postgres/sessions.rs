//! Whether a session is ours from its begin to its end, and what that allows.
//!
//! Behind a pooler in transaction mode it is not: a named statement of ours would be missing on the next server
//! connection, and what we set would stay on it for others. Only who has seen that notifications come through knows
//! that there is no such pooler.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{Connection as _, Postgres, pool::PoolOptions};

use super::hosts::Moved;

/// What else each transaction of the writer begins with, see [`super::begin`].
const SETTINGS: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
    SET statement_timeout = '10s'";

/// A connection that was used a moment ago is not asked whether it is still there: that would be a round trip before
/// each statement.
pub(super) const FRESH: Duration = Duration::from_millis(50);
/// How long one that is asked may take to answer. Then it is closed, and whoever waits for a connection still has the
/// time to make another.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Which connections are fit for use.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    /// Since when it is known that sessions are ours. Set once, by whoever has found out.
    ours: Arc<OnceLock<Instant>>,
    pub(super) moved: Moved,
}

impl Sessions {
    /// From now on a batch of the writer is one named statement, and a transaction of its own.
    pub(super) fn are_ours(&self) {
        self.ours.get_or_init(Instant::now);
    }

    pub(super) fn known_to_be_ours(&self) -> bool {
        self.ours.get().is_some()
    }

    /// A pool whose connections have our settings as soon as that is known. Those that are older are closed, one by one
    /// as they are asked for, and so are those to a server that is not the one in use.
    pub(super) fn pool(&self) -> PoolOptions<Postgres> {
        let (connecting, acquiring) = (self.clone(), self.clone());
        PgPoolOptions::new()
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let sessions = connecting.clone();
                Box::pin(async move {
                    if sessions.known_to_be_ours() {
                        sqlx::raw_sql(SETTINGS).execute(connection).await?;
                    }
                    Ok(())
                })
            })
            .before_acquire(move |connection, metadata| acquiring.is_fit(connection, &metadata))
    }

    fn is_fit<'c>(
        &self,
        connection: &'c mut PgConnection,
        metadata: &PoolConnectionMetadata,
    ) -> BoxFuture<'c, Result<bool, sqlx::Error>> {
        let without_settings = self.ours.get().is_some_and(|since| metadata.age >= since.elapsed());
        let is_old = without_settings || !self.moved.leaves(metadata.age);
        let is_fresh = metadata.idle_for < FRESH;
        Box::pin(async move {
            if is_old || is_fresh {
                return Ok(!is_old);
            }
            let answered = tokio::time::timeout(ANSWER_TIMEOUT, connection.ping()).await;
            let answered = answered.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            Ok(answered.inspect_err(|error| tracing::info!(%error, "a connection is gone")).is_ok())
        })
    }
}
