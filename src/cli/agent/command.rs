//! The command that the agent runs: its signals, and its end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::KEY;
use crate::cli::asking::say;

/// What is passed on.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Starts it. Its input, outputs, folder and group are ours, and so is its environment but for the key of the registry.
pub(super) fn start(command: &[OsString]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program).args(arguments).env_remove(KEY).spawn()
}

/// The exit code for what could not be started, as shells have it.
pub(super) fn code_of_no_start(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The exit code for an end, as shells have it: 128 and the number of the signal that ended it.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The exit code of a command that a signal ended before it began.
pub(super) fn code_of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX)
}

/// The signals that come, from the beginning on: one that comes before the command runs is not lost.
#[derive(Debug)]
pub(super) struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Has to be called within the runtime. Its tasks end with that.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(64);
        for passed_on in PASSED_ON {
            let mut signals = signal(SignalKind::from_raw(passed_on.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() && sender.send(passed_on).await.is_ok() {}
            });
        }
        Ok(Self(receiver))
    }

    /// The next one that asks for an end.
    pub(super) async fn end(&mut self) -> Signal {
        loop {
            match self.0.recv().await {
                Some(Signal::USR1 | Signal::USR2) => {}
                Some(signal) => return signal,
                None => std::future::pending().await,
            }
        }
    }

    /// Passes them on, as long as the command runs. A second TERM is a KILL: whoever sends it has waited long enough.
    pub(super) async fn pass_on(&mut self, child: Option<u32>) {
        let child = child.and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut is_told_to_end = false;
        while let (Some(mut signal), Some(child)) = (self.0.recv().await, child) {
            if matches!(signal, Signal::INT | Signal::QUIT) && is_of_the_terminal() {
                continue;
            }
            if signal == Signal::TERM && std::mem::replace(&mut is_told_to_end, true) {
                say("TERM again: the command is killed");
                signal = Signal::KILL;
            }
            // If it fails, the command has ended, and that is seen next.
            let _ = kill_process(child, signal);
        }
        std::future::pending::<()>().await;
    }
}

/// Whether the keys of a terminal reach us, and with us the command, which is of the same group: it has the signal already.
fn is_of_the_terminal() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
