//! How long discovery takes while others register.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};

use super::{FLEET, TEN_NODES};
use crate::client::request;
use crate::fleet::{Fleet, Halves};
use crate::measure::{Latency, Pairs, Sample, p99};
use crate::open_loop::{self, Offer};
use crate::references::Reference;
use crate::server::Log;
use crate::stage::Stage;
use crate::table::{Row, Target};
use crate::wrk::{self, Load};

/// Discoveries: few enough that the machine is idle without the writers.
const READERS: u32 = 8;
const READS_PER_SECOND: f64 = 1_000.0;
const WRITERS: u32 = 256;
/// Of wrk, to find out how many registrations there can be at most.
const CONNECTIONS: u32 = 512;

pub(super) async fn writers(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let database = stage.fleet(FLEET).await?;
    let server = stage.serve(&database, Log::Warn).await?;
    let file = database.fleet.write(stage.folder())?;
    let runs = [stage.next_run(), stage.next_run()];
    let load = Load::Of(Load::PUT, &file);
    let most = wrk::run(&server.url("/"), &load, CONNECTIONS, stage.pace.run, runs).await?.rate;

    let registrations = registrations(&database.fleet)?;
    // What the machine has left for anybody.
    let bare = Reference::bare(&server, TEN_NODES, Log::Warn, stage.folder()).await?;
    let (mut beside_idle, mut beside_bare) = (Pairs::default(), Pairs::default());
    let mut registered = Vec::new();
    let beside_writers = async |readers_of: SocketAddr| {
        stage.checkpoint().await?;
        let registrations = Arc::clone(&registrations);
        let begin = u64::from(stage.next_run()) * 1_000_000_000;
        let writing = open_loop::run(Offer {
            address: server.address,
            connections: WRITERS,
            rate: most / 2.0,
            time: stage.pace.run,
            request: move |number| registration(&registrations, number, begin),
        });
        let (reading, writing) = tokio::join!(discover(stage, readers_of), writing);
        anyhow::Ok((reading?, writing?.rate))
    };
    for _ in 0..stage.pace.rounds {
        stage.checkpoint().await?;
        beside_idle.reference.push(discover(stage, server.address).await?);
        let (ours, rate) = beside_writers(server.address).await?;
        registered.push(rate);
        beside_idle.ours.push(ours);
        beside_bare.ours.push(ours);
        beside_bare.reference.push(beside_writers(bare.address).await?.0);
    }
    let kept = crate::measure::median(registered);
    let work = format!(
        "discovery's p99 while registration runs at {:.0} % of its most, {most:.0}/s (8 connections, 1,000/s)",
        100.0 * kept / most
    );
    let of_a_bare_handler = "the same, beside the p99 of a bare handler while as many register at our server";
    Ok(vec![
        Row::of_pairs(&work, "idle", &beside_idle, p99, Target::Under(3.0)),
        Row::of_pairs(of_a_bare_handler, "bare handler", &beside_bare, p99, Target::None),
    ])
}

async fn discover(stage: &Stage, address: SocketAddr) -> anyhow::Result<Sample> {
    let offer = Offer {
        address,
        connections: READERS,
        rate: READS_PER_SECOND,
        time: stage.pace.run,
        request: |_| request(Method::GET, TEN_NODES, ""),
    };
    let outcome = open_loop::run_apart(offer).await?;
    Ok(Sample { rate: outcome.rate, refused: 0.0, latency: Latency::of(outcome.latencies) })
}

/// Those of a fleet.
pub(super) fn registrations(fleet: &Fleet) -> anyhow::Result<Arc<[Halves]>> {
    (0..FLEET).map(|number| fleet.halves(number)).collect()
}

/// One that differs from the row it meets, of a node that is far from the one before.
pub(super) fn registration(registrations: &[Halves], number: u32, begin: u64) -> Request<Full<Bytes>> {
    const STRIDE: usize = 7_919;
    let node = (number as usize).wrapping_mul(STRIDE) % registrations.len();
    let body = registrations.get(node).map(|halves| halves.with(begin + u64::from(number)));
    request(Method::PUT, &format!("/v1/nodes/{}", Fleet::id(node)), body.unwrap_or_default())
}
