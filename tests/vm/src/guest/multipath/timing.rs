// SPDX-License-Identifier: MIT OR Apache-2.0

//! Measures the time of commands through the helper and with `mpathpersist`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::commands::register_and_ignore;
use super::fault_fixture::{FaultFixture, KEY, NEW};
use super::helper_client::{HelperClient, measure};
use pr_testkit::process::{command, text};

/// Number of measurements. The kinds of commands take turns, so that background load affects all of
/// them.
const ROUNDS: usize = 9;

/// Measures and prints medians.
pub(super) fn run(faults: &mut FaultFixture<'_>, single: &Path) -> Result<()> {
    faults.clean()?;
    let mut path = HelperClient::connect(single)?;
    let mut helper = Vec::new();
    let mut mpathpersist = Vec::new();
    let mut read_times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let key = if round % 2 == 0 { KEY } else { NEW };
        let (reply, time) = measure(|| faults.guest.reserve_out(&register_and_ignore(key)))?;
        ensure!(reply.is_good(), "REGISTER AND IGNORE: {reply}");
        faults.expect_keys(&[key; 2])?;
        helper.push(time);
        let key = key + 1;
        let sark = format!("--param-sark={key:#x}");
        let arguments = ["--out", "--register-ignore", sark.as_str()];
        let mut client = command("mpathpersist");
        client.args(arguments).arg(&faults.fixture.map.path);
        mpathpersist.push(measure(|| text(&mut client))?.1);
        faults.expect_keys(&[key; 2])?;
        for (guest, times) in [&mut faults.guest, &mut path]
            .into_iter()
            .zip(&mut read_times)
        {
            let (reply, time) = measure(|| guest.reserve_in(0, 8192))?;
            ensure!(reply.is_good(), "READ KEYS: {reply}");
            times.push(time);
        }
    }
    let [map_times, path_times] = read_times;
    for (what, times) in [
        ("REGISTER AND IGNORE on the map, through the helper", helper),
        ("the same with mpathpersist", mpathpersist),
        ("READ KEYS of the map, through the helper", map_times),
        ("READ KEYS of a single path, through the helper", path_times),
    ] {
        let milliseconds = median(times).as_secs_f64() * 1000.0;
        println!("median of {ROUNDS}: {what}: {milliseconds:.1} ms");
    }
    faults.clean()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
