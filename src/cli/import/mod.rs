//! `import`: a fleet from a file of JSON Lines. It passes through: a file of any size is never in memory as a whole.

mod batch;
mod item;
mod lines;
mod report;
mod send;

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc::{self, Receiver};

use self::batch::Batch;
use self::item::{Failure, Item};
use self::report::Report;
use self::send::{Done, Fate, Sending};
use super::asking::{Format, Progress, ask, client, duration, persistently, say, told_to_end};
use super::outcome::{Exit, Writing};
use crate::client::{Client, ClientArgs, Query};

/// How many batches may be on their way: one is written by the server while the next arrives. With more, a slow server has more
/// waiting than it takes.
const IN_FLIGHT: usize = 2;
/// How many may be read ahead.
const READ_AHEAD: usize = 2;
/// What is read of a file at once.
const BUFFER_BYTES: usize = 1 << 18;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry import fleet.jsonl
  onex-registry export --url http://old.example:8080 | onex-registry import -
  onex-registry import fleet.jsonl --dry-run
  onex-registry import fleet.jsonl --output json | jq .summary

A line is one registration, with its node_id. What a record has besides is left out, so that lists can be imported, too.
A line that fails doesn't stop the others; it is named, and the exit code is 1. To run it again is harmless.")]
pub(super) struct ImportArgs {
    /// A file with a JSON object on each line, or - for the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the lines by the server's rules, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// How long a batch is sent again if the server is away or busy
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    patience: Duration,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
    /// The form of the report: table: what failed to the standard error, the counts to the standard output; json and
    /// jsonl: all to the standard output
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    server: ClientArgs,
}

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let client = if args.dry_run { None } else { Some(client(&args.server)?) };
    let (reader, bytes) = open(&args.file)?;
    let (sender, batches) = mpsc::channel(READ_AHEAD);
    // Not waited for: what it waits for itself, another program may never write.
    std::thread::Builder::new().name("reader".to_owned()).spawn(move || batch::read(reader, &sender))?;
    let progress = Progress::of_bytes(bytes, args.quiet);
    let mut report = Report::new(args.output, args.dry_run, &progress);
    let outcome = ask(async {
        let stop = told_to_end()?;
        let work = async {
            match &client {
                Some(client) => import(client, args.patience, batches, &progress, &mut report).await,
                None => check(batches, &mut report).await,
            }
        };
        tokio::select! {
            outcome = work => outcome,
            () = stop => Err(anyhow::anyhow!("stopped by a signal")),
        }
    });
    let reported = report.end(outcome.is_ok());
    let counts = report.counts;
    drop(progress);
    if let Err(error) = outcome {
        say(&format!("it ended early, after {} lines: run it again, which is harmless", counts.lines));
        // Nobody reads the report: that is an end to a list, and not to a write.
        return Err(if error.is::<Writing>() { Exit(1).into() } else { error });
    }
    anyhow::ensure!(counts.failed == 0, "{} of {} lines failed", counts.failed, counts.lines);
    reported
}

/// Several batches are on their way at once, but for those with the same node in them: of the lines of a node, the last one
/// wins. They are reported in the order of the file.
async fn import(
    client: &Client,
    patience: Duration,
    mut batches: Receiver<io::Result<Batch>>,
    progress: &Progress,
    report: &mut Report<'_>,
) -> anyhow::Result<()> {
    let revision_before = revision(client, patience, progress).await?;
    let told = RefCell::default();
    let sending = Sending { client, progress, patience, revision_before, told: &told };
    let mut in_flight = FuturesOrdered::new();
    let mut ids: VecDeque<HashSet<String>> = VecDeque::new();
    let mut next: Option<Batch> = None;
    let mut is_read = false;
    // What was read before it is imported all the same.
    let mut unreadable = None;
    loop {
        let has_room = in_flight.len() < IN_FLIGHT;
        if let Some(batch) = &mut next
            && has_room
            && ids.iter().all(|others| others.is_disjoint(&batch.ids))
        {
            ids.push_back(std::mem::take(&mut batch.ids));
            in_flight.extend(next.take().map(|batch| sending.send(batch)));
            continue;
        }
        if next.is_none() && is_read && in_flight.is_empty() {
            return unreadable.map_or(Ok(()), Err);
        }
        tokio::select! {
            batch = batches.recv(), if next.is_none() && !is_read && has_room => match batch {
                Some(Ok(batch)) => next = Some(batch),
                Some(Err(error)) => {
                    unreadable = Some(anyhow::Error::new(error).context(CANT_READ));
                    is_read = true;
                }
                None => is_read = true,
            },
            Some(done) = in_flight.next(), if !in_flight.is_empty() => {
                ids.pop_front();
                report.add(done?)?;
            }
        }
    }
}

const CANT_READ: &str = "the file can't be read to its end";

/// Checks the lines, and sends nothing.
async fn check(mut batches: Receiver<io::Result<Batch>>, report: &mut Report<'_>) -> anyhow::Result<()> {
    while let Some(batch) = batches.recv().await {
        let batch = batch.context(CANT_READ)?;
        let fate = |(line, entry): (u64, Result<Item, Failure>)| {
            let checked = entry.and_then(|item| item::check(line, &item));
            checked.map_or_else(Fate::Failed, |()| Fate::Valid)
        };
        report.add(Done { bytes: batch.bytes, lines: batch.lines.into_iter().map(fate).collect() })?;
    }
    Ok(())
}

/// The newest change there is.
async fn revision(client: &Client, patience: Duration, progress: &Progress) -> anyhow::Result<i64> {
    let page = persistently(
        patience,
        |reason| progress.say(reason),
        async || {
            let mut query = Query::new();
            query.add("limit", "1");
            // A replica that is behind would call old what is new to it.
            query.add("consistency", "strong");
            client.nodes(query).next().await
        },
    );
    Ok(page.await?.map_or(0, |page| page.revision))
}

fn open(path: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin())), None));
    }
    let cant = || format!("can't read '{}'", path.display());
    let file = File::open(path).with_context(cant)?;
    let metadata = file.metadata().with_context(cant)?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), bytes))
}
