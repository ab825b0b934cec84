//! `--check`: whether the node is well, by a command of the user.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::KEY;
use super::reap::Ours;

/// How a node is checked.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) command: String,
    /// How long it may take.
    pub(super) timeout: Duration,
}

impl Check {
    /// Runs it by the shell.
    ///
    /// # Errors
    /// Why the node isn't well, in words.
    pub(super) async fn run(&self, ours: &Ours) -> Result<(), String> {
        // A group of its own: what it has started ends with it, and Ctrl-C doesn't reach it.
        let spawned = Command::new("/bin/sh")
            .args(["-c", &self.command])
            .env_remove(KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(|error| format!("can't be run: {error}"))?;
        let _claim = ours.claim(child.id());
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let Ok(ended) = tokio::time::timeout(self.timeout, child.wait()).await else {
            drop(group);
            // Nothing keeps it from ending now. If it can't be waited for, somebody else has taken note of it.
            let _ = child.wait().await;
            return Err(format!("took longer than {}", humantime::format_duration(self.timeout)));
        };
        // Its number may be another's from now on.
        group.0 = None;
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("ended with {status}")),
            Err(error) => Err(format!("can't be waited for: {error}")),
        }
    }
}

/// Killed when dropped: a check that is not waited for any more ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // If it fails, it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
