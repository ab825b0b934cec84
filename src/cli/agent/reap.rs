//! As process 1 of a container, the agent inherits the processes whose parents have ended, and has to take note of their
//! ends: nobody else can, and without that they stay in the table of processes.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// The processes that the agent waits for itself. A standard mutex: it is held for a moment, and never over an `.await`.
#[derive(Debug, Default)]
pub(super) struct Ours(Mutex<BTreeSet<u32>>);

/// A process is ours as long as this is there.
pub(super) struct Claim<'o>(&'o Ours, Option<u32>);

impl Ours {
    /// To be called before anything else is awaited: the agent has one thread, and so no look comes between.
    pub(super) fn claim(&self, id: Option<u32>) -> Claim<'_> {
        self.set().extend(id);
        Claim(self, id)
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of ends, for ever; elsewhere than as process 1, there is nothing to do.
    pub(super) async fn reap_others(&self) {
        let ended = signal(SignalKind::child()).ok().filter(|_| getpid().is_init());
        let Some(mut ended) = ended else { return std::future::pending().await };
        loop {
            for id in zombies() {
                if !self.set().contains(&id)
                    && let Some(id) = Pid::from_raw(id.cast_signed())
                {
                    // If it fails, there is none any more.
                    let _ = waitpid(Some(id), WaitOptions::NOHANG);
                }
            }
            ended.recv().await;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.1 {
            self.0.set().remove(&id);
        }
    }
}

/// The children of process 1 that have ended: `/proc/PID/stat` (proc(5)).
fn zombies() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        // The name in parentheses may have anything in it, parentheses too.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with("Z 1 "))
    })
    .collect()
}
