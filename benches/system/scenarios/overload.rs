//! Ten times as many registrations as can be written.

use std::time::Duration;

use super::FLEET;
use super::beside::{registration, registrations};
use crate::measure::{Latency, Pairs, Sample, median, p99, rate};
use crate::open_loop::{self, Offer, Overloaded};
use crate::server::Log;
use crate::stage::Stage;
use crate::table::{Row, Target, megabytes, time};
use crate::wrk::{self, Load};

/// The client has the same two cores, and could not send ten times what they can write. So each row takes a while in
/// the database, and little of the processor.
const SLOW_ROWS: &str = "
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END $$;
    CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE ON node_registrations FOR EACH ROW EXECUTE FUNCTION dawdle()";
/// What gives the most, as in the other scenarios.
const USUAL: u32 = 512;
/// As many as wait at once, and some to be refused on.
const CONNECTIONS: u32 = 4_096;
const TIMES: f64 = 10.0;
/// What a refusal may take: it is told at once.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Memory beyond that before, in megabytes: all that may wait, and connections.
const MORE_MEMORY: f64 = 200.0;
/// Afterwards, of the rate before.
const RECOVERED: f64 = 0.8;

pub(super) async fn registrations_at_ten_times(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(FLEET).await?;
    stage.run_in(&database, SLOW_ROWS).await?;
    let server = stage.serve(&database, Log::Warn).await?;
    let (url, file) = (server.url("/"), database.fleet.write(stage.folder())?);
    let load = Load::Of(Load::PUT, &file);
    let bodies = registrations(&database.fleet)?;
    let before_all = server.resident_bytes()?;

    let usual = async || {
        let runs = [stage.next_run(), stage.next_run()];
        wrk::run(&url, &load, USUAL, stage.pace.run, runs).await
    };
    let (mut pairs, mut refusals, mut most_memory) = (Pairs::default(), Vec::new(), 0);
    let mut recovered = Pairs::default();
    for _ in 0..stage.pace.rounds {
        let before = usual().await?;
        let (bodies, begin) = (bodies.clone(), u64::from(stage.next_run()) * 1_000_000_000);
        let Overloaded { accepted, refused } = open_loop::overload(Offer {
            address: server.address,
            connections: CONNECTIONS,
            rate: TIMES * before.rate,
            time: stage.pace.run,
            request: move |number| registration(&bodies, number, begin),
        })
        .await?;
        most_memory = most_memory.max(server.resident_bytes()?);
        recovered.ours.push(usual().await?);
        recovered.reference.push(before);
        pairs.ours.push(sample(&accepted, &refused, stage.pace.run));
        pairs.reference.push(before);
        refusals.push(Latency::of(refused));
    }
    let refusal = |of: fn(&Latency) -> Duration| {
        Duration::from_secs_f64(median(refusals.iter().map(|latency| of(latency).as_secs_f64())))
    };
    let refusal = Latency { p50: refusal(|latency| latency.p50), p99: refusal(|latency| latency.p99) };
    let grown = megabytes(most_memory) - megabytes(before_all);
    Ok(vec![
        Row::of_pairs(
            "p99 of accepted registrations, at ten times as many as can be written (4,096 connections)",
            "as many as can be, 512 connections",
            &pairs,
            p99,
            Target::Under(4.0),
        ),
        Row::of_figure(
            "what is refused meanwhile: until the refusal, p99",
            time(refusal.p99),
            &time(AT_ONCE),
            !refusal.p99.is_zero() && refusal.p99 <= AT_ONCE,
        )
        .with_latency(refusal),
        Row::of_figure(
            "memory meanwhile, beyond that before",
            format!("{grown:.0} MB"),
            &format!("{MORE_MEMORY:.0} MB"),
            grown <= MORE_MEMORY,
        ),
        Row::of_pairs(
            "registrations right after it, 512 connections",
            "right before it",
            &recovered,
            rate,
            Target::AtLeast(RECOVERED),
        ),
    ])
}

fn sample(accepted: &[Duration], refused: &[Duration], time: Duration) -> Sample {
    let count = |times: &[Duration]| f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    Sample {
        rate: count(accepted) / time.as_secs_f64(),
        refused: count(refused) / (count(accepted) + count(refused)),
        latency: Latency::of(accepted.to_vec()),
    }
}
