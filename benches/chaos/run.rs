//! A run: load, faults one after the other, then two at once, and the end, at which all has to be quiet and equal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Request, Site};
use crate::dice::Dice;
use crate::faults::{Fault, until_it_lives};
use crate::load;
use crate::rules::{Kind, recovery};
use crate::stage::Stage;

/// Clients of the servers on PostgreSQL. Watchers: one stays at each server, the others roam.
const WRITERS: usize = 8;
const READERS: usize = 8;
const WATCHERS: usize = 4;
/// Clients of the server on SQLite.
const FEW: usize = 2;

/// Between a fault's end, with all well again, and the next fault.
const CALM: Duration = Duration::from_millis(1_500);
/// How long all may take to be well again before the next fault begins all the same.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long servers may take to agree at the end.
const TO_AGREE: Duration = Duration::from_secs(30);

/// A fault, or two, that happened.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) faults: Vec<Fault>,
    pub(crate) began: u64,
    /// When the last of them was over.
    pub(crate) ended: u64,
    /// When the next began, or the run ended.
    pub(crate) until: u64,
}

/// What the end of a site was.
pub(crate) struct End {
    /// All events.
    pub(crate) events: Vec<Value>,
    /// The nodes, as the database has them.
    pub(crate) nodes: Vec<Value>,
    /// What servers had otherwise.
    pub(crate) wrong: Vec<String>,
}

/// What came of a run, besides the books.
pub(crate) struct Ran {
    pub(crate) happened: Vec<Happened>,
    /// By site.
    pub(crate) ends: [End; 2],
    pub(crate) wrong: Vec<String>,
}

pub(crate) async fn run(stage: &Stage, seed: u64, time: Duration, only: &[Fault]) -> anyhow::Result<Ran> {
    for server in stage.servers() {
        server.start()?;
        until_it_lives(server).await?;
    }
    let (writing, watching) = (CancellationToken::new(), CancellationToken::new());
    let mut clients = JoinSet::new();
    let mut watchers = JoinSet::new();
    for (site, writers, readers, watches) in
        [(&stage.fleet, WRITERS, READERS, WATCHERS), (&stage.file, FEW, FEW, FEW)]
    {
        for n in 0..writers {
            clients.spawn(load::write(Arc::clone(site), n, seed, writing.clone()));
        }
        for n in 0..readers {
            clients.spawn(load::read(Arc::clone(site), n, writers, seed, writing.clone()));
        }
        for n in 0..watches {
            let roams = n >= site.servers.len();
            watchers.spawn(load::watch(Arc::clone(site), n, roams, watching.clone()));
        }
    }
    for server in stage.servers().cloned() {
        watchers.spawn(weigh(server, watching.clone()));
    }
    tokio::time::sleep(CALM).await;

    let mut wrong = Vec::new();
    let happened = faults(stage, seed, time, only, &mut wrong).await?;
    eprintln!("== the end");
    writing.cancel();
    while let Some(client) = clients.join_next().await {
        client??;
    }
    // What was begun is ended, and signs of life that came last are events now.
    tokio::time::sleep(2 * CALM).await;
    let ends = [end(&stage.fleet).await?, end(&stage.file).await?];
    // Watchers are told what has happened last.
    tokio::time::sleep(2 * CALM).await;
    watching.cancel();
    while let Some(watcher) = watchers.join_next().await {
        watcher??;
    }
    for server in &stage.file.servers {
        server.stop().await?;
    }
    wrong.extend(stage.integrity().await?.map(|found| format!("the SQLite file is broken: {found}")));
    Ok(Ran { happened, ends, wrong })
}

