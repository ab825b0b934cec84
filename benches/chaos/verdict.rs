//! What a run shows.

use serde_json::Value;

use crate::checker::{self, Log, What};
use crate::client::Site;
use crate::rules::{self, Lateness, Recovery};
use crate::run::{End, Happened, Ran};
use crate::stage::Stage;

const DOCUMENT: &str = include_str!("../../openapi/openapi.json");

/// Longer than so many times the limit is wrong, on a machine however busy.
const FAR: u32 = 3;

/// What became of the servers after a fault, or after two at once.
pub(crate) struct Recovered {
    pub(crate) happened: Happened,
    pub(crate) of_servers: Vec<Recovery>,
    /// Of what was asked from its beginning on, until all was well.
    pub(crate) late: Lateness,
}

/// What a site has to show.
pub(crate) struct OfSite {
    pub(crate) name: &'static str,
    pub(crate) statuses: std::collections::BTreeMap<u16, usize>,
    pub(crate) requests: usize,
    /// Broken off, without an answer, or never sent.
    pub(crate) unknown: usize,
    pub(crate) acknowledged: usize,
    pub(crate) reads: usize,
    pub(crate) told: usize,
    pub(crate) late: Lateness,
    /// Of each server, in bytes.
    pub(crate) worst_memory: Vec<u64>,
}

pub(crate) struct Verdict {
    pub(crate) sites: Vec<OfSite>,
    pub(crate) recovered: Vec<Recovered>,
    /// Acknowledged writes that are not there.
    pub(crate) lost: Vec<String>,
    /// All else that is wrong.
    pub(crate) wrong: Vec<String>,
    /// Recoveries that took far too long.
    pub(crate) slow: Vec<String>,
    pub(crate) missing: Vec<String>,
}

pub(crate) fn judge(stage: &Stage, ran: Ran) -> anyhow::Result<Verdict> {
    let document: Value = serde_json::from_str(DOCUMENT)?;
    let mut verdict = Verdict {
        sites: Vec::new(),
        recovered: Vec::new(),
        lost: Vec::new(),
        wrong: ran.wrong,
        slow: Vec::new(),
        missing: stage.missing.clone(),
    };
    for (site, end) in stage.sites().into_iter().zip(ran.ends) {
        verdict.judge_site(stage, site, end, &document);
    }
    for happened in ran.happened {
        verdict.judge_recovery(stage, happened);
    }
    Ok(verdict)
}

impl Verdict {
    fn judge_site(&mut self, stage: &Stage, site: &Site, end: End, document: &Value) {
        let (asked, history) = (site.book.asked().clone(), site.book.history().clone());
        let downs = stage.downs(site).clone();
        self.wrong.extend(end.wrong);
        self.lost.extend(rules::table(&end.nodes, &end.events));
        self.lost.extend(rules::beats(&site.book.beats(), &end.nodes, &end.events));
        self.wrong.extend(rules::answers(&asked, document));
        self.wrong.extend(rules::broken(&asked, &downs));
        self.wrong.extend(rules::closed(&site.book.streams(), &downs));

        let log = Log(end.events);
        let (lost, wrong): (Vec<String>, Vec<String>) =
            checker::judge(&history, &log).into_iter().partition(|wrong| wrong.contains(checker::MISSING));
        self.lost.extend(lost);
        self.wrong.extend(wrong);
        let acknowledged = log.acknowledged(&history);
        self.wrong.extend(rules::freshness(&asked, &acknowledged));
        let mut told = 0;
        for (watcher, revisions) in site.book.told().iter() {
            told += revisions.len();
            let wrong = checker::judge_watcher(revisions, 0, &log);
            self.wrong.extend(wrong.into_iter().map(|wrong| format!("{}, {watcher}: {wrong}", site.name)));
        }

        let mut statuses = std::collections::BTreeMap::new();
        for answer in asked.iter().filter_map(rules::Asked::answer) {
            *statuses.entry(answer.status).or_insert(0) += 1;
        }
        let answered: usize = statuses.values().sum();
        let count = |is: fn(&What) -> bool| history.iter().filter(|operation| is(&operation.what)).count();
        self.sites.push(OfSite {
            name: site.name,
            statuses,
            requests: asked.len(),
            unknown: asked.len() - answered,
            acknowledged: count(|what| matches!(what, What::Write { acknowledged: true, .. })),
            reads: count(|what| matches!(what, What::Read { .. })),
            told,
            late: rules::lateness(asked.iter()),
            worst_memory: site.servers.iter().map(|server| server.worst_memory()).collect(),
        });
    }

    fn judge_recovery(&mut self, stage: &Stage, happened: Happened) {
        let of_the_file = happened.faults.iter().all(|fault| fault.is_of_the_file());
        let site = if of_the_file { &stage.file } else { &stage.fleet };
        let (ended, until) = (happened.ended, happened.until);
        let asked = site.book.asked();
        let of_servers = rules::recovery(&asked, site.servers.len(), ended, until);
        let late = rules::lateness(
            asked.iter().filter(|request| request.ended >= happened.began && request.began < until),
        );
        drop(asked);
        let recovered = Recovered { happened, of_servers, late };
        let limit = u64::try_from((recovered.limit() * FAR).as_micros()).unwrap_or(u64::MAX);
        for recovery in &recovered.of_servers {
            let in_time = |took: Option<u64>| took.is_some_and(|took| took <= limit);
            if !in_time(recovery.write) || !in_time(recovery.read) {
                let faults = &recovered.happened.faults;
                self.slow.push(format!("after {faults:?}, which ended at {ended}: {recovery:?}"));
            }
        }
        self.recovered.push(recovered);
    }

    pub(crate) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.wrong.is_empty() && self.slow.is_empty()
    }

    /// What is wrong, or the beginning of it.
    pub(crate) fn show(&self) {
        for (what, list) in [("lost", &self.lost), ("wrong", &self.wrong), ("slow", &self.slow)] {
            for text in list.iter().take(20) {
                eprintln!("{what}: {text}");
            }
            if list.len() > 20 {
                eprintln!("{what}: and {} more", list.len() - 20);
            }
        }
    }
}

impl Recovered {
    /// That of the slowest.
    pub(crate) fn limit(&self) -> std::time::Duration {
        self.happened.faults.iter().map(|fault| fault.limit()).max().unwrap_or_default()
    }
}
