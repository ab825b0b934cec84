//! What is written to the standard output, and in which form.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;

use super::{escaped, one_line, visible};
use crate::cli::outcome::print;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people
    Table,
    /// One JSON value
    Json,
    /// JSON Lines: one object a line
    Jsonl,
}

/// JSON values, one after the other: an array, or lines.
#[derive(Debug)]
pub(in crate::cli) struct Items {
    is_array: bool,
    is_terminal: bool,
    count: u64,
}

impl Items {
    pub(in crate::cli) fn new(format: Format) -> Self {
        Self { is_array: format == Format::Json, is_terminal: io::stdout().is_terminal(), count: 0 }
    }

    /// Adds some to a text that is to be printed.
    pub(in crate::cli) fn add(&mut self, json: &str, out: &mut String) {
        if self.is_array {
            out.push_str(if self.count == 0 { "[\n" } else { ",\n" });
        }
        self.count += 1;
        let line = one_line(json);
        out.push_str(&if self.is_terminal { escaped(&line) } else { line });
        if !self.is_array {
            out.push('\n');
        }
    }

    pub(in crate::cli) fn end(self) -> anyhow::Result<()> {
        match (self.is_array, self.count) {
            (false, _) => Ok(()),
            (true, 0) => print("[]\n"),
            (true, _) => print("\n]\n"),
        }
    }

    /// One value, alone.
    pub(in crate::cli) fn only(json: &str) -> anyhow::Result<()> {
        let mut line = one_line(json);
        if io::stdout().is_terminal() {
            line = escaped(&line);
        }
        line.push('\n');
        print(&line)
    }
}

/// Tells people something that is no answer. If they can't be told, the work goes on.
pub(in crate::cli) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "onex-registry: {}", visible(text));
}
