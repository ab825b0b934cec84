//! Being told that there is something to read. There is one process, so nothing has to be asked for it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::node::Revision;
use crate::store::{Hints, StoreError};

/// Tells of what is committed without being returned to the caller. Who writes and gets his own events back needs no
/// hint.
pub(super) struct Bell(watch::Sender<()>);

impl Bell {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    pub(super) fn ring(&self) {
        self.0.send_replace(());
    }

    pub(super) fn listen(&self) -> impl Hints + 'static {
        Listening(self.0.subscribe())
    }
}

struct Listening(watch::Receiver<()>);

#[async_trait]
impl Hints for Listening {
    async fn next(&mut self) -> Result<Option<Revision>, StoreError> {
        match self.0.changed().await {
            Ok(()) => Ok(None),
            Err(_) => Err(StoreError::Unavailable(Arc::new(sqlx::Error::PoolClosed))),
        }
    }
}
