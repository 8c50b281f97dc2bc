// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fault cases: the path that holds the reservation fails, a path has a key that the guest did not
//! register, or the guest preempts its own key. The state during the failure and after it is the
//! state that a single nexus would have left, as the other host sees it, and no write of the guest
//! is rejected with RESERVATION CONFLICT in between.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::commands::{REGISTRANTS, preempt, register, register_and_ignore, reserve};
use super::device::{Device, Reply};
use super::fault_fixture::{FaultFixture, KEY, NEW};
use super::fixture::{Fault, ScsiPath};

/// A key that the guest did not register.
const FOREIGN: u64 = 0xf0;

/// Number of times that the guest preempts its own key.
const PREEMPTIONS: usize = 5;

/// Runs all cases.
pub(super) fn run(faults: &mut FaultFixture<'_>) -> Result<()> {
    let case = "holder offline: REGISTER AND IGNORE, new key";
    replace_key(faults, case, NEW).context(case)?;
    let case = "holder offline: REGISTER AND IGNORE, key 0";
    replace_key(faults, case, 0).context(case)?;
    register_with_foreign_key(faults).context("REGISTER with a foreign key on a path")?;
    preempt_own_key(faults).context("PREEMPT of the own key")
}

/// The path that holds the reservation fails, and the guest replaces its key without naming it.
fn replace_key(faults: &mut FaultFixture<'_>, case: &str, new: u64) -> Result<()> {
    let [holder, _] = reserved(faults)?;
    let (keys, reservation) = match new {
        0 => (vec![], None),
        new => (vec![new], Some((new, REGISTRANTS))),
    };
    while_writing(faults, |faults| {
        holder.fail(Fault::Disk)?;
        faults.expect_good(case, &register_and_ignore(new))?;
        faults.expect_keys(&keys)?;
        faults.expect_reservation(reservation)
    })?;
    faults.restore(holder, Fault::Disk)?;
    faults.wait_for_keys("holder restored", &keys.repeat(2))?;
    faults.expect_reservation(reservation)?;
    faults.clean()
}

/// A path has a key that was not registered through the map.
fn register_with_foreign_key(faults: &mut FaultFixture<'_>) -> Result<()> {
    let [_, other] = reserved(faults)?;
    let reply = other.device.reserve_out(&register(KEY, FOREIGN));
    ensure!(reply.is_good(), "{}: {reply}", other.name);
    while_writing(faults, |faults| {
        faults.expect_good("foreign key: REGISTER, new key", &register(KEY, NEW))?;
        faults.expect_keys(&[NEW; 2])
    })?;
    faults.expect_reservation(Some((NEW, REGISTRANTS)))?;
    faults.clean()
}

fn preempt_own_key(faults: &mut FaultFixture<'_>) -> Result<()> {
    reserved(faults)?;
    while_writing(faults, |faults| {
        for _ in 0..PREEMPTIONS {
            faults.expect_good("PREEMPT, own key", &preempt(KEY, KEY, REGISTRANTS))?;
            faults.expect_keys(&[KEY; 2])?;
            faults.expect_reservation(Some((KEY, REGISTRANTS)))?;
        }
        Ok(())
    })?;
    faults.clean()
}

/// Registers and reserves. Returns the path that holds the reservation, and the other path.
fn reserved<'a>(faults: &mut FaultFixture<'a>) -> Result<[&'a ScsiPath; 2]> {
    faults.clean()?;
    faults.expect_good("REGISTER", &register(0, KEY))?;
    faults.expect_good("RESERVE", &reserve(KEY, REGISTRANTS))?;
    faults.holder()
}

/// Runs `work` while threads write to the map and to each path. All writes that reach the unit must
/// succeed.
fn while_writing<'a>(
    faults: &mut FaultFixture<'a>,
    work: impl FnOnce(&mut FaultFixture<'a>) -> Result<()>,
) -> Result<()> {
    let fixture = faults.fixture;
    let [one, two] = &fixture.paths;
    let devices = [&fixture.map, &one.device, &two.device];
    let block = fixture.map.read_block()?;
    for device in devices {
        device.drain()?;
    }
    let is_done = AtomicBool::new(false);
    let started = Barrier::new(devices.len() + 1);
    thread::scope(|scope| {
        let writers = devices.map(|device| {
            let (block, started, is_done) = (&block, &started, &is_done);
            scope.spawn(move || write_until(is_done, started, device, block))
        });
        started.wait();
        let result = work(faults);
        is_done.store(true, Ordering::Relaxed);
        for (writer, device) in writers.into_iter().zip(devices) {
            let (written, rejected) = writer.join().expect("the writer does not panic");
            let name = device.path.display();
            println!("guest: {name}: {written} writes, {rejected} rejected");
            ensure!(rejected == 0, "{name}: {rejected} writes rejected");
            ensure!(written > 0, "{name}: no write succeeded");
        }
        result
    })
}

/// Writes a block again and again. Returns the number of writes that succeeded, and of those that
/// failed with RESERVATION CONFLICT.
fn write_until(
    is_done: &AtomicBool,
    started: &Barrier,
    device: &Device,
    block: &[u8],
) -> (usize, usize) {
    let (mut written, mut rejected) = (0, 0);
    let mut write = || match device.write_block(block) {
        reply if reply.is_good() => written += 1,
        Reply::Response { status: 0x18, .. } => rejected += 1,
        // A unit attention, or the path is down.
        _ => thread::yield_now(),
    };
    write();
    started.wait();
    while !is_done.load(Ordering::Relaxed) {
        write();
    }
    (written, rejected)
}
