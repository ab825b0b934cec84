//! `watch`: changes as they happen, a line each, until SIGINT.

use clap::Args;

use super::asking::{Cell, Format, Items, NodeFilters, Table, Terminal, ask, client, say, told_to_end};
use super::outcome::{Usage, print};
use crate::client::{Change, Client, ClientArgs, NodeFields, WatchEvent};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  onex-registry watch --type effect
  onex-registry watch --kind stale --kind expired --output jsonl
  onex-registry watch --snapshot --metadata environment=dev

It goes on when the server is started again, where it was: no change is lost, and none comes twice.")]
pub(super) struct WatchArgs {
    /// Changes of this kind, such as registered or stale; repeated: of any of these
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Begin after this revision; left out: now
    #[arg(long, value_name = "REVISION", conflicts_with = "snapshot")]
    after: Option<i64>,
    /// Begin with the nodes as they are
    #[arg(long)]
    snapshot: bool,
    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    filters: NodeFilters,
    #[command(flatten)]
    server: ClientArgs,
}

pub(super) fn run(args: &WatchArgs) -> anyhow::Result<()> {
    if args.output == Format::Json {
        return Err(Usage("--output json is one value, and a watch has no end: use jsonl".to_owned()).into());
    }
    let client = client(&args.server)?;
    ask(async {
        let stop = told_to_end()?;
        tokio::select! {
            outcome = watch(&client, args) => outcome,
            () = stop => Ok(()),
        }
    })
}

async fn watch(client: &Client, args: &WatchArgs) -> anyhow::Result<()> {
    let mut query = args.filters.query()?;
    for kind in &args.kind {
        query.add("kind", kind);
    }
    if let Some(after) = args.after {
        query.add("after", after.to_string());
    }
    if args.snapshot {
        query.add("snapshot", "true");
    }
    let mut shown = Shown {
        // As wide as what usually stands there.
        table: Table::new(Terminal::of_output(), ["TIME", "WHAT", "TYPE", "VERSION", "STATUS", "NODE ID"])
            .at_least([20, 12, 12, 8, 11, 0]),
        items: Items::new(args.output),
        format: args.output,
    };
    if args.output == Format::Table {
        print(&shown.table.lines(&[]))?;
    }
    let mut watch = client.watch(query);
    let mut is_lost = false;
    loop {
        match watch.next().await? {
            WatchEvent::Connected if is_lost => {
                is_lost = false;
                say("the registry is back");
            }
            WatchEvent::Connected => {}
            WatchEvent::Snapshot(node) => shown.node(&node.fields, node.raw.get())?,
            WatchEvent::Synced(revision) => shown.synced(revision)?,
            WatchEvent::Change(change) => shown.change("change", &change)?,
            WatchEvent::Removed(change) => shown.change("removed", &change)?,
            WatchEvent::Lost { reason, .. } => {
                if !std::mem::replace(&mut is_lost, true) {
                    say(&format!("{reason}; trying again"));
                }
            }
            WatchEvent::Gap => {
                say("what changed since then is not known any more: here are the nodes as they are");
            }
        }
    }
}

struct Shown {
    table: Table<6>,
    items: Items,
    format: Format,
}

impl Shown {
    fn change(&mut self, name: &str, change: &Change) -> anyhow::Result<()> {
        if self.format == Format::Jsonl {
            return self.object(name, change.event.raw.get());
        }
        let event = &change.event;
        let node = change.node.as_ref().map(|node| &node.fields);
        let is_gone = matches!(event.kind.as_str(), "deregistered" | "expired");
        // It is there, and not what was asked for any more.
        let left = format!("{} (left)", event.kind);
        let what = if name == "removed" && !is_gone { &left } else { &event.kind };
        self.row(&event.occurred_at, what, &event.node_id, node)
    }

    fn node(&mut self, node: &NodeFields, json: &str) -> anyhow::Result<()> {
        if self.format == Format::Jsonl {
            return self.object("snapshot", json);
        }
        self.row(&node.updated_at, "present", &node.node_id, Some(node))
    }

    fn synced(&mut self, revision: i64) -> anyhow::Result<()> {
        if self.format == Format::Jsonl {
            return self.object("synced", &format!(r#"{{"revision":{revision}}}"#));
        }
        Ok(())
    }

    fn object(&mut self, name: &str, data: &str) -> anyhow::Result<()> {
        let mut out = String::new();
        self.items.add(&format!(r#"{{"event":"{name}","data":{data}}}"#), &mut out);
        print(&out)
    }

    fn row(&mut self, at: &str, what: &str, id: &str, node: Option<&NodeFields>) -> anyhow::Result<()> {
        let of = |field: fn(&NodeFields) -> &String| node.map_or("", |node| field(node));
        let row = [
            Cell::new(&second(at)),
            Cell::new(what),
            Cell::new(of(|node| &node.node_type)),
            Cell::new(of(|node| &node.node_version)),
            Cell::status(of(|node| &node.status)),
            Cell::new(id),
        ];
        print(&self.table.lines(&[row]))
    }
}

/// An instant to the second. What is no such instant is shown as it is.
fn second(at: &str) -> String {
    match at.split_once('.') {
        Some((second, _)) if at.ends_with('Z') => format!("{second}Z"),
        _ => at.to_owned(),
    }
}
