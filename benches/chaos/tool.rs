//! Programs of the system.

use std::process::Command;

use anyhow::Context as _;

/// Runs a program to its end; what it said of a failure is in the error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?} can't be run"))?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    anyhow::ensure!(output.status.success(), "{command:?}: {}", said());
    Ok(())
}

/// The same with its arguments in one text, for those that have no spaces.
pub(crate) fn run_words(words: &str) -> anyhow::Result<()> {
    let mut words = words.split_whitespace();
    let program = words.next().context("a program has a name")?;
    run(Command::new(program).args(words))
}
