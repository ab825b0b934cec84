//! Being told that there is something to read: LISTEN, on a connection of its own.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx::Row as _;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::runtime::{self, Handle};

use crate::node::Revision;
use crate::store::postgres::{ACQUIRE_TIMEOUT, PostgresStore, begin};
use crate::store::{Hints, StoreError};

const CHANNEL: &str = "onex_registry";
/// What the notifications that are to see whether any arrive begin with. They are of no concern to others.
const TRIAL: &str = "trial:";
/// For so long the trial is waited for.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// So often it is asked whose backend it is: where a pooler has much to do, an idle one may have gone to somebody else just
/// now, and be back already.
const ROUNDS: usize = 8;

/// For so long all of the asking may take.
const ASKING_TIMEOUT: Duration = Duration::from_secs(10);

const BACKEND: &str = "SELECT pg_backend_pid()";
pub(super) const NOTIFY: &str = "SELECT pg_notify('onex_registry', $1)";

/// Listens, and makes sure that what is told arrives.
pub(in crate::store::postgres) async fn hints(
    store: &PostgresStore,
) -> Result<Option<Box<dyn Hints>>, StoreError> {
    let asked = tokio::time::timeout(ASKING_TIMEOUT, listen(store)).await;
    let listening = asked.map_err(|_| StoreError::Interrupted)??;
    if listening.is_some() {
        store.sessions.are_ours();
    }
    Ok(listening.map(|listening| Box::new(listening) as Box<dyn Hints>))
}

/// `None` behind a pooler in transaction mode: one would listen on some connection, and then somebody else has that.
async fn listen(store: &PostgresStore) -> Result<Option<Listening>, StoreError> {
    // A pool of its own, which never makes a second connection: the listener waits for as long as it lives.
    let options = store.pool.connect_options().as_ref().clone();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.ignore_pool_close_event(true);
    let mut listening = Listening { listener: Some(listener), pool };
    if !listening.has_a_backend_of_its_own(store).await? {
        return Ok(None);
    }
    listening.listen().await?;

    let trial = format!("{TRIAL}{}", uuid::Uuid::new_v4());
    let mut tx = store.pool.begin_with(begin::WRITE).await?;
    sqlx::query(NOTIFY).persistent(false).bind(&trial).execute(&mut *tx).await?;
    tx.commit().await?;
    match tokio::time::timeout(TRIAL_TIMEOUT, listening.arrives(&trial)).await {
        Ok(arrived) => arrived.map(|()| Some(listening)).map_err(StoreError::from),
        Err(_) => Ok(None),
    }
}

struct Listening {
    /// `None` once its connection is lost: it would make another, and nobody would know what was lost meanwhile.
    listener: Option<PgListener>,
    pool: PgPool,
}

impl Listening {
    /// A pooler gives one that is idle to whoever comes next. Who listens on it listens for others, and for good: so this
    /// is asked first. That it seems to be our own proves nothing.
    async fn has_a_backend_of_its_own(&mut self, store: &PostgresStore) -> Result<bool, sqlx::Error> {
        let listener = self.listener.as_mut().ok_or_else(lost)?;
        for _ in 0..ROUNDS {
            // The simple protocol: here is no transaction to keep the parts of a query together.
            let own: i32 = sqlx::raw_sql(BACKEND).fetch_one(&mut *listener).await?.try_get(0)?;
            let mut tx = store.pool.begin_with(begin::READ).await?;
            let other: i32 = sqlx::query_scalar(BACKEND).persistent(false).fetch_one(&mut *tx).await?;
            let again: i32 = sqlx::raw_sql(BACKEND).fetch_one(&mut *listener).await?.try_get(0)?;
            tx.commit().await?;
            if own == other || own != again {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn listen(&mut self) -> Result<(), sqlx::Error> {
        self.listener.as_mut().ok_or_else(lost)?.listen(CHANNEL).await
    }

    /// Waits for a payload.
    async fn arrives(&mut self, payload: &str) -> Result<(), sqlx::Error> {
        while self.receive().await? != payload {}
        Ok(())
    }

    /// The payload of the next notification. Giving up on it loses nothing.
    async fn receive(&mut self) -> Result<String, sqlx::Error> {
        let listener = self.listener.as_mut().ok_or_else(lost)?;
        match listener.try_recv().await {
            Ok(Some(notification)) => Ok(notification.payload().to_owned()),
            Ok(None) => {
                self.listener = None;
                Err(lost())
            }
            Err(error) => {
                self.listener = None;
                Err(error)
            }
        }
    }
}

fn lost() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "the listening connection is lost"))
}

#[async_trait]
impl Hints for Listening {
    async fn next(&mut self) -> Result<Option<Revision>, StoreError> {
        let mut hint = loop {
            if let Some(hint) = Hint::of(&self.receive().await?) {
                break hint;
            }
        };
        // What has arrived by now is one hint.
        while let Some(payload) = self.receive().now_or_never() {
            if let Some(next) = Hint::of(&payload?) {
                hint = hint.and(next);
            }
        }
        Ok(hint.revision())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        // The pool closes what comes back to it from now on.
        drop(self.pool.close());
        // The listener would tell the server that it listens no more, by a task of its own, and wait for the answer. On
        // a connection that is silently dead none comes, and it would stay open. So that task gets a runtime in which
        // nothing runs, and which ends here with all that it has: the connection is closed.
        match runtime::Builder::new_current_thread().build() {
            Ok(nowhere) => {
                let handle: Handle = nowhere.handle().clone();
                let _here = handle.enter();
                drop(listener);
                nowhere.shutdown_background();
            }
            Err(error) => {
                tracing::warn!(%error, "the listening connection is closed by the server only");
                drop(listener);
            }
        }
    }
}

/// What a notification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// There is something new up to this revision.
    UpTo(Revision),
    /// There is something new.
    Something,
}

impl Hint {
    /// `None` if it is none of ours.
    fn of(payload: &str) -> Option<Self> {
        if payload.is_empty() {
            return Some(Self::Something);
        }
        payload.parse().ok().and_then(Revision::new).map(Self::UpTo)
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::UpTo(one), Self::UpTo(other)) => Self::UpTo(one.max(other)),
            _ => Self::Something,
        }
    }

    fn revision(self) -> Option<Revision> {
        match self {
            Self::UpTo(revision) => Some(revision),
            Self::Something => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hints_are_one() {
        let up_to = |number| Some(Hint::UpTo(Revision::new(number).unwrap()));
        for (payload, hint) in
            [("", Some(Hint::Something)), ("7", up_to(7)), ("-7", None), ("trial:7", None), ("7 ", None)]
        {
            assert_eq!(Hint::of(payload), hint, "{payload}");
        }
        let (seven, nine) = (up_to(7).unwrap(), up_to(9).unwrap());
        assert_eq!(nine.and(seven), nine);
        assert_eq!(seven.and(Hint::Something).and(nine).revision(), None);
    }
}
