//! `events`: the audit trail, to its end or beyond.

use std::time::Duration;

use clap::Args;

use super::asking::{Cell, Format, Items, PAGE, Table, Terminal, ago, ask, client, say, told_to_end};
use super::outcome::{Usage, print};
use crate::client::{Client, ClientArgs, Event, EventPages, Query};

/// Between two looks for news.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry events --node-id node_auth_gate_compute
  onex-registry events --kind expired --kind deregistered
  onex-registry events --after 4711 --follow --output jsonl")]
pub(super) struct EventsArgs {
    /// Only events after this revision; left out: from the oldest that is kept
    #[arg(long, value_name = "REVISION")]
    after: Option<i64>,
    /// Events of the node with this id; repeated: of any of these
    #[arg(long, visible_alias = "id", value_name = "ID")]
    node_id: Vec<String>,
    /// registered, updated, deregistered, expired, healthy, stale or maintenance; repeated: any of these
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// At most so many events; left out: all
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on with those that are to come, until SIGINT
    #[arg(long, short)]
    follow: bool,
    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    server: ClientArgs,
}

pub(super) fn run(args: &EventsArgs) -> anyhow::Result<()> {
    if args.follow && args.output == Format::Json {
        return Err(Usage("--output json is one value, and --follow has no end: use jsonl".to_owned()).into());
    }
    let client = client(&args.server)?;
    ask(async {
        if !args.follow {
            return show(&client, args).await;
        }
        let stop = told_to_end()?;
        tokio::select! {
            outcome = show(&client, args) => outcome,
            () = stop => Ok(()),
        }
    })
}

async fn show(client: &Client, args: &EventsArgs) -> anyhow::Result<()> {
    let mut query = Query::new();
    if let Some(after) = args.after {
        query.add("after", after.to_string());
    }
    for (name, values) in [("node_id", &args.node_id), ("kind", &args.kind)] {
        for value in values {
            query.add(name, value);
        }
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    query.add("limit", left.min(PAGE).to_string());
    let mut pages = client.events(query);
    let header = ["REVISION", "WHEN", "KIND", "NODE ID", "BY", "CHANGED"];
    let mut table = Table::new(Terminal::of_output(), header);
    let mut items = Items::new(args.output);
    let mut is_first = true;
    while left > 0
        && let Some(events) = next(&mut pages, args.follow, is_first).await?
    {
        let events = events.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&events);
        left -= events.len() as u64;
        if args.output == Format::Table {
            let rows: Vec<_> = events.iter().map(|event| row(client, event)).collect();
            print(&table.lines(&rows))?;
        } else {
            let mut out = String::new();
            for event in events {
                items.add(event.raw.get(), &mut out);
            }
            print(&out)?;
        }
        is_first = false;
    }
    if args.output != Format::Table {
        return items.end();
    }
    if is_first { print(&table.lines(&[])) } else { Ok(()) }
}

/// The next events; `None` at the end, if it is not waited for more. While the server is away, it is waited for it.
async fn next(
    pages: &mut EventPages<'_>,
    is_followed: bool,
    mut is_first: bool,
) -> anyhow::Result<Option<Vec<Event>>> {
    let mut is_away = false;
    loop {
        let answer = pages.next().await;
        if answer.is_ok() && std::mem::take(&mut is_away) {
            say("the registry is back");
        }
        match answer {
            Ok(Some(page)) => return Ok(Some(page.events)),
            Ok(None) if is_followed => is_first = false,
            Ok(None) => return Ok(None),
            Err(error) if is_followed && !is_first && error.is_transient() => {
                if !std::mem::replace(&mut is_away, true) {
                    say(&format!("{error}; trying again"));
                }
                tokio::time::sleep(error.retry_after().unwrap_or_default()).await;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn row(client: &Client, event: &Event) -> [Cell; 6] {
    [
        Cell::new(&event.revision.to_string()),
        Cell::new(&ago(&event.occurred_at, client.server_now())),
        Cell::new(&event.kind),
        Cell::new(&event.node_id),
        Cell::new(&event.actor),
        Cell::new(&event.changed.join(", ")),
    ]
}
