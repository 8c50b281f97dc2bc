// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cases: the guest migrates to the other host while a path is offline, and QEMU sends CLEANUP or
//! disconnects. The path must not be registered when it returns, and the other host keeps key and
//! reservation.

use anyhow::{Context as _, Result, ensure};
use pr_helper_protocol::wire::{CLEANUP, pad_cdb};
use pr_testkit::process::poll;

use super::commands::{PrOutCommand, REGISTRANTS, preempt, register, register_and_ignore, reserve};
use super::fault_fixture::{FaultFixture, KEY};
use super::fixture::{Fault, State};
use super::helper_client::{HelperClient, TIMEOUT};

/// Reply of multipathd without a key.
const NO_KEY: &str = "none";

/// Runs the cases.
pub(super) fn run(faults: &mut FaultFixture<'_>) -> Result<()> {
    migrate(faults)?;
    let cleanup = PrOutCommand {
        cdb: pad_cdb(&[CLEANUP]),
        parameter_list: Vec::new(),
    };
    faults.expect_good("CLEANUP, path offline", &cleanup)?;
    expect_at_destination(faults)?;
    let stored = stored_key(faults)?;
    ensure!(stored == NO_KEY, "multipathd still has {stored}");
    return_path(faults)?;
    faults.expect_good("CLEANUP, again", &cleanup)?;
    expect_at_destination(faults)?;
    end(faults)?;

    migrate(faults)?;
    faults.guest = HelperClient::connect(&faults.fixture.map.path)?;
    let forgotten = poll(
        TIMEOUT,
        || Ok((stored_key(faults)? == NO_KEY).then_some(())),
    )?;
    forgotten.context("multipathd still has the key after the guest disconnected")?;
    expect_at_destination(faults)?;
    return_path(faults)?;
    end(faults)
}

/// Registers, reserves and migrates while the second path is offline.
fn migrate(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    faults.expect_good("RESERVE", &reserve(KEY, REGISTRANTS))?;
    let [_, failed] = &faults.fixture.paths;
    failed.fail(Fault::Disk)?;
    faults.fixture.wait_for_path(failed, State::Failed)?;
    // The destination's QEMU moves the reservation.
    send_as_other(faults, &register_and_ignore(KEY))?;
    send_as_other(faults, &preempt(KEY, KEY, REGISTRANTS))?;
    expect_at_destination(faults)
}

/// Restores the second path, which must not be registered.
fn return_path(faults: &FaultFixture<'_>) -> Result<()> {
    let [_, failed] = &faults.fixture.paths;
    faults.restore(failed, Fault::Disk)?;
    expect_at_destination(faults)
}

/// Unregisters the other host.
fn end(faults: &mut FaultFixture<'_>) -> Result<()> {
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

/// Returns the key that multipathd stores.
fn stored_key(faults: &FaultFixture<'_>) -> Result<String> {
    let map = &faults.fixture.name;
    let reply = faults
        .fixture
        .multipathd
        .command(&["getprkey", "map", map])?;
    Ok(reply.trim().to_owned())
}
