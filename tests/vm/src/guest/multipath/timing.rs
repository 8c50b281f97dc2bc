// SPDX-License-Identifier: MIT OR Apache-2.0

//! Measures the time of commands through the helper, to the map and to a single path, the memory of
//! idle workers, and the time of a registration with `mpathpersist`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::commands::{REGISTRANTS, clear, register_and_ignore, reserve};
use super::daemons;
use super::fault_fixture::{FaultFixture, KEY, NEW};
use super::helper_client::{HelperClient, UNTRACED_ARGUMENTS, measure};
use crate::guest::process_table::{self, WORKER};
use pr_testkit::process::{command, text};
use pr_testkit::usage::Usage;

/// Number of measurements. The kinds of commands take turns, so that background load affects all of
/// them.
const ROUNDS: usize = 31;

/// Commands that are measured, in the order of a round.
const COMMANDS: [&str; 3] = ["READ KEYS", "REGISTER AND IGNORE EXISTING KEY", "RESERVE"];

/// Measures and prints medians.
pub(super) fn run<'a>(faults: FaultFixture<'a>, single: &Path) -> Result<FaultFixture<'a>> {
    let mut faults = faults.restart_with(&UNTRACED_ARGUMENTS, &[])?;
    measure_all(&mut faults, single)?;
    faults.restart(&[])
}

fn measure_all(faults: &mut FaultFixture<'_>, single: &Path) -> Result<()> {
    faults.clean()?;
    // udevd probes the disks that other tests had open for writing.
    daemons::settle()?;
    let mut path = HelperClient::connect(single)?;
    let mut map_times = COMMANDS.map(|_| Vec::new());
    let mut path_times = COMMANDS.map(|_| Vec::new());
    let mut key = KEY;
    for round in 0..ROUNDS {
        key = if round % 2 == 0 { KEY } else { NEW };
        measure_round(&mut faults.guest, key, &mut map_times)?;
        measure_round(&mut path, key, &mut path_times)?;
    }
    for (name, (map, path)) in COMMANDS.iter().zip(map_times.into_iter().zip(path_times)) {
        let (map, path) = (median(map), median(path));
        println!(
            "median of {ROUNDS}: {name}: map {:.1} ms, single path {:.1} ms, ratio {:.1}",
            milliseconds(map),
            milliseconds(path),
            map.as_secs_f64() / path.as_secs_f64()
        );
    }
    for worker in process_table::all(WORKER)? {
        let usage = Usage::from_pid(worker);
        println!(
            "idle worker: {} KiB of anonymous memory, {} KiB in proportion, {} threads",
            usage.memory, usage.proportional, usage.threads
        );
    }
    let reply = path.reserve_out(&clear(key))?;
    ensure!(reply.is_good(), "CLEAR of the single path: {reply}");
    faults.clean()?;

    let mut times = Vec::new();
    for round in 0..ROUNDS.div_ceil(4) {
        let key = if round % 2 == 0 { KEY } else { NEW };
        let sark = format!("--param-sark={key:#x}");
        let arguments = ["--out", "--register-ignore", sark.as_str()];
        let mut client = command("mpathpersist");
        client.args(arguments).arg(&faults.fixture.map.path);
        times.push(measure(|| text(&mut client))?.1);
        faults.expect_keys(&[key; 2])?;
    }
    let time = milliseconds(median(times));
    println!("median: REGISTER AND IGNORE EXISTING KEY with mpathpersist: {time:.1} ms");
    faults.clean()
}

fn measure_round(
    guest: &mut HelperClient,
    key: u64,
    times: &mut [Vec<Duration>; COMMANDS.len()],
) -> Result<()> {
    // READ KEYS has no parameter list.
    let commands = [
        None,
        Some(register_and_ignore(key)),
        Some(reserve(key, REGISTRANTS)),
    ];
    for ((command, name), times) in commands.iter().zip(COMMANDS).zip(times) {
        let (reply, time) = measure(|| match command {
            None => guest.reserve_in(0, 8192),
            Some(command) => guest.reserve_out(command),
        })?;
        ensure!(reply.is_good(), "{name}: {reply}");
        times.push(time);
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
