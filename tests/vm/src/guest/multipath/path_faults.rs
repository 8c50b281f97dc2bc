//! Fault cases: paths fail before, during and after a command, and return.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::commands::{REGISTRANTS, register, register_and_ignore, release, reserve};
use super::device::{Reply, ReplyCounts};
use super::fault_fixture::{FaultFixture, KEY, NEW, print_timing};
use super::fixture::{Fault, State};
use super::helper_client::{HelperClient, TIMEOUT, measure};

/// `I_T` NEXUS LOSS OCCURRED: unit attention of a port that was disconnected, on any path.
const NEXUS_LOSS: [u8; 3] = [0x06, 0x29, 0x07];

/// UNIT ATTENTION: REGISTRATIONS PREEMPTED.
const PREEMPTED: [u8; 3] = [0x06, 0x2a, 0x05];

/// Number of path failures during commands in flight.
const FAILURES: usize = 4;

/// Runs all cases.
pub(super) fn run(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.clean()?;
    register_with_one(faults, false).context("REGISTER with a path offline, not noticed")?;
    register_with_one(faults, true).context("REGISTER with a path offline, noticed")?;
    unnoticed_failure(faults).context("path down for a moment")?;
    register_one_changed(faults).context("REGISTER of a new key with a path offline")?;
    reserve_with_one(faults).context("RESERVE with a path offline")?;
    unregister_with_one(faults, false).context("unregister with a path offline")?;
    unregister_with_one(faults, true).context("unregister with the holder offline")?;
    release_with_holder(faults).context("RELEASE with the holder offline")?;
    new_key_with_holder(faults).context("REGISTER of a new key with the holder offline")?;
    all_paths(faults).context("all paths offline")?;
    during_commands(faults).context("a path disconnected during commands")
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

/// A path is down during REGISTER and returns before multipathd notices. Therefore multipathd does
/// not register it, and only the guest's next REGISTER does.
fn unnoticed_failure(faults: &mut FaultFixture<'_>) -> Result<()> {
    let [_, failed] = &faults.fixture.paths;
    failed.fail(Fault::Disk)?;
    faults.expect_good("path down for a moment: REGISTER", &register(0, KEY))?;
    failed.restore(Fault::Disk)?;
    faults.fixture.both_active()?;
    println!(
        "guest: after a short path failure: keys {:x?}",
        faults.registered_keys()?
    );
    faults.expect_good("path restored: REGISTER, same key", &register(KEY, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
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

/// Commands continue while the paths fail and return in turn. The guest's last state must be in
/// effect at the end.
fn during_commands(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    let stop = AtomicBool::new(false);
    let guest = HelperClient::connect(&faults.fixture.map.path)?;
    let (counts, slowest) = thread::scope(|scope| {
        let sender = scope.spawn(|| send_commands(guest, &stop));
        let result = fail_paths(faults);
        stop.store(true, Ordering::Relaxed);
        let answers = sender.join();
        result?;
        answers.map_err(|_| anyhow::anyhow!("the thread that sends commands panicked"))?
    })?;
    print_timing(
        "paths disconnected in turn: slowest command",
        &counts,
        slowest,
    );
    ensure!(slowest <= TIMEOUT, "a command took {slowest:?}");
    for path in &faults.fixture.paths {
        path.device.drain()?;
    }
    faults.expect_good("afterwards: REGISTER AND IGNORE", &register_and_ignore(KEY))?;
    faults.wait_for_keys("afterwards: both registered", &[KEY; 2])?;
    faults.clean()
}

fn fail_paths(faults: &FaultFixture<'_>) -> Result<()> {
    for number in 0..FAILURES {
        let path = &faults.fixture.paths[number % 2];
        path.fail(Fault::Transport)?;
        faults.fixture.wait_for_path(path, State::Failed)?;
        faults.restore(path, Fault::Transport)?;
    }
    Ok(())
}

/// Returns the results, and the longest time of a command.
fn send_commands(mut guest: HelperClient, stop: &AtomicBool) -> Result<(ReplyCounts, Duration)> {
    let sequence = [
        register(KEY, NEW),
        reserve(NEW, REGISTRANTS),
        reserve(NEW, REGISTRANTS),
        register(NEW, KEY),
        release(KEY, REGISTRANTS),
    ];
    let mut replies = Vec::new();
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        for pr_out in &sequence {
            // The guest handles unit attentions and sends the command again. A path that has
            // returned can report that its old key was preempted, which the helper has done.
            for _ in 0..4 {
                let (reply, time) = measure(|| guest.reserve_out(pr_out))?;
                slowest = slowest.max(time);
                let is_attention = [NEXUS_LOSS, PREEMPTED].map(Some).contains(&reply.sense());
                let is_good = reply.is_good();
                ensure!(
                    is_attention || is_good,
                    "{:02x?}: {reply} after {time:?}",
                    &pr_out.cdb[..3]
                );
                replies.push(reply);
                if is_good {
                    break;
                }
            }
        }
    }
    Ok((replies.into_iter().collect(), slowest))
}

fn is_conflict(reply: &Reply) -> bool {
    matches!(reply, Reply::Response { status: 0x18, .. })
}
