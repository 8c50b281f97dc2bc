//! A crowd that does nothing: what a connection costs that is only there, and a helper that only runs.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::overhead::processor;
use crate::bench::contestant::Contestant;
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::{Lab, gather};
use crate::bench::part::Load;
use crate::bench::results::Measured;
use crate::bench::server::Server;
use crate::bench::statistics::{Summary, ratio};
use crate::bench::usage;
use crate::bench::worker::Worker;

const STARTS: usize = 20;

/// How many idle connections a busy client is looked at beside.
const CROWDS: [u16; 4] = [1, 1000, 2000, 4000];

/// How many clients are busy: so many that no core rests, as it costs several times as much to wake one.
const BUSY: usize = 16;

/// Into how many turns the time for a point is divided.
const TURNS: u64 = 5;

/// How many of them are weighed.
const WEIGHED: u16 = 2000;

/// After how long nothing but waiting is left of a crowd's arrival: ours ends threads that have had
/// nothing to do for 10 seconds.
const QUIET: Duration = Duration::from_secs(12);

const MEMORY: &[Goal] = &[Goal::Below(0.5)];
const THREADS: &[Goal] = &[Goal::AtMost(3.0)];
const BASE: &[Goal] = &[Goal::Below(1024.0)];
const START: &[Goal] = &[Goal::Below(2.0)];
const GROWTH: &[Goal] = &[Goal::AtMost(1.2)];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let start = start_time(lab, contestant)?;
    let server = lab.start(contestant)?;
    let mut measured = vec![
        (Figure::new("exec to first handshake", "ms", START), start),
        (
            Figure::new("PSS, nobody connected", "KiB", BASE),
            memory(&server)?,
        ),
    ];
    // Of the same, with nobody else connected.
    let folder = tempfile::tempdir_in(lab.folder()).context("cannot make a folder")?;
    let quiet = lab.start_in(contestant, folder.path())?;
    let mut alone = Vec::new();
    let mut costs = Vec::new();
    let mut ratios = Vec::new();
    compare(lab, &quiet, &server)?;
    let before = memory(&server)?;
    let mut connected = 0;
    // Kept, as they leave with it.
    let mut crowds = Vec::new();
    for crowd in CROWDS {
        crowds.push(join(lab, &server, crowd - connected)?);
        connected = crowd;
        if crowd == WEIGHED {
            let each = (memory(&server)? - before) / f64::from(WEIGHED);
            thread::sleep(QUIET);
            let threads = whole(usage::threads(server.id())?);
            measured.extend([
                (Figure::new("PSS per idle connection", "KiB", MEMORY), each),
                (
                    Figure::new("threads, 2000 idle", "number", THREADS),
                    threads,
                ),
            ]);
        }
        let (of_quiet, of_crowded) = compare(lab, &quiet, &server)?;
        let name = format!("the same, {crowd} idle / 0 idle");
        ratios.extend(
            ratio(&of_crowded, &of_quiet).map(|ratio| (Figure::new(name, "×", GROWTH), ratio)),
        );
        costs.push((cost_beside(crowd), median(&of_crowded)));
        alone.extend(of_quiet);
    }
    measured.push((cost_beside(0), median(&alone)));
    measured.extend(costs);
    measured.extend(ratios);
    Ok(measured)
}

/// More connections that do nothing.
fn join(lab: &Lab, server: &Server, connections: u16) -> Result<Vec<Worker>> {
    let mut crowd = lab.start_crowd(&lab.crowd(server, connections.into()))?;
    ensure!(gather(&mut crowd)?.failed == 0, "not everybody was let in");
    Ok(crowd)
}

/// Processor time for a request of busy clients in microseconds, of two servers that take turns: what else the
/// machine does meets both.
fn compare(lab: &Lab, quiet: &Server, crowded: &Server) -> Result<(Vec<f64>, Vec<f64>)> {
    let cost = |server| {
        let load = lab.load(server, BUSY);
        let milliseconds = (load.milliseconds / TURNS).max(1);
        let served = lab.run(&Load {
            milliseconds,
            ..load
        })?;
        Ok::<_, anyhow::Error>(processor(&served))
    };
    let (mut of_quiet, mut of_crowded) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        of_quiet.push(cost(quiet)?);
        of_crowded.push(cost(crowded)?);
    }
    Ok((of_quiet, of_crowded))
}

fn cost_beside(idle: u16) -> Figure {
    let name = format!("CPU per request, {BUSY} busy, {idle} idle");
    Figure::new(name, "µs", &[])
}

/// The median of some starts, in milliseconds.
fn start_time(lab: &Lab, contestant: &Contestant) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let server = lab.start(contestant)?;
        times.push(milliseconds(server.start_time));
    }
    Ok(median(&times))
}

fn median(values: &[f64]) -> f64 {
    Summary::of(values).map_or(f64::NAN, |summary| summary.median)
}

fn memory(server: &Server) -> Result<f64> {
    usage::memory(server.id()).map(whole)
}

fn whole(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
