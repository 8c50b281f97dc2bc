// SPDX-License-Identifier: MIT OR Apache-2.0

//! Case: the guest migrates to the other host while a path is offline, and QEMU sends CLEANUP. The
//! path must not be registered when it returns, and the other host keeps key and reservation.

use anyhow::{Result, ensure};
use pr_helper_protocol::wire::{CLEANUP, pad_cdb};

use super::commands::{PrOutCommand, REGISTRANTS, preempt, register, register_and_ignore, reserve};
use super::fault_fixture::{FaultFixture, KEY};
use super::fixture::{Fault, State};

/// Runs the case.
pub(super) fn run(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    faults.expect_good("RESERVE", &reserve(KEY, REGISTRANTS))?;
    let [_, failed] = &faults.fixture.paths;
    failed.fail(Fault::Disk)?;
    faults.fixture.wait_for_path(failed, State::Failed)?;
    // The destination's QEMU moves the reservation.
    send_as_other(faults, &register_and_ignore(KEY))?;
    send_as_other(faults, &preempt(KEY, KEY, REGISTRANTS))?;
    expect_at_destination(faults)?;

    let cleanup = PrOutCommand {
        cdb: pad_cdb(&[CLEANUP]),
        parameter_list: Vec::new(),
    };
    faults.expect_good("CLEANUP, path offline", &cleanup)?;
    expect_at_destination(faults)?;
    let map = &faults.fixture.name;
    let stored = faults
        .fixture
        .multipathd
        .command(&["getprkey", "map", map])?;
    ensure!(stored.trim() == "none", "multipathd still has {stored}");
    faults.restore(failed, Fault::Disk)?;
    expect_at_destination(faults)?;

    faults.expect_good("CLEANUP, again", &cleanup)?;
    expect_at_destination(faults)?;
    send_as_other(faults, &register_and_ignore(0))?;
    faults.clean()
}

/// Checks that the other host is the only registrant, and holds the reservation.
fn expect_at_destination(faults: &FaultFixture<'_>) -> Result<()> {
    faults.expect_keys(&[KEY])?;
    faults.expect_reservation(Some((KEY, REGISTRANTS)))
}

/// Sends a command of the other host, which must succeed.
fn send_as_other(faults: &FaultFixture<'_>, pr_out: &PrOutCommand) -> Result<()> {
    faults.other.drain()?;
    let reply = faults.other.reserve_out(pr_out);
    ensure!(reply.is_good(), "the other host: {reply}");
    Ok(())
}
