//! What became of a file: what failed as it fails, and how many of each at the end.

use std::io::{self, Write as _};

use serde::Serialize;

use super::item::Failure;
use super::send::{Done, Fate};
use crate::cli::asking::{Format, Progress, visible};
use crate::cli::outcome::print;

/// How many lines there were, of each fate. Those without anything on them are not counted.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Counts {
    pub(super) lines: u64,
    registered: u64,
    updated: u64,
    unchanged: u64,
    valid: u64,
    pub(super) failed: u64,
}

/// The report, as it grows. Nothing of it is kept: any number of lines may fail.
#[derive(Debug)]
pub(super) struct Report<'p> {
    format: Format,
    progress: &'p Progress,
    is_dry: bool,
    pub(super) counts: Counts,
}

impl<'p> Report<'p> {
    pub(super) fn new(format: Format, is_dry: bool, progress: &'p Progress) -> Self {
        Self { format, progress, is_dry, counts: Counts::default() }
    }

    pub(super) fn add(&mut self, done: Done) -> anyhow::Result<()> {
        for fate in done.lines {
            self.counts.lines += 1;
            match fate {
                Fate::Registered => self.counts.registered += 1,
                Fate::Updated => self.counts.updated += 1,
                Fate::Unchanged => self.counts.unchanged += 1,
                Fate::Valid => self.counts.valid += 1,
                Fate::Failed(failure) => self.fail(&failure)?,
            }
        }
        self.progress.advance(done.bytes);
        self.progress.set_message(format!("{} lines, {} failed,", self.counts.lines, self.counts.failed));
        Ok(())
    }

    fn fail(&mut self, failure: &Failure) -> anyhow::Result<()> {
        self.counts.failed += 1;
        match self.format {
            Format::Table => {
                let text = shown(failure);
                // Who can't be told is told by the exit code.
                let _ = self.progress.suspend(|| io::stderr().write_all(text.as_bytes()));
                Ok(())
            }
            Format::Json => {
                let before = if self.counts.failed == 1 { "{\"failures\":[\n" } else { ",\n" };
                self.print(&format!("{before}{}", serde_json::to_string(failure)?))
            }
            Format::Jsonl => self.print(&format!("{}\n", serde_json::to_string(failure)?)),
        }
    }

    /// The counts. `is_complete`: the file was read to its end, and it is known what became of each line.
    pub(super) fn end(&self, is_complete: bool) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct End {
            #[serde(flatten)]
            counts: Counts,
            complete: bool,
        }
        let end = || serde_json::to_string(&End { counts: self.counts, complete: is_complete });
        let Counts { lines, registered, updated, unchanged, valid, failed } = self.counts;
        match self.format {
            Format::Table if self.is_dry => {
                self.print(&format!("{lines} lines: {valid} valid, {failed} not; nothing was sent\n"))
            }
            Format::Table => self.print(&format!(
                "{lines} lines: {registered} registered, {updated} updated, {unchanged} unchanged, {failed} failed\n"
            )),
            Format::Json if self.counts.failed == 0 => {
                self.print(&format!("{{\"failures\":[],\"summary\":{}}}\n", end()?))
            }
            Format::Json => self.print(&format!("\n],\"summary\":{}}}\n", end()?)),
            Format::Jsonl => self.print(&format!("{{\"summary\":{}}}\n", end()?)),
        }
    }

    fn print(&self, text: &str) -> anyhow::Result<()> {
        self.progress.suspend(|| print(text))
    }
}

/// A line for it, and one for each thing that is wrong.
fn shown(failure: &Failure) -> String {
    let id = failure.node_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    let status = failure.status.map(|status| format!(" ({status})")).unwrap_or_default();
    let head = format!("line {}{id}: {}{status}", failure.line, failure.detail);
    let mut text = format!("{}\n", visible(&head));
    for wrong in &failure.errors {
        text.push_str(&visible(format!("  {}: {}", wrong.pointer, wrong.detail).trim_end()));
        text.push('\n');
    }
    text
}