/// Has faults happen until the time is up.
async fn faults(
    stage: &Stage,
    seed: u64,
    time: Duration,
    only: &[Fault],
    wrong: &mut Vec<String>,
) -> anyhow::Result<Vec<Happened>> {
    let mut dice = Dice(seed);
    let chosen = |fault: &Fault| only.is_empty() || only.contains(fault);
    let all: Vec<Fault> = Fault::value_variants()
        .iter()
        .copied()
        .filter(|fault| chosen(fault) && !fault.is_missing(stage))
        .collect();
    anyhow::ensure!(!all.is_empty(), "none of these faults can happen here");
    let mut singly = all.clone();
    let start = Instant::now();
    let mut happened: Vec<Happened> = Vec::new();
    while start.elapsed() < time {
        let faults = match singly.len() {
            0 => by_chance(&all, &mut dice),
            left => vec![singly.swap_remove(dice.below(left))],
        };
        let names: Vec<String> = faults.iter().map(|fault| fault.name()).collect();
        eprintln!("== {:>4} s: {}", start.elapsed().as_secs(), names.join(" and "));
        let rolls: Vec<Dice> = faults.iter().map(|_| Dice(dice.below(usize::MAX >> 1) as u64)).collect();
        let began = stage.fleet.book.now();
        let all_at_once = faults.iter().zip(rolls).map(|(fault, dice)| fault.happen(stage, dice));
        let ends = futures_util::future::try_join_all(all_at_once).await?;
        let ended = ends.into_iter().max().unwrap_or_default();
        until_well(stage, &faults, ended).await;
        stage.pair.tidy_up().await?;
        tokio::time::sleep(CALM).await;
        for server in stage.servers() {
            if server.has_ended()? {
                wrong.push(format!("server {} has ended by itself, after {names:?}", server.number));
                anyhow::bail!("{wrong:?}");
            }
        }
        happened.push(Happened { faults, began, ended, until: stage.fleet.book.now() });
    }
    Ok(happened)
}

/// One fault, or two that don't happen to the same.
fn by_chance(all: &[Fault], dice: &mut Dice) -> Vec<Fault> {
    let one = all[dice.below(all.len())];
    let others: Vec<Fault> = all.iter().copied().filter(|other| other.goes_with(one)).collect();
    if others.is_empty() || dice.below(3) == 0 {
        vec![one]
    } else {
        vec![one, others[dice.below(others.len())]]
    }
}

/// Waits until all servers have taken a write and answered a fresh read since. Whether that took too long is judged later.
async fn until_well(stage: &Stage, faults: &[Fault], ended: u64) {
    let begun = Instant::now();
    let sites = stage.sites();
    let concerned = sites
        .iter()
        .filter(|site| faults.iter().any(|fault| fault.is_of_the_file() == (site.name == stage.file.name)));
    for site in concerned {
        let is_well = || {
            let asked = site.book.asked();
            // The newest are at the end; what is older than the fault is not looked at.
            let since = asked.iter().rposition(|request| request.ended < ended).unwrap_or(0);
            recovery(&asked[since..], site.servers.len(), ended, u64::MAX)
                .iter()
                .all(|recovery| recovery.write.is_some() && recovery.read.is_some())
        };
        while !is_well() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Looks at a server's memory every second.
async fn weigh(server: Arc<crate::servers::Server>, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        server.weigh();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// What a site has once nobody writes: its servers have to agree with the database, byte for byte.
async fn end(site: &Arc<Site>) -> anyhow::Result<End> {
    let client = Client::new(site)?;
    let begun = Instant::now();
    loop {
        let mut pages: Vec<(String, String)> = Vec::new();
        for server in 0..site.servers.len() {
            for (what, kind) in [("", Kind::Read), ("&consistency=strong", Kind::Strong)] {
                let path = format!("/v1/nodes?limit=1000{what}");
                let reply = client.ask(server, &get("/v1/nodes", path, kind)).await;
                pages.push((format!("server {server}{what}"), reply.body.to_string()));
            }
        }
        let agree = pages.windows(2).all(|two| two[0].1 == two[1].1);
        if !agree && begun.elapsed() < TO_AGREE {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let of_the_database: Value = serde_json::from_str(&pages[1].1)?;
        let nodes = of_the_database["nodes"].as_array().cloned().unwrap_or_default();
        let wrong =
            if agree { Vec::new() } else { vec![format!("servers don't agree at the end: {pages:#?}")] };
        return Ok(End { events: events(&client).await?, nodes, wrong });
    }
}

/// All events, from the first.
async fn events(client: &Client) -> anyhow::Result<Vec<Value>> {
    let mut events: Vec<Value> = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/v1/events?after={after}&limit=1000");
        let reply = client.ask(0, &get("/v1/events", path, Kind::Strong)).await;
        anyhow::ensure!(reply.status == 200, "the events can't be read: {}", reply.body);
        events.extend(reply.body["events"].as_array().into_iter().flatten().cloned());
        after = reply.body["next_after"].as_i64().unwrap_or(i64::MAX);
        if reply.seen.is_none_or(|newest| after >= newest) {
            return Ok(events);
        }
    }
}

fn get(template: &'static str, path: String, kind: Kind) -> Request<'static> {
    Request { method: Method::GET, template, path, body: None, headers: Vec::new(), kind }
}
