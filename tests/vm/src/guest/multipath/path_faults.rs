// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fault cases: paths fail between commands, and return.

use anyhow::{Context as _, Result, ensure};

use super::commands::{REGISTRANTS, register, register_and_ignore, release, reserve};
use super::device::Reply;
use super::fault_fixture::{FaultFixture, KEY, NEW};
use super::fixture::{Fault, State};

/// `I_T` NEXUS LOSS OCCURRED: unit attention of a port that was disconnected, on any path.
const NEXUS_LOSS: [u8; 3] = [0x06, 0x29, 0x07];

/// UNIT ATTENTION: REGISTRATIONS PREEMPTED.
const PREEMPTED: [u8; 3] = [0x06, 0x2a, 0x05];

/// Maximum number of unit attentions before a command is executed.
const MAX_UNIT_ATTENTIONS: usize = 3;

/// Runs all cases.
pub(super) fn run(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.clean()?;
    register_with_one(faults, false).context("REGISTER with a path offline, not noticed")?;
    register_with_one(faults, true).context("REGISTER with a path offline, noticed")?;
    register_one_changed(faults).context("REGISTER of a new key with a path offline")?;
    reserve_with_one(faults).context("RESERVE with a path offline")?;
    unregister_with_one(faults, false).context("unregister with a path offline")?;
    unregister_with_one(faults, true).context("unregister with the holder offline")?;
    release_with_holder(faults).context("RELEASE with the holder offline")?;
    new_key_with_holder(faults).context("REGISTER of a new key with the holder offline")?;
    all_paths(faults).context("all paths offline")?;
    paths_in_turn(faults).context("paths disconnected in turn")
}

fn register_with_one(faults: &mut FaultFixture<'_>, is_noticed: bool) -> Result<()> {
    let [_, failed] = &faults.fixture.paths;
    failed.fail(Fault::Disk)?;
    let when = if is_noticed { "noticed" } else { "unnoticed" };
    if is_noticed {
        faults.fixture.wait_for_path(failed, State::Failed)?;
    }
    faults.expect_good(
        &format!("path offline, {when}: REGISTER"),
        &register(0, KEY),
    )?;
    faults.expect_keys(&[KEY])?;
    faults.expect_guest_keys("path offline: READ KEYS", &[KEY])?;
    faults.restore(failed, Fault::Disk)?;
    faults.wait_for_keys("path restored: multipathd registers it", &[KEY; 2])?;
    faults.expect_guest_keys("path restored: READ KEYS", &[KEY; 2])?;
    faults.clean()
}

/// The failed path has the old key; it gets the new one when it returns.
fn register_one_changed(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    let [_, failed] = &faults.fixture.paths;
    failed.fail(Fault::Disk)?;
    faults.expect_good("path offline: REGISTER, new key", &register(KEY, NEW))?;
    faults.restore(failed, Fault::Disk)?;
    faults.wait_for_keys("path restored: multipathd registers it", &[NEW; 2])?;
    faults.clean()
}

fn reserve_with_one(faults: &mut FaultFixture<'_>) -> Result<()> {
    let mut paths = faults.fixture.paths.iter();
    paths.try_for_each(|failed| {
        faults.expect_good("REGISTER", &register(0, KEY))?;
        failed.fail(Fault::Disk)?;
        let name = &failed.name;
        faults.expect_good(
            &format!("{name} offline: RESERVE"),
            &reserve(KEY, REGISTRANTS),
        )?;
        faults.expect_reservation(Some((KEY, REGISTRANTS)))?;
        faults.restore(failed, Fault::Disk)?;
        faults.wait_for_keys("path restored: both registered", &[KEY; 2])?;
        faults.expect_good("path restored: RELEASE", &release(KEY, REGISTRANTS))?;
        faults.expect_reservation(None)?;
        faults.clean()
    })
}

/// No registration may remain of a guest that has unregistered.
fn unregister_with_one(faults: &mut FaultFixture<'_>, is_holder: bool) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    let [_, mut failed] = faults.fixture.paths.each_ref();
    if is_holder {
        faults.expect_good("RESERVE", &reserve(KEY, REGISTRANTS))?;
        [failed, _] = faults.holder()?;
    }
    failed.fail(Fault::Disk)?;
    let which = if is_holder { "holder" } else { "path" };
    faults.expect_good(&format!("{which} offline: unregister"), &register(KEY, 0))?;
    faults.expect_keys(&[])?;
    faults.expect_reservation(None)?;
    faults.restore(failed, Fault::Disk)?;
    faults
        .expect_keys(&[])
        .context("after the path was restored")?;
    faults.expect_guest_keys("path restored: READ KEYS", &[])?;
    faults.clean()
}

