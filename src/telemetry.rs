//! Logs: for people on a terminal, as JSON lines for machines.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// So many lines wait for whoever reads them. What comes then is lost: a log that nobody takes must not hold up the
/// registry.
const MOST_WAITING: usize = 8_192;

/// Counts what was lost; set once, with the log.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Sends log lines to the standard error stream from now on, by a thread of its own. What waits is written when the value
/// is dropped, if it is taken soon.
///
/// # Errors
/// If the filter can't be parsed, or there is a subscriber already.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<WorkerGuard> {
    let pretty = match format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MOST_WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(writer);
    let result = if pretty {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    result.map_err(|error| anyhow::anyhow!("logging can't be set up: {error}"))?;
    // There is one log: a second one would have failed.
    let _ = LOST.set(lost);
    Ok(guard)
}

/// How many lines were lost so far.
#[must_use]
pub fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| u64::try_from(lost.dropped_lines()).unwrap_or(u64::MAX))
}
