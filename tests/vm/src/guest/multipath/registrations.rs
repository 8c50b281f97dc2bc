// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows of the table: replies of the four service actions of PERSISTENT RESERVE IN with both paths
//! active.

use anyhow::{Result, ensure};

use super::commands::{clear, register_and_ignore};
use super::daemons;
use super::device::{Device, ReplyCounts};
use super::fixture::MapFixture;
use super::table::{Expected, Table};
use pr_testkit::process::{command, run as run_command};

/// Service actions, with their names in the table.
const ACTIONS: [(u8, &str); 4] = [
    (0, "READ KEYS"),
    (1, "READ RESERVATION"),
    (2, "REPORT CAPABILITIES"),
    (3, "READ FULL STATUS"),
];

/// Less than the header, the header, a part of the data, all data, and the maximum of
/// multipath-tools.
const ALLOCATIONS: [u16; 5] = [4, 8, 20, 255, 8192];

const KEYS: [&str; 2] = ["0xa1", "0xb2"];

/// Reads the state through the map and each path in several states of the unit.
pub(super) fn run(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    clean(fixture)?;
    daemons::settle()?;
    read_all(fixture, "clean", table);
    register(fixture, 0)?;
    read_all(fixture, "one path registered", table);
    register(fixture, 1)?;
    read_all(fixture, "both registered", table);
    persist_out(
        fixture,
        0,
        &["--reserve", "--param-rk", KEYS[0], "--prout-type=5"],
    )?;
    read_all(fixture, "reserved", table);
    persist_out(fixture, 0, &["--clear", "--param-rk", KEYS[0]])?;
    unit_attention(fixture, table)
}

/// Removes earlier registrations.
fn clean(fixture: &MapFixture) -> Result<()> {
    const CLEANUP_KEY: u64 = 0xc1ea;
    let [first, _] = &fixture.paths;
    first.device.drain()?;
    for pr_out in [register_and_ignore(CLEANUP_KEY), clear(CLEANUP_KEY)] {
        let reply = first.device.reserve_out(&pr_out);
        ensure!(reply.is_good(), "cleanup: {reply}");
    }
    let mut paths = fixture.paths.iter();
    paths.try_for_each(|path| path.device.drain())
}

/// A unit attention belongs to a path. The first command to the map that uses this path gets it,
/// like the first command to the path itself.
fn unit_attention(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    let other_path = &fixture.paths[1].device;
    let replies = |device: &Device| -> ReplyCounts {
        // REPORT CAPABILITIES has no PRgeneration, which changes in between.
        (0..4).map(|_| device.reserve_in(2, 8)).collect()
    };
    let clear = || -> Result<()> {
        for path in 0..fixture.paths.len() {
            fixture.paths[path].device.drain()?;
            register(fixture, path)?;
        }
        persist_out(fixture, 0, &["--clear", "--param-rk", KEYS[0]])
    };
    // The checker's TEST UNIT READY on each path would consume unit attentions.
    fixture.multipathd.freeze()?;
    clear()?;
    let single = replies(other_path);
    clear()?;
    let map = replies(&fixture.map);
    fixture.multipathd.thaw()?;
    let case = "cleared on a path; other path, REPORT CAPABILITIES";
    table.add(case, &single, &map, Expected::Same);
    Ok(())
}

fn read_all(fixture: &MapFixture, state: &str, table: &mut Table) {
    for (action, name) in ACTIONS {
        for allocation in ALLOCATIONS {
            let case = format!("{state}, {name} {allocation}");
            table.add_paths(&case, fixture, |device| {
                device.reserve_in(action, allocation)
            });
        }
    }
}

fn register(fixture: &MapFixture, path: usize) -> Result<()> {
    persist_out(fixture, path, &["--register", "--param-sark", KEYS[path]])
}

/// Sends PERSISTENT RESERVE OUT on one of the two paths.
fn persist_out(fixture: &MapFixture, path: usize, arguments: &[&str]) -> Result<()> {
    run_command(
        command("sg_persist")
            .args(["--no-inquiry", "--out"])
            .args(arguments)
            .arg(&fixture.paths[path].generic),
    )
}
