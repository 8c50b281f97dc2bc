//! Fault cases: paths that go away before, during and after a command, and come back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::commands::{REGISTRANTS, register, register_and_ignore, release, reserve};
use super::device::{Reply, Tally};
use super::lab::{KEY, Lab, NEW, measured};
use super::stage::{Fault, State};
use super::through::{Guest, TIMEOUT, clocked};

/// `I_T` NEXUS LOSS OCCURRED: what a port tells that was cut off, by whatever path.
const NEXUS_LOSS: [u8; 3] = [0x06, 0x29, 0x07];

/// UNIT ATTENTION: REGISTRATIONS PREEMPTED.
const PREEMPTED: [u8; 3] = [0x06, 0x2a, 0x05];

/// How often a path is taken away while commands are in progress.
const CUTS: usize = 4;

/// All of them.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    lab.clean()?;
    register_with_one(lab, false).context("REGISTER with a path offline, not noticed")?;
    register_with_one(lab, true).context("REGISTER with a path offline, noticed")?;
    too_short(lab).context("path away for a moment")?;
    register_one_changed(lab).context("REGISTER of a new key with a path offline")?;
    reserve_with_one(lab).context("RESERVE with a path offline")?;
    unregister_with_one(lab, false).context("unregister with a path offline")?;
    unregister_with_one(lab, true).context("unregister with the holder offline")?;
    release_with_holder(lab).context("RELEASE with the holder offline")?;
    new_key_with_holder(lab).context("REGISTER of a new key with the holder offline")?;
    none(lab).context("all paths offline")?;
    in_progress(lab).context("a path cut off while commands are in progress")
}

fn register_with_one(lab: &mut Lab<'_>, is_noticed: bool) -> Result<()> {
    let [_, leaves] = &lab.stage.routes;
    leaves.cut(Fault::Disk)?;
    let when = if is_noticed { "noticed" } else { "unnoticed" };
    if is_noticed {
        lab.stage.wait_for_path(leaves, State::Failed)?;
    }
    lab.done(
        &format!("path offline, {when}: REGISTER"),
        &register(0, KEY),
    )?;
    lab.keys(&[KEY])?;
    lab.sees("path offline: READ KEYS", &[KEY])?;
    lab.mend(leaves, Fault::Disk)?;
    lab.keys_come("path back: multipathd registers it", &[KEY; 2])?;
    lab.sees("path back: READ KEYS", &[KEY; 2])?;
    lab.clean()
}

