// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows of the table: replies of the four service actions of PERSISTENT RESERVE IN with both paths
//! active.

use anyhow::{Result, ensure};

use super::commands::{PrOutCommand, REGISTRANTS, clear, register, register_and_ignore, reserve};
use super::daemons;
use super::device::{Device, ReplyCounts};
use super::fixture::MapFixture;
use super::table::{Expected, Table};

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

const KEYS: [u64; 2] = [0xa1, 0xb2];

/// Reads the state through the map and each path in several states of the unit.
pub(super) fn run(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    clean(fixture)?;
    daemons::settle()?;
    read_all(fixture, "clean", table);
    register_path(fixture, 0)?;
    read_all(fixture, "one path registered", table);
    register_path(fixture, 1)?;
    read_all(fixture, "both registered", table);
    send(fixture, 0, &reserve(KEYS[0], REGISTRANTS))?;
    read_all(fixture, "reserved", table);
    send(fixture, 0, &clear(KEYS[0]))?;
    unit_attention(fixture, table)
}

/// Removes earlier registrations.
fn clean(fixture: &MapFixture) -> Result<()> {
    const CLEANUP_KEY: u64 = 0xc1ea;
    fixture.paths[0].device.drain()?;
    send(fixture, 0, &register_and_ignore(CLEANUP_KEY))?;
    send(fixture, 0, &clear(CLEANUP_KEY))?;
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
    let clear_all = || -> Result<()> {
        for path in 0..fixture.paths.len() {
            fixture.paths[path].device.drain()?;
            register_path(fixture, path)?;
        }
        send(fixture, 0, &clear(KEYS[0]))
    };
    // The checker's TEST UNIT READY on each path would consume unit attentions.
    fixture.multipathd.freeze()?;
    clear_all()?;
    let single = replies(other_path);
    clear_all()?;
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

fn register_path(fixture: &MapFixture, path: usize) -> Result<()> {
    send(fixture, path, &register(0, KEYS[path]))
}

/// Sends PERSISTENT RESERVE OUT on one of the two paths.
fn send(fixture: &MapFixture, path: usize, pr_out: &PrOutCommand) -> Result<()> {
    let path = &fixture.paths[path];
    let reply = path.device.reserve_out(pr_out);
    ensure!(
        reply.is_good(),
        "{}: {:02x?}: {reply}",
        path.name,
        &pr_out.cdb[..3]
    );
    Ok(())
}
