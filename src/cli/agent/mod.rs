//! `agent`: runs a command as a node. It is registered before, kept alive while the command runs, and deregistered after.

mod check;
mod command;
mod life;
mod node;
mod reap;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use self::check::Check;
use self::command::Signals;
use self::life::Life;
use self::node::OurNode;
use self::reap::Ours;
use super::asking::{Entry, ask, duration, say};
use super::outcome::{Exit, Usage, report};
use crate::client::{Client, ClientArgs};

/// The variable of the registry's key. The command does not get it: it is the agent's.
const KEY: &str = "ONEX_REGISTRY_API_KEY";
/// The server's TTL unless it has been told another.
const USUAL_TTL: Duration = Duration::from_secs(90);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// So long a call may take at the least, however often there is one.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the start of the command waits for the registry.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How long the end waits for it: for what is on its way, and then for the deregistration.
const END_WITHIN: Duration = Duration::from_secs(3);
/// The exit code if the agent fails and no command was run, as `env` and `timeout` have it.
const OURS: u8 = 125;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry agent --file node.json -- ./serve --port 8000
  onex-registry agent --file node.json --set node_id=billing-$HOSTNAME -- ./serve
  onex-registry agent --file node.json --check 'curl -fsS http://127.0.0.1:8000/health' -- ./serve

Signals are passed on to the command, and its exit code is that of the agent. A second TERM kills the command. 125: the agent
failed before the command was run; 126, 127: the command can't be run, or isn't there.")]
pub(super) struct AgentArgs {
    /// A file with one registration, with its `node_id`
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// A field of it, in place of what the file says: name=text or name:=JSON, repeated
    #[arg(long, value_name = "FIELD")]
    set: Vec<Entry>,
    /// The time between two heartbeats; left out: a third of the TTL of the node, or of 90s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,
    /// Send heartbeats only while this succeeds: a command for /bin/sh, run before each
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// How long the check may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    check_timeout: Duration,
    /// Don't run the command before the node is registered, however long that takes
    #[arg(long)]
    require_registration: bool,
    /// Don't deregister the node at the end: it turns stale
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    server: ClientArgs,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(args: &AgentArgs) -> anyhow::Result<()> {
    let prepared = OurNode::read(&args.file, &args.set).and_then(|node| {
        let interval = interval(args, &node)?;
        let mut settings = args.server.check()?;
        // A call that hangs for longer than this costs heartbeats.
        settings.timeout = settings.timeout.min(interval.max(SHORTEST_TIMEOUT));
        Ok((node, interval, Client::new(&settings)?))
    });
    let (node, interval, client) = prepared.map_err(|error| failed(&error))?;
    ask(async {
        match be(args, &node, interval, &client).await? {
            0 => Ok(()),
            code => Err(Exit(code).into()),
        }
    })
}

/// Says what is wrong; the exit code says that it was not the command.
fn failed(error: &anyhow::Error) -> anyhow::Error {
    // Its code is that of other commands.
    let _ = report(error);
    Exit(OURS).into()
}

fn interval(args: &AgentArgs, node: &OurNode) -> anyhow::Result<Duration> {
    let ttl = node.ttl.unwrap_or(USUAL_TTL);
    let interval = args.interval.unwrap_or(ttl / 3);
    if interval < SHORTEST_INTERVAL {
        return Err(Usage("--interval: at least 100ms".to_owned()).into());
    }
    if node.ttl.is_some_and(|ttl| interval >= ttl) {
        let ttl = humantime::format_duration(ttl);
        return Err(
            Usage(format!("--interval: a node with a TTL of {ttl} would turn stale in between")).into()
        );
    }
    Ok(interval)
}

/// From the registration to the deregistration; the exit code.
async fn be(args: &AgentArgs, node: &OurNode, interval: Duration, client: &Client) -> anyhow::Result<u8> {
    let ours = Ours::default();
    let check = args.check.clone().map(|command| Check { command, timeout: args.check_timeout });
    let mut life = Life::new(client, node, interval, check.as_ref(), &ours);
    let mut signals = Signals::listen().map_err(|error| failed(&error.into()))?;
    let work = async {
        let code = match begin(&mut life, &mut signals, args.require_registration).await? {
            Some(signal) => command::code_of_signal(signal),
            None => run_command(args, &mut life, &mut signals, &ours).await?,
        };
        if !args.keep && tokio::time::timeout(END_WITHIN, life.end()).await.is_err() {
            say("not deregistered: the registry didn't answer in time");
        }
        Ok(code)
    };
    tokio::select! {
        code = work => code,
        () = ours.reap_others() => Ok(OURS),
    }
}

/// Registers the node. A signal that comes meanwhile ends it all, before the command was run.
async fn begin(life: &mut Life<'_>, signals: &mut Signals, must: bool) -> anyhow::Result<Option<Signal>> {
    let end = CancellationToken::new();
    let begun = async {
        if must {
            return life.begin(true, &end).await;
        }
        tokio::time::timeout(BEGIN_WITHIN, life.begin(false, &end)).await.unwrap_or_else(|_| {
            say("the registry doesn't answer; the command is run without it, and it is tried again");
            Ok(())
        })
    };
    tokio::pin!(begun);
    tokio::select! {
        begun = &mut begun => match begun {
            Ok(()) => Ok(None),
            Err(error) => Err(failed(&error.into())),
        },
        signal = signals.end() => {
            end.cancel();
            // Whether it is registered or not, the deregistration finds out.
            let _ = tokio::time::timeout(END_WITHIN, begun).await;
            Ok(Some(signal))
        }
    }
}

async fn run_command(
    args: &AgentArgs,
    life: &mut Life<'_>,
    signals: &mut Signals,
    ours: &Ours,
) -> anyhow::Result<u8> {
    let mut child = match command::start(&args.command) {
        Ok(child) => child,
        Err(error) => {
            let name = args.command.first().map(|name| name.display().to_string()).unwrap_or_default();
            say(&format!("can't run '{name}': {error}"));
            return Ok(command::code_of_no_start(&error));
        }
    };
    let id = child.id();
    let _claim = ours.claim(id);
    let end = CancellationToken::new();
    let ended = async {
        let status = tokio::select! {
            status = child.wait() => status,
            () = signals.pass_on(id) => Err(std::io::ErrorKind::Interrupted.into()),
        };
        end.cancel();
        status
    };
    let kept = async {
        tokio::select! {
            () = life.keep(&end) => {}
            () = async { end.cancelled().await; tokio::time::sleep(END_WITHIN).await } => {}
        }
    };
    let (status, ()) = tokio::join!(ended, kept);
    Ok(status.map_or_else(
        |error| {
            say(&format!("how the command ended is not known: {error}"));
            OURS
        },
        command::code,
    ))
}