/// A path is away while REGISTER is done, and back before multipathd looks. So nobody registers it, until
/// the guest does it again.
fn too_short(lab: &mut Lab<'_>) -> Result<()> {
    let [_, leaves] = &lab.stage.routes;
    leaves.cut(Fault::Disk)?;
    lab.done("path away for a moment: REGISTER", &register(0, KEY))?;
    leaves.mend(Fault::Disk)?;
    lab.stage.both_active()?;
    println!(
        "guest: after a moment without a path: keys {:x?}",
        lab.seen()?
    );
    lab.done("path back: REGISTER, same key", &register(KEY, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()
}

/// The path that is away has the old key. When it comes back it gets the new one.
fn register_one_changed(lab: &mut Lab<'_>) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    let [_, leaves] = &lab.stage.routes;
    leaves.cut(Fault::Disk)?;
    lab.done("path offline: REGISTER, new key", &register(KEY, NEW))?;
    lab.mend(leaves, Fault::Disk)?;
    lab.keys_come("path back: multipathd registers it", &[NEW; 2])?;
    lab.clean()
}

fn reserve_with_one(lab: &mut Lab<'_>) -> Result<()> {
    let mut routes = lab.stage.routes.iter();
    routes.try_for_each(|leaves| {
        lab.done("REGISTER", &register(0, KEY))?;
        leaves.cut(Fault::Disk)?;
        let name = &leaves.name;
        lab.done(
            &format!("{name} offline: RESERVE"),
            &reserve(KEY, REGISTRANTS),
        )?;
        lab.reserved(Some((KEY, REGISTRANTS)))?;
        lab.mend(leaves, Fault::Disk)?;
        lab.keys_come("path back: both registered", &[KEY; 2])?;
        lab.done("path back: RELEASE", &release(KEY, REGISTRANTS))?;
        lab.reserved(None)?;
        lab.clean()
    })
}

/// Nobody may be left registered that the guest takes for unregistered.
fn unregister_with_one(lab: &mut Lab<'_>, is_holder: bool) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    let [_, mut leaves] = lab.stage.routes.each_ref();
    if is_holder {
        lab.done("RESERVE", &reserve(KEY, REGISTRANTS))?;
        [leaves, _] = lab.holder()?;
    }
    leaves.cut(Fault::Disk)?;
    let which = if is_holder { "holder" } else { "path" };
    lab.done(&format!("{which} offline: unregister"), &register(KEY, 0))?;
    lab.keys(&[])?;
    lab.reserved(None)?;
    lab.mend(leaves, Fault::Disk)?;
    lab.keys(&[]).context("after the path is back")?;
    lab.sees("path back: READ KEYS", &[])?;
    lab.clean()
}

fn release_with_holder(lab: &mut Lab<'_>) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    lab.done("RESERVE", &reserve(KEY, REGISTRANTS))?;
    let [holder, _] = lab.holder()?;
    holder.cut(Fault::Disk)?;
    lab.done("holder offline: RESERVE again", &reserve(KEY, REGISTRANTS))?;
    lab.reserved(Some((KEY, REGISTRANTS)))?;
    let another = reserve(KEY, 1);
    let reply = lab.tell("holder offline: RESERVE, other type", &another)?;
    ensure!(is_conflict(&reply), "RESERVE, other type: {reply}");
    lab.done("holder offline: RELEASE", &release(KEY, REGISTRANTS))?;
    lab.reserved(None)?;
    lab.done("holder offline: RELEASE again", &release(KEY, REGISTRANTS))?;
    lab.mend(holder, Fault::Disk)?;
    lab.keys_come("holder back: multipathd registers it", &[KEY; 2])?;
    lab.done("holder back: RESERVE", &reserve(KEY, REGISTRANTS))?;
    lab.clean()
}

fn new_key_with_holder(lab: &mut Lab<'_>) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    lab.done("RESERVE", &reserve(KEY, REGISTRANTS))?;
    let [holder, _] = lab.holder()?;
    holder.cut(Fault::Disk)?;
    lab.done("holder offline: REGISTER, new key", &register(KEY, NEW))?;
    lab.reserved(Some((NEW, REGISTRANTS)))?;
    lab.mend(holder, Fault::Disk)?;
    lab.keys_come("holder back: multipathd registers it", &[NEW; 2])?;
    lab.done("holder back: RELEASE", &release(NEW, REGISTRANTS))?;
    lab.reserved(None)?;
    lab.clean()
}

fn none(lab: &mut Lab<'_>) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    for fault in [Fault::Disk, Fault::Transport] {
        let how = match fault {
            Fault::Disk => "offline",
            Fault::Transport => "cut off",
        };
        for route in &lab.stage.routes {
            route.cut(fault)?;
        }
        let mut replies = Vec::new();
        for is_noticed in [false, true] {
            if is_noticed {
                for route in &lab.stage.routes {
                    lab.stage.wait_for_path(route, State::Failed)?;
                }
            }
            let case = |what: &str| format!("all paths {how}, {what}");
            replies.push(lab.ask(&case("READ KEYS"))?);
            replies.push(lab.tell(&case("RESERVE"), &reserve(KEY, REGISTRANTS))?);
            replies.push(lab.tell(&case("REGISTER"), &register(KEY, NEW))?);
        }
        for reply in replies {
            let key = reply.sense().map(|[key, ..]| key);
            ensure!(key == Some(0x0b), "all paths {how}: {reply}");
        }
        for route in &lab.stage.routes {
            route.mend(fault)?;
        }
        lab.stage.both_active()?;
        for route in &lab.stage.routes {
            route.device.drain()?;
        }
        lab.keys(&[KEY; 2])?;
        lab.sees("all paths back: READ KEYS", &[KEY; 2])?;
        lab.done("all paths back: RESERVE", &reserve(KEY, REGISTRANTS))?;
        lab.done("all paths back: RELEASE", &release(KEY, REGISTRANTS))?;
    }
    lab.clean()
}

/// Commands go on while a path is cut off and mended, and the other one. Whatever the guest was told to have
/// is so at the end.
fn in_progress(lab: &mut Lab<'_>) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    let over = AtomicBool::new(false);
    let guest = Guest::connect(&lab.stage.map.path)?;
    let (tally, slowest) = thread::scope(|scope| {
        let commands = scope.spawn(|| commands(guest, &over));
        let result = cuts(lab);
        over.store(true, Ordering::Relaxed);
        let answers = commands.join();
        result?;
        answers.map_err(|_| anyhow::anyhow!("the thread that sends commands panicked"))?
    })?;
    measured("paths cut off in turn: slowest command", &tally, slowest);
    ensure!(slowest <= TIMEOUT, "a command took {slowest:?}");
    for route in &lab.stage.routes {
        route.device.drain()?;
    }
    lab.done("afterwards: REGISTER AND IGNORE", &register_and_ignore(KEY))?;
    lab.keys_come("afterwards: both registered", &[KEY; 2])?;
    lab.clean()
}

fn cuts(lab: &Lab<'_>) -> Result<()> {
    for number in 0..CUTS {
        let route = &lab.stage.routes[number % 2];
        route.cut(Fault::Transport)?;
        lab.stage.wait_for_path(route, State::Failed)?;
        lab.mend(route, Fault::Transport)?;
    }
    Ok(())
}

/// What came of it, and the longest that a command took.
fn commands(mut guest: Guest, over: &AtomicBool) -> Result<(Tally, Duration)> {
    let orders = [
        register(KEY, NEW),
        reserve(NEW, REGISTRANTS),
        reserve(NEW, REGISTRANTS),
        register(NEW, KEY),
        release(KEY, REGISTRANTS),
    ];
    let mut replies = Vec::new();
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        for order in &orders {
            // A unit attention is the guest's to read; then it sends the command again. A path that has come
            // back may tell that its old key was preempted, which the helper has done.
            for _ in 0..4 {
                let (reply, time) = clocked(|| guest.tell(order))?;
                slowest = slowest.max(time);
                let is_told = [NEXUS_LOSS, PREEMPTED].map(Some).contains(&reply.sense());
                let is_done = reply.is_good();
                ensure!(
                    is_told || is_done,
                    "{:02x?}: {reply} after {time:?}",
                    &order.cdb[..3]
                );
                replies.push(reply);
                if is_done {
                    break;
                }
            }
        }
    }
    Ok((replies.into_iter().collect(), slowest))
}

fn is_conflict(reply: &Reply) -> bool {
    matches!(reply, Reply::Answer { status: 0x18, .. })
}
