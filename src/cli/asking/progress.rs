//! How far it has come: a bar on the standard error, if that is a terminal and somebody wants to see it.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

/// A bar, or nothing.
#[derive(Debug)]
pub(in crate::cli) struct Progress(ProgressBar);

impl Progress {
    /// Through so many bytes, if it is known how many there are.
    pub(in crate::cli) fn of_bytes(total: Option<u64>, is_quiet: bool) -> Self {
        match total {
            Some(total) => Self::new(
                Some(total),
                "{elapsed} [{bar:30}] {bytes} of {total_bytes}, {msg} {eta} left",
                is_quiet,
            ),
            None => Self::new(None, "{elapsed} {spinner} {bytes}, {msg}", is_quiet),
        }
    }

    /// Of nodes, of which there may be any number.
    pub(in crate::cli) fn of_nodes(is_quiet: bool) -> Self {
        Self::new(None, "{elapsed} {spinner} {human_pos} nodes", is_quiet)
    }

    fn new(total: Option<u64>, template: &str, is_quiet: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        if is_quiet || is_dumb || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        // The templates above are right, and a bar of another look is one, too.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub(in crate::cli) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// What stands beside the bar: a text of ours.
    pub(in crate::cli) fn set_message(&self, text: String) {
        self.0.set_message(text);
    }

    /// Says something above it.
    pub(in crate::cli) fn say(&self, text: &str) {
        self.suspend(|| say(text));
    }

    /// Does what writes to the terminal.
    pub(in crate::cli) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
