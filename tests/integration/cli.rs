//! The commands that ask a server: the program itself, against real servers, and against what is none.

mod agent;
mod changes;
mod exit_codes;
mod fleets;
mod nodes;
mod settings;
mod strangers;
mod terminal;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::process::{program, run};
use crate::harness::{Backend, TestServer};

/// Nothing takes this long, whatever else the machine does.
const FOREVER: Duration = Duration::from_mins(1);

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    async fn by(command: &mut Command) -> Self {
        let output = run(command).await;
        Self {
            code: output.status.code().expect("no signal ended it"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails unless the command did what it should.
    fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    fn json(self) -> Value {
        let out = self.done();
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("not JSON: {out}"))
    }

    fn lines(self) -> Vec<Value> {
        self.done().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// The words of each line.
    fn words(self) -> Vec<Vec<String>> {
        self.done().lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }
}

/// The program in the folder of nobody, for the server at an address.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = program(Path::new("/"));
    command.env("ONEX_REGISTRY_URL", url).args(arguments);
    command
}

async fn ask(server: &TestServer, arguments: &[&str]) -> Said {
    Said::by(&mut command(&server.url, arguments)).await
}

/// The real nodes on a server.
async fn real_nodes(server: &TestServer) {
    let nodes: Vec<&str> = include_str!("../data/onex_nodes.jsonl").lines().collect();
    let answer = server.post("/v1/batch/nodes", format!(r#"{{"nodes":[{}]}}"#, nodes.join(","))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn server_with_real_nodes() -> TestServer {
    let server = TestServer::start(Backend::Sqlite).await;
    real_nodes(&server).await;
    server
}

/// A command that goes on until it is told to stop.
struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, out }
    }

    /// The next line of its output.
    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(FOREVER, self.out.next_line()).await.expect("it says something");
        line.unwrap().expect("it goes on")
    }

    /// Sends a signal, and waits for the end, but reads nothing: the exit code.
    async fn end_unread(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().expect("it goes on").to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap().success());
        tokio::time::timeout(FOREVER, self.child.wait()).await.expect("it ends").unwrap().code()
    }

    /// Sends a signal, and waits for the end: the exit code, and what it said to the standard error.
    async fn end(self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().expect("it goes on").to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap().success());
        let output =
            tokio::time::timeout(FOREVER, self.child.wait_with_output()).await.expect("it ends").unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

/// Something that is no registry: it reads what comes first, and answers with these bytes. Its address.
async fn stranger(answer: impl Into<Vec<u8>>) -> String {
    use tokio::io::AsyncReadExt as _;
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if connection.read(&mut request).await.is_ok() {
                    // Who has heard enough is gone.
                    let _ = connection.write_all(&answer).await;
                    let _ = connection.shutdown().await;
                }
            });
        }
    });
    url
}

/// An answer of HTTP.
fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{fields}\r\n{body}")
}
