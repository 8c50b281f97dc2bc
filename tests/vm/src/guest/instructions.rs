// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `instructions`: counts the instructions of a request to a disk of a LIO target.
//!
//! The machine's clock advances by one nanosecond with each instruction (QEMU's `-icount shift=0`),
//! so the time of a request is the number of its instructions: those of the client, the helper, the
//! kernel and the target. Only differences between programs are of interest.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pr_helper_protocol::Client;
use scsi_pr::Status;

use super::Modules;
use super::bench::Options;
use super::helper::{Helper, SOCKET};
use super::lio_target::Target;
use pr_testkit::cdb::{PrCommand, read_keys, register};

/// Requests of a measurement.
const REQUESTS: u32 = 500;

/// Measurements of each command. The least counts, because interrupts add to the others.
const ROUNDS: usize = 5;

/// Registration key.
const KEY: u64 = 1;

/// Sets up the target and prints the counts.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let [port] = Target::start(modules)?.create_unit::<1>()?;
    for program in [&options.helper, &options.original] {
        let helper = Helper::start(program)?;
        count_all(program, &port.block)?;
        helper.stop()?;
    }
    Ok(())
}

fn count_all(program: &Path, disk: &Path) -> Result<()> {
    let mut client = Client::connect(Path::new(SOCKET))?;
    let file = File::options().read(true).write(true).open(disk);
    let file = file.with_context(|| format!("cannot open {}", disk.display()))?;
    let mut execute = |command: &PrCommand| -> Result<()> {
        let response = client.execute(command.cdb, file.as_fd(), &command.parameter_list)?;
        ensure!(response.status == Status::GOOD, "{}", response.status);
        Ok(())
    };
    execute(&register(0, KEY))?;
    let commands = [
        ("READ KEYS", read_keys(8192)),
        ("REGISTER", register(KEY, KEY)),
    ];
    for (name, command) in &commands {
        let mut counts = [0; ROUNDS];
        for count in &mut counts {
            let start = Instant::now();
            for _ in 0..REQUESTS {
                execute(command)?;
            }
            *count = start.elapsed().as_nanos() / u128::from(REQUESTS);
        }
        let least = counts.iter().min().copied().unwrap_or_default();
        let program = program.display();
        println!("guest: {program}: {name}: {least} instructions for a request");
    }
    execute(&register(KEY, 0))
}
