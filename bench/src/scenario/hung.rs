// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hanging commands of other clients, and a healthy client that sends a request each millisecond.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::context::{BenchContext, connect_all};
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::{IdleClients, Load, Served};
use crate::server::Server;
use crate::subject::{OURS, Subject};
use crate::worker::Worker;

const COMMANDS: [usize; 3] = [64, 200, 1000];

/// Arguments of our helper. With its default limit it would answer BUSY to some commands, because
/// all files count as one device.
const LIMIT: [&str; 2] = ["--max-commands-per-device", "4096"];

const PACE_US: u64 = 1000;
/// Time that the healthy client runs before the first command hangs.
const LEAD_TIME: Duration = Duration::from_millis(100);
/// Duration of the healthy client in milliseconds; all commands arrive within it.
const DURATION_MS: u64 = 1000;
/// Maximum time from sending a command until it hangs.
const SETTLE_TIME: Duration = Duration::from_millis(200);

const WORST: &[Goal] = &[Goal::Below(2.0)];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let mut measured = Vec::new();
    for commands in COMMANDS {
        let [arriving, hanging] = measure_with_hanging(context, subject, commands)
            .with_context(|| format!("with {commands} hanging commands"))?;
        let metric =
            |what: &str, goals| Metric::new(format!("{what} {commands} hang"), "ms", goals);
        measured.extend([
            (metric("wait p99 as", &[]), arriving.p99 / 1e3),
            (metric("wait worst as", WORST), arriving.worst / 1e3),
            (metric("wait p99 once", &[]), hanging.p99 / 1e3),
            (metric("wait worst once", WORST), hanging.worst / 1e3),
        ]);
    }
    Ok(measured)
}

/// The hanging devices.
pub(super) struct Devices {
    dir: PathBuf,
    _process: Worker,
}

impl Devices {
    pub(super) fn start(context: &BenchContext) -> Result<Self> {
        let dir = context.dir().join("hung");
        fs::create_dir_all(&dir).context("cannot create a directory")?;
        let arguments = ["bench-hang".into(), "--dir".into(), dir.clone().into()];
        let mut process = Worker::start(&context.executable, &arguments)?;
        process.send_start()?;
        Ok(Self {
            dir,
            _process: process,
        })
    }

    /// Starts clients that wait for the start signal. Each of them sends one command to a hanging
    /// device.
    pub(super) fn start_idle_clients(
        &self,
        context: &BenchContext,
        server: &Server,
        commands: usize,
    ) -> Result<Vec<Worker>> {
        context.start_idle_clients(&IdleClients {
            devices: vec![self.dir.join("0")],
            ..context.idle_clients(server, commands)
        })
    }
}

/// Measures the healthy client while the commands arrive, and once all of them hang. After a
/// timeout, its longest wait is the timeout.
fn measure_with_hanging(
    context: &BenchContext,
    subject: &Subject,
    commands: usize,
) -> Result<[Served; 2]> {
    // Variables are dropped in reverse order: first the clients, then the devices. Their end
    // completes the hanging commands, so that the helper can exit.
    let limit: &[OsString] = match subject.is(OURS) {
        true => &LIMIT.map(OsString::from),
        false => &[],
    };
    let server = context.start_with(subject, limit)?;
    let devices = Devices::start(context)?;
    let mut idle_clients = devices.start_idle_clients(context, &server, commands)?;
    let load = Load {
        pace: PACE_US,
        milliseconds: DURATION_MS,
        ..context.load(&server, 1)
    };
    let mut healthy = context.start_load(&load)?;
    healthy.send_start()?;
    thread::sleep(LEAD_TIME);
    let counts = connect_all(&mut idle_clients)?;
    ensure!(counts.failed == 0, "a client could not connect");
    let arriving = healthy.result()?;
    drop(healthy);
    thread::sleep(SETTLE_TIME);
    Ok([arriving, context.run(&load)?])
}
