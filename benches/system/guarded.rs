//! Processes that end when this one does, however it ends.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How long a process may take to end when it is asked to.
const STOP_TIME: Duration = Duration::from_secs(30);

/// A child process, killed when dropped, and when this process is killed.
pub(crate) struct Guarded {
    pub(crate) child: Child,
    /// Holds the pipe that the watchdog waits at. It breaks when this process ends.
    watchdog: Child,
}

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        // Ctrl-C is for this process; the watchdog sees to the rest.
        let child = command.process_group(0).spawn().with_context(|| format!("{command:?} can't be run"))?;
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r _; kill -KILL "$1" 2>/dev/null"#, "watchdog", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("sh can't be run")?;
        Ok(Self { child, watchdog })
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status()?;
        anyhow::ensure!(asked.success(), "a process can't be told to stop");
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(begun.elapsed() < STOP_TIME, "a process doesn't stop");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The watchdog first: afterwards the number may be another process's. What fails here has ended already.
        for process in [&mut self.watchdog, &mut self.child] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
