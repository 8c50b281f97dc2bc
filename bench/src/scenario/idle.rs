// SPDX-License-Identifier: MIT OR Apache-2.0

//! Idle connections: their cost, and the cost of a helper without clients.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pr_testkit::usage::Usage;

use super::overhead::processor;
use crate::context::{BenchContext, connect_all};
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::Load;
use crate::server::Server;
use crate::statistics::{Summary, ratio};
use crate::subject::Subject;
use crate::usage;
use crate::worker::Worker;

const STARTS: usize = 20;

/// Numbers of idle connections beside the busy clients.
const IDLE_COUNTS: [u16; 4] = [1, 1000, 2000, 4000];

/// Number of busy clients. It is high enough to keep all cores busy, because waking an idle core
/// costs several times as much.
const BUSY: usize = 16;

/// Number of turns that the measuring time of a point is divided into.
const TURNS: u64 = 5;

/// Number of idle connections for which memory and threads are measured.
const MEMORY_COUNT: u16 = 2000;

/// Time until the effects of the connection setup are over: our helper ends threads after 10 idle
/// seconds.
const SETTLE_TIME: Duration = Duration::from_secs(12);

const MEMORY: &[Goal] = &[Goal::Below(0.5)];
const THREADS: &[Goal] = &[Goal::AtMost(3.0)];
const BASE: &[Goal] = &[Goal::Below(1024.0)];
const START: &[Goal] = &[Goal::Below(2.0)];
const GROWTH: &[Goal] = &[Goal::AtMost(1.2)];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let start = start_time(context, subject)?;
    let server = context.start(subject)?;
    let mut measured = vec![
        (Metric::new("exec to first handshake", "ms", START), start),
        (Metric::new("PSS, no clients", "KiB", BASE), memory(&server)),
    ];
    // A second instance of the same subject, without idle connections.
    let dir = tempfile::tempdir_in(context.dir()).context("cannot create a directory")?;
    let unloaded_server = context.start_in(subject, dir.path())?;
    let mut without_idle = Vec::new();
    let mut costs = Vec::new();
    let mut ratios = Vec::new();
    compare(context, &unloaded_server, &server)?;
    let before = memory(&server);
    let mut connected = 0;
    // Kept until the end, because dropping the workers closes the connections.
    let mut workers = Vec::new();
    for idle in IDLE_COUNTS {
        workers.push(add_idle(context, &server, idle - connected)?);
        connected = idle;
        if idle == MEMORY_COUNT {
            let per_connection = (memory(&server) - before) / f64::from(MEMORY_COUNT);
            thread::sleep(SETTLE_TIME);
            let threads = Usage::from_pid(server.pid()).threads;
            let threads = to_f64(u64::try_from(threads)?);
            measured.extend([
                (
                    Metric::new("PSS per idle connection", "KiB", MEMORY),
                    per_connection,
                ),
                (
                    Metric::new("threads, 2000 idle", "number", THREADS),
                    threads,
                ),
            ]);
        }
        let (unloaded, loaded) = compare(context, &unloaded_server, &server)?;
        let name = format!("CPU per request, {BUSY} busy, {idle} idle / 0 idle");
        ratios
            .extend(ratio(&loaded, &unloaded).map(|ratio| (Metric::new(name, "×", GROWTH), ratio)));
        costs.push((cost_beside(idle), median(&loaded)));
        without_idle.extend(unloaded);
    }
    measured.push((cost_beside(0), median(&without_idle)));
    measured.extend(costs);
    measured.extend(ratios);
    Ok(measured)
}

/// Adds idle connections.
fn add_idle(context: &BenchContext, server: &Server, connections: u16) -> Result<Vec<Worker>> {
    let mut idle = context.start_idle_clients(&context.idle_clients(server, connections.into()))?;
    ensure!(
        connect_all(&mut idle)?.failed == 0,
        "a client could not connect"
    );
    Ok(idle)
}

/// Returns the processor time for a request of busy clients in microseconds, for two servers that
/// take turns, so that background load affects both.
fn compare(
    context: &BenchContext,
    unloaded_server: &Server,
    loaded_server: &Server,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let cost = |server| {
        let load = context.load(server, BUSY);
        let milliseconds = (load.milliseconds / TURNS).max(1);
        let served = context.run(&Load {
            milliseconds,
            ..load
        })?;
        Ok::<_, anyhow::Error>(processor(&served))
    };
    let (mut unloaded, mut loaded) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        unloaded.push(cost(unloaded_server)?);
        loaded.push(cost(loaded_server)?);
    }
    Ok((unloaded, loaded))
}

fn cost_beside(idle: u16) -> Metric {
    let name = format!("CPU per request, {BUSY} busy, {idle} idle");
    Metric::new(name, "µs", &[])
}

/// Returns the median start time in milliseconds.
fn start_time(context: &BenchContext, subject: &Subject) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let server = context.start(subject)?;
        times.push(milliseconds(server.start_time));
    }
    Ok(median(&times))
}

fn median(values: &[f64]) -> f64 {
    Summary::from_values(values).map_or(f64::NAN, |summary| summary.median)
}

fn memory(server: &Server) -> f64 {
    to_f64(usage::memory(server.pid()))
}

fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
