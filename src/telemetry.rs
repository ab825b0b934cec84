//! Logs: for people on a terminal, as JSON lines for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sends log lines to the standard error stream from now on.
///
/// # Errors
/// If the filter can't be parsed, or there is a subscriber already.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let pretty = match format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(std::io::stderr);
    let result = if pretty {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    result.map_err(|error| anyhow::anyhow!("logging can't be set up: {error}"))
}
