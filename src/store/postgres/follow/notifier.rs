//! Telling others that there is something to read: NOTIFY, after the batch and not in it.
//!
//! NOTIFY takes a lock of the whole cluster until its transaction has ended, and wakes all who listen: nobody who waits
//! for his write should wait for that, and those who listen need not be woken more often than they can read. It is a hint
//! and no more: one that is lost, with the process or its connection, is made up for by polling.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::going::survive;
use crate::node::Revision;
use crate::store::postgres::begin;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::sessions::Sessions;

/// It is not waited for that the commit is on the disk: what is told of has been, and nothing else is in it.
const NOTIFY_SOON: &str =
    "SELECT pg_notify('onex_registry', $1), set_config('synchronous_commit', 'off', true)";
/// The pause between notifications.
const PAUSE: Duration = Duration::from_millis(5);
/// A notification takes so long at the most.
const LONGEST_CALL: Duration = Duration::from_secs(5);

/// Tells others of the newest revision, in a task of its own.
#[derive(Debug)]
pub(in crate::store::postgres) struct Notifier {
    /// What is to be told; what was not told yet is overtaken.
    newest: watch::Sender<Revision>,
    stop: CancellationToken,
    /// The task, waited for in [`Notifier::close`].
    task: TaskTracker,
}

impl Notifier {
    pub(in crate::store::postgres) fn start(pool: Pool, sessions: Sessions) -> Self {
        let newest = watch::Sender::new(Revision::ZERO);
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        let (mut told, stopped) = (newest.subscribe(), stop.clone());
        task.spawn(async move {
            let telling = async {
                while survive("telling of changes", run(&mut told, &pool, &sessions)).await.is_none() {}
            };
            Box::pin(stopped.run_until_cancelled(telling)).await
        });
        task.close();
        Self { newest, stop, task }
    }

    /// There are events up to this one.
    pub(in crate::store::postgres) fn tell(&self, revision: Revision) {
        self.newest.send_if_modified(|newest| {
            let is_newer = revision > *newest;
            *newest = revision.max(*newest);
            is_newer
        });
    }

    pub(in crate::store::postgres) async fn close(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

async fn run(newest: &mut watch::Receiver<Revision>, pool: &Pool, sessions: &Sessions) {
    while newest.changed().await.is_ok() {
        let payload = newest.borrow_and_update().to_string();
        match tokio::time::timeout(LONGEST_CALL, notify(pool, sessions, &payload)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "other replicas could not be told of a change"),
            Err(_) => tracing::debug!("other replicas could not be told of a change in time"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn notify(pool: &Pool, sessions: &Sessions, payload: &str) -> Result<(), sqlx::Error> {
    if sessions.known_to_be_ours() {
        let mut connection = pool.acquire().await?;
        sqlx::query(NOTIFY_SOON).bind(payload).execute(&mut *connection).await?;
        connection.keep_at_hand();
        return Ok(());
    }
    let mut tx = pool.begin_with(begin::WRITE).await?;
    sqlx::query(NOTIFY_SOON).persistent(false).bind(payload).execute(&mut *tx).await?;
    tx.commit().await
}
