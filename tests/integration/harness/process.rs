//! The program itself, as a process of its own.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Nothing takes this long, whatever else the machine does.
const FOREVER: Duration = Duration::from_mins(1);

/// A running server process, killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    /// All log lines so far.
    pub lines: Vec<String>,
    /// `127.0.0.1:PORT`
    pub address: String,
}

/// The program with an empty environment, in a folder.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onex-registry"));
    command.current_dir(folder).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the program to its end.
pub(crate) async fn run(command: &mut Command) -> std::process::Output {
    tokio::time::timeout(FOREVER, command.output()).await.expect("the program ends").unwrap()
}

impl Process {
    /// Starts a server and waits until it listens.
    pub(crate) async fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut process = Self { child, log, lines: Vec::new(), address: String::new() };
        let listening = process.line_with("\"listening\"").await;
        process.address.push_str(listening["address"].as_str().unwrap());
        process
    }

    /// The next log line that contains a text.
    pub(crate) async fn line_with(&mut self, text: &str) -> Value {
        loop {
            let line = tokio::time::timeout(FOREVER, self.log.next_line()).await.expect("the log goes on");
            let line = line.unwrap().unwrap_or_else(|| panic!("no line with {text}: {:#?}", self.lines));
            self.lines.push(line.clone());
            if line.contains(text) {
                return serde_json::from_str(&line).expect("a log line is JSON");
            }
        }
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }

    /// Waits for the end; all log lines are there then.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        while let Ok(Some(line)) = tokio::time::timeout(FOREVER, self.log.next_line()).await.expect("it ends")
        {
            self.lines.push(line);
        }
        self.wait_without_reading().await
    }

    /// Waits for the end while nobody reads the log.
    pub(crate) async fn wait_without_reading(&mut self) -> ExitStatus {
        tokio::time::timeout(FOREVER, self.child.wait()).await.expect("it ends").unwrap()
    }

    /// All that the server wrote to its standard output, once it has ended.
    pub(crate) async fn standard_output(&mut self) -> String {
        use tokio::io::AsyncReadExt as _;
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
