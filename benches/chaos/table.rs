//! The table.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use clap::ValueEnum as _;

use crate::faults::Fault;
use crate::verdict::{OfSite, Recovered, Verdict};

const TWO: &str = "two at once";

pub(crate) struct Table<'v> {
    pub(crate) verdict: &'v Verdict,
    pub(crate) seed: u64,
}

/// Of one kind of fault, in microseconds.
#[derive(Default)]
struct Times {
    happened: usize,
    writes: Vec<u64>,
    reads: Vec<u64>,
    /// So many writes and reads were answered late meanwhile.
    late_writes: usize,
    slowest_write: u64,
    late_reads: usize,
    /// So many recoveries, of one server each, took longer than the limit, or didn't end.
    late: usize,
    limits: Vec<u64>,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.totals(f)?;
        self.recoveries(f)?;
        for missing in &self.verdict.missing {
            writeln!(f, "\nSkipped: {missing}")?;
        }
        writeln!(f, "\nSeed {}.", self.seed)
    }
}

impl Table<'_> {
    fn totals(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Verdict { sites, lost, wrong, slow, recovered, .. } = self.verdict;
        let names: Vec<&str> = sites.iter().map(|site| site.name).collect();
        writeln!(f, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(sites.len()))?;
        row(f, "requests", sites, |site| site.requests.to_string())?;
        row(f, "answered 2xx, 304", sites, |site| of(site, |status| status < 400))?;
        row(f, "404, 412", sites, |site| of(site, |status| matches!(status, 404 | 409 | 412)))?;
        row(f, "503, 504", sites, |site| of(site, |status| matches!(status, 503 | 504)))?;
        row(f, "507", sites, |site| of(site, |status| status == 507))?;
        row(f, "anything else", sites, |site| {
            of(site, |status| status >= 400 && !matches!(status, 404 | 409 | 412 | 503 | 504 | 507))
        })?;
        row(f, "unknown", sites, |site| site.unknown.to_string())?;
        row(f, "acknowledged writes", sites, |site| site.acknowledged.to_string())?;
        row(f, "nodes read", sites, |site| site.reads.to_string())?;
        row(f, "changes told to watchers", sites, |site| site.told.to_string())?;
        row(f, "writes and strong reads over 1.5 s", sites, |site| {
            late(site.late.writes, site.late.slowest_write)
        })?;
        row(f, "reads from memory over 300 ms", sites, |site| late(site.late.reads, site.late.slowest_read))?;
        row(f, "worst memory of each server", sites, |site| {
            let mebibytes = site.worst_memory.iter().map(|bytes| format!("{} MiB", bytes >> 20));
            mebibytes.collect::<Vec<_>>().join(", ")
        })?;
        let faults: usize = recovered.iter().map(|recovered| recovered.happened.faults.len()).sum();
        writeln!(f, "\n| | |\n|---|---|")?;
        writeln!(f, "| faults | {faults} |")?;
        writeln!(f, "| **acknowledged writes lost** | **{}** |", lost.len())?;
        writeln!(f, "| **wrong answers** | **{}** |", wrong.len())?;
        writeln!(f, "| **recoveries beyond three times their limit** | **{}** |", slow.len())
    }

    fn recoveries(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<String, Times> = BTreeMap::new();
        for recovered in &self.verdict.recovered {
            kinds.entry(kind(recovered)).or_default().add(recovered);
        }
        writeln!(
            f,
            "\n| fault | times | first write: median, worst | first fresh read: median, worst | limit | over it \
             | writes over 1.5 s meanwhile | reads over 300 ms |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        let order = Fault::value_variants().iter().map(|fault| fault.name()).chain([TWO.to_owned()]);
        for name in order {
            let Some(times) = kinds.remove(&name) else { continue };
            let (least, most) = (times.limits.iter().min(), times.limits.iter().max());
            let limit = match (least.copied().unwrap_or(0), most.copied().unwrap_or(0)) {
                (least, most) if least == most => format!("{} s", least / 1_000_000),
                (least, most) => format!("{} to {} s", least / 1_000_000, most / 1_000_000),
            };
            writeln!(
                f,
                "| {name} | {} | {} | {} | {limit} | {} | {} | {} |",
                times.happened,
                shown(times.writes),
                shown(times.reads),
                times.late,
                late(times.late_writes, times.slowest_write),
                times.late_reads
            )?;
        }
        Ok(())
    }
}

impl Times {
    fn add(&mut self, recovered: &Recovered) {
        let limit = u64::try_from(recovered.limit().as_micros()).unwrap_or(u64::MAX);
        self.happened += 1;
        self.limits.push(limit);
        self.late_writes += recovered.late.writes;
        self.late_reads += recovered.late.reads;
        self.slowest_write = self.slowest_write.max(recovered.late.slowest_write);
        for recovery in &recovered.of_servers {
            self.writes.extend(recovery.write);
            self.reads.extend(recovery.read);
            let in_time = |took: Option<u64>| took.is_some_and(|took| took <= limit);
            self.late += usize::from(!in_time(recovery.write) || !in_time(recovery.read));
        }
    }
}

fn kind(recovered: &Recovered) -> String {
    match recovered.happened.faults.as_slice() {
        [one] => one.name(),
        _ => TWO.to_owned(),
    }
}

fn row(f: &mut Formatter<'_>, name: &str, sites: &[OfSite], cell: impl Fn(&OfSite) -> String) -> fmt::Result {
    let cells: Vec<String> = sites.iter().map(cell).collect();
    writeln!(f, "| {name} | {} |", cells.join(" | "))
}

fn of(site: &OfSite, is: impl Fn(u16) -> bool) -> String {
    let counted = site.statuses.iter().filter(|(status, _)| is(**status)).map(|(_, count)| count);
    counted.sum::<usize>().to_string()
}

fn late(count: usize, slowest: u64) -> String {
    format!("{count}, the slowest {}", seconds(slowest))
}

/// The median and the worst.
fn shown(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => format!("{}, {}", seconds(*median), seconds(*worst)),
        _ => "never".to_owned(),
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000)
}