fn release_with_holder(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    faults.expect_good("RESERVE", &reserve(KEY, REGISTRANTS))?;
    let [holder, _] = faults.holder()?;
    holder.fail(Fault::Disk)?;
    faults.expect_good("holder offline: RESERVE again", &reserve(KEY, REGISTRANTS))?;
    faults.expect_reservation(Some((KEY, REGISTRANTS)))?;
    let another = reserve(KEY, 1);
    let reply = faults.send("holder offline: RESERVE, other type", &another)?;
    ensure!(is_conflict(&reply), "RESERVE, other type: {reply}");
    faults.expect_good("holder offline: RELEASE", &release(KEY, REGISTRANTS))?;
    faults.expect_reservation(None)?;
    faults.expect_good("holder offline: RELEASE again", &release(KEY, REGISTRANTS))?;
    faults.restore(holder, Fault::Disk)?;
    faults.wait_for_keys("holder restored: multipathd registers it", &[KEY; 2])?;
    faults.expect_good("holder restored: RESERVE", &reserve(KEY, REGISTRANTS))?;
    faults.clean()
}

fn new_key_with_holder(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    faults.expect_good("RESERVE", &reserve(KEY, REGISTRANTS))?;
    let [holder, _] = faults.holder()?;
    holder.fail(Fault::Disk)?;
    faults.expect_good("holder offline: REGISTER, new key", &register(KEY, NEW))?;
    faults.expect_reservation(Some((NEW, REGISTRANTS)))?;
    faults.restore(holder, Fault::Disk)?;
    faults.wait_for_keys("holder restored: multipathd registers it", &[NEW; 2])?;
    faults.expect_good("holder restored: RELEASE", &release(NEW, REGISTRANTS))?;
    faults.expect_reservation(None)?;
    faults.clean()
}

fn all_paths(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    for fault in [Fault::Disk, Fault::Transport] {
        let fault_name = match fault {
            Fault::Disk => "offline",
            Fault::Transport => "disconnected",
        };
        for path in &faults.fixture.paths {
            path.fail(fault)?;
        }
        let mut replies = Vec::new();
        for is_noticed in [false, true] {
            if is_noticed {
                for path in &faults.fixture.paths {
                    faults.fixture.wait_for_path(path, State::Failed)?;
                }
            }
            let case = |what: &str| format!("all paths {fault_name}, {what}");
            replies.push(faults.read_keys(&case("READ KEYS"))?);
            replies.push(faults.send(&case("RESERVE"), &reserve(KEY, REGISTRANTS))?);
            replies.push(faults.send(&case("REGISTER"), &register(KEY, NEW))?);
        }
        for reply in replies {
            let key = reply.sense().map(|[key, ..]| key);
            ensure!(key == Some(0x0b), "all paths {fault_name}: {reply}");
        }
        for path in &faults.fixture.paths {
            path.restore(fault)?;
        }
        faults.fixture.both_active()?;
        for path in &faults.fixture.paths {
            path.device.drain()?;
        }
        faults.expect_keys(&[KEY; 2])?;
        faults.expect_guest_keys("all paths restored: READ KEYS", &[KEY; 2])?;
        faults.expect_good("all paths restored: RESERVE", &reserve(KEY, REGISTRANTS))?;
        faults.expect_good("all paths restored: RELEASE", &release(KEY, REGISTRANTS))?;
    }
    faults.clean()
}

/// Each path in turn is disconnected and returns. The guest sends the same commands before
/// multipathd notices, afterwards, and when the path has returned.
fn paths_in_turn(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    for path in &faults.fixture.paths {
        path.fail(Fault::Transport)?;
        send_sequence(faults, &format!("{} disconnected", path.name))?;
        faults.fixture.wait_for_path(path, State::Failed)?;
        send_sequence(faults, &format!("{} disconnected, noticed", path.name))?;
        faults.restore(path, Fault::Transport)?;
        send_sequence(faults, &format!("{} returned", path.name))?;
    }
    for path in &faults.fixture.paths {
        path.device.drain()?;
    }
    faults.expect_good("afterwards: REGISTER AND IGNORE", &register_and_ignore(KEY))?;
    faults.wait_for_keys("afterwards: both registered", &[KEY; 2])?;
    faults.clean()
}

fn send_sequence(faults: &mut FaultFixture<'_>, case: &str) -> Result<()> {
    for (name, pr_out) in [
        ("REGISTER, new key", register(KEY, NEW)),
        ("RESERVE", reserve(NEW, REGISTRANTS)),
        ("RESERVE again", reserve(NEW, REGISTRANTS)),
        ("REGISTER, old key", register(NEW, KEY)),
        ("RELEASE", release(KEY, REGISTRANTS)),
    ] {
        let case = format!("{case}: {name}");
        // The guest handles unit attentions and sends the command again. A path that has returned
        // can report that its old key was preempted, which the helper has done.
        let mut reply = faults.send(&case, &pr_out)?;
        for _ in 0..MAX_UNIT_ATTENTIONS {
            if [NEXUS_LOSS, PREEMPTED].map(Some).contains(&reply.sense()) {
                reply = faults.send(&case, &pr_out)?;
            }
        }
        ensure!(reply.is_good(), "{case}: {reply}");
    }
    Ok(())
}

fn is_conflict(reply: &Reply) -> bool {
    matches!(reply, Reply::Response { status: 0x18, .. })
}
