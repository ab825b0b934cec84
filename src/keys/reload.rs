//! Reading the file again when it has changed, or when told to.
//!
//! The file is read once a second, and its content compared. That is cheap for a file of this size, and sees what the
//! times and numbers of files don't always tell: two writes in one tick of the file system's clock, or a symbolic link
//! that is put in the place of another, as Kubernetes does it.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::key::Fingerprint;
use super::{BadKeys, Keys, file};
use crate::going::survive;
use crate::metrics::KeysReload;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// So long a change has to stay as it is: somebody may be in the middle of writing.
const SETTLED: Duration = Duration::from_millis(100);

/// The task that reads the file again. It ends when this is dropped.
#[derive(Debug)]
pub struct Reloading {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Reloading {
    /// Looks at the file every second from now on, and at each SIGHUP.
    ///
    /// # Errors
    /// If the signal can't be handled.
    pub fn start(keys: Arc<Keys>) -> std::io::Result<Self> {
        let told = signal(SignalKind::hangup())?;
        let stop = CancellationToken::new();
        let look = Look { seen: keys.current.load().content.map(Ok), keys };
        let task = tokio::spawn(look.on(told, stop.clone()));
        Ok(Self { stop: stop.drop_guard(), task })
    }

    /// Ends it, and waits until it has ended.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the file of API keys was not looked at any more");
        }
    }
}

struct Look {
    keys: Arc<Keys>,
    /// What was acted upon last: content, or why there was none.
    seen: Option<Result<Fingerprint, BadKeys>>,
}

impl Look {
    async fn on(mut self, mut told: Signal, stop: CancellationToken) {
        while survive("reading the keys again", self.until(&mut told, &stop)).await.is_none() {}
    }

    async fn until(&mut self, told: &mut Signal, stop: &CancellationToken) {
        loop {
            let at_once = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = told.recv() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            self.look(at_once).await;
        }
    }

    /// Reads the file, and acts if it is not as it was, or if it is told to.
    async fn look(&mut self, at_once: bool) {
        let mut found = self.read().await;
        if !at_once {
            let gist = Some(gist(&found));
            if gist == self.seen {
                return;
            }
            tokio::time::sleep(SETTLED).await;
            found = self.read().await;
            if gist != Some(self::gist(&found)) {
                return;
            }
        }
        self.seen = Some(gist(&found));
        match found.and_then(|content| file::parse(&content, &self.keys.file)) {
            Ok(set) => {
                file::warn_of_mode(&self.keys.file);
                self.keys.replace(set);
                self.keys.metrics.keys.reloaded(KeysReload::Taken);
            }
            Err(why) => self.keys.refuse(&why),
        }
    }

    async fn read(&self) -> Result<Vec<u8>, BadKeys> {
        let path = self.keys.file.clone();
        // The file system may be one that makes its callers wait.
        let read = tokio::task::spawn_blocking(move || file::read(&path)).await;
        read.unwrap_or_else(|_| Err(BadKeys::interrupted()))
    }
}

fn gist(found: &Result<Vec<u8>, BadKeys>) -> Result<Fingerprint, BadKeys> {
    found.as_ref().map(|content| Fingerprint::of(content)).map_err(Clone::clone)
}
