//! A crowd that does nothing: what a connection costs that is only there, and a helper that only runs.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::overhead::processor;
use crate::bench::contestant::Contestant;
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::{Lab, gather};
use crate::bench::results::Measured;
use crate::bench::server::Server;
use crate::bench::statistics::Summary;
use crate::bench::usage;

const STARTS: usize = 20;

/// Connections to weigh, and as many more for what they cost others.
const CROWD: u16 = 2000;

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
    let base = memory(&server)?;
    let alone = processor(&lab.run(&lab.load(&server, 1))?);

    let before = memory(&server)?;
    let mut crowd = lab.start_crowd(&lab.crowd(&server, CROWD.into()))?;
    ensure!(gather(&mut crowd)?.failed == 0, "not everybody was let in");
    let each = (memory(&server)? - before) / f64::from(CROWD);
    thread::sleep(QUIET);
    let threads = usage::threads(server.id())?;

    let mut more = lab.start_crowd(&lab.crowd(&server, CROWD.into()))?;
    ensure!(gather(&mut more)?.failed == 0, "not everybody was let in");
    let crowded = processor(&lab.run(&lab.load(&server, 1))?);

    Ok(vec![
        (Figure::new("exec to first handshake", "ms", START), start),
        (Figure::new("PSS, nobody connected", "KiB", BASE), base),
        (Figure::new("PSS per idle connection", "KiB", MEMORY), each),
        (
            Figure::new("threads, 2000 idle", "number", THREADS),
            whole(threads),
        ),
        (Figure::new("CPU per request, 0 idle", "µs", &[]), alone),
        (
            Figure::new("CPU per request, 4000 idle", "µs", &[]),
            crowded,
        ),
        (
            Figure::new("the latter / the former", "×", GROWTH),
            crowded / alone,
        ),
    ])
}

/// The median of some starts, in milliseconds.
fn start_time(lab: &Lab, contestant: &Contestant) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let server = lab.start(contestant)?;
        times.push(milliseconds(server.start_time));
    }
    Ok(Summary::of(&times).map_or(f64::NAN, |summary| summary.median))
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
