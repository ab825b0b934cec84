//! How a command ends: what it says last, and its exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::asking::visible;
use crate::client::{BadClientSettings, ClientError};

/// The exit codes. They are documented in `docs/command-line.md`, and scripts rely on them.
const OTHER: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const NOT_ALLOWED: u8 = 4;
const CONFLICT: u8 = 5;
const AWAY: u8 = 6;

/// The command was given what can't be meant; clap finds the rest of that.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// All has been said, and the exit code is this: that of another program, say.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub(super) struct Exit(pub(super) u8);

/// Says what is wrong, and returns the exit code for it. The one place that writes to the terminal without the logger: what
/// is wrong may be why there is none.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        // Whoever reads has read enough.
        return ExitCode::SUCCESS;
    }
    if let Some(Exit(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    let mut text = format!("onex-registry: {}\n", visible_lines(&error.to_string()));
    for cause in error.chain().skip(1) {
        text.push_str("  because: ");
        text.push_str(&visible_lines(&cause.to_string()));
        text.push('\n');
    }
    if let Some(ClientError::Problem(problem)) = error.downcast_ref() {
        for wrong in &problem.errors {
            text.push_str(&visible(format!("  {}: {}", wrong.place(), wrong.detail).trim_end()));
            text.push('\n');
        }
        if let Some(id) = &problem.correlation_id {
            text.push_str(&visible(&format!("  correlation id: {id}")));
            text.push('\n');
        }
    }
    // If that fails too, the exit code says it.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(code(error))
}

/// What is wrong with settings has many lines.
fn visible_lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() || error.is::<BadClientSettings>() {
        return USAGE;
    }
    error.downcast_ref::<ClientError>().map_or(OTHER, of_client)
}

fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::Problem(problem) => match problem.status {
            401 | 403 => NOT_ALLOWED,
            _ if problem.is_of_no_node() => NOT_FOUND,
            412 => CONFLICT,
            _ if problem.is_of_the_moment() => AWAY,
            _ => OTHER,
        },
        ClientError::Away { .. } => AWAY,
        ClientError::Untrusted { .. } | ClientError::NotARegistry { .. } => OTHER,
        ClientError::TooLong => USAGE,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe) && error.is::<Writing>()
}

/// What was to be written to the standard output was not.
#[derive(Debug, thiserror::Error)]
#[error("can't write to the standard output")]
pub(super) struct Writing(#[from] io::Error);

/// Writes to the standard output, at once.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(written.map_err(Writing)?)
}
