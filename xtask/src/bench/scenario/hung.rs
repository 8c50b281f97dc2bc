//! Commands that hang, sent by others, and a healthy client that asks once in a millisecond.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bench::contestant::{Contestant, OURS};
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::{Lab, gather};
use crate::bench::part::{Crowd, Load, Served, disk};
use crate::bench::results::Measured;
use crate::bench::server::Server;
use crate::bench::worker::Worker;

const COMMANDS: [usize; 3] = [64, 200, 1000];

/// Arguments of ours. By default it answers BUSY to some of the commands: all files count together.
const LIMIT: [&str; 2] = ["--max-commands-per-device", "4096"];

const PACE: u64 = 1000;
/// How long the healthy client is at it before the first command hangs.
const BEFORE: Duration = Duration::from_millis(100);
/// How long it goes on, in milliseconds: long enough for all of them to arrive.
const LENGTH: u64 = 1000;
/// How long a command that was sent takes to hang, at most.
const SETTLED: Duration = Duration::from_millis(200);

const WORST: &[Goal] = &[Goal::Below(2.0)];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let mut measured = Vec::new();
    for commands in COMMANDS {
        let [arriving, hanging] = beside(lab, contestant, commands)
            .with_context(|| format!("beside {commands} commands"))?;
        let figure =
            |what: &str, goals| Figure::new(format!("{what} {commands} hang"), "ms", goals);
        measured.extend([
            (figure("wait p99 as", &[]), arriving.p99 / 1e3),
            (figure("wait worst as", WORST), arriving.worst / 1e3),
            (figure("wait p99 once", &[]), hanging.p99 / 1e3),
            (figure("wait worst once", WORST), hanging.worst / 1e3),
        ]);
    }
    Ok(measured)
}

/// Devices that hang.
pub(super) struct Devices {
    folder: PathBuf,
    _process: Worker,
}

impl Devices {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let folder = lab.folder().join("hung");
        fs::create_dir_all(&folder).context("cannot make a folder")?;
        let words = [
            "bench-hang".into(),
            "--folder".into(),
            folder.clone().into(),
        ];
        let mut process = Worker::start(&lab.parts, &words)?;
        process.begin()?;
        Ok(Self {
            folder,
            _process: process,
        })
    }

    /// A crowd that has not begun, each of which will send one command to one of them.
    pub(super) fn start_crowd(
        &self,
        lab: &Lab,
        server: &Server,
        commands: usize,
    ) -> Result<Vec<Worker>> {
        lab.start_crowd(&Crowd {
            devices: vec![self.folder.join(disk(0))],
            ..lab.crowd(server, commands)
        })
    }
}

/// A healthy client, as the commands come, and once they all hang. Where it has no answer, its last wait
/// is as long as it was ready to wait.
fn beside(lab: &Lab, contestant: &Contestant, commands: usize) -> Result<[Served; 2]> {
    // What is declared first goes last: clients, then the devices, whose end lets go what hangs, and then
    // the helper can end.
    let limit: &[OsString] = match contestant.is(OURS) {
        true => &LIMIT.map(OsString::from),
        false => &[],
    };
    let server = lab.start_with(contestant, limit)?;
    let devices = Devices::start(lab)?;
    let mut crowd = devices.start_crowd(lab, &server, commands)?;
    let load = Load {
        pace: PACE,
        milliseconds: LENGTH,
        ..lab.load(&server, 1)
    };
    let mut healthy = lab.start_load(&load)?;
    healthy.begin()?;
    thread::sleep(BEFORE);
    let gathered = gather(&mut crowd)?;
    ensure!(gathered.failed == 0, "not everybody was let in");
    let arriving = healthy.found()?;
    drop(healthy);
    thread::sleep(SETTLED);
    Ok([arriving, lab.run(&load)?])
}
