// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `restart`: the helper is killed repeatedly while its socket stays open, as with a
//! service manager, and a guest and other clients continue.

mod load;
mod lost;
mod supervisor;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use rustix::process::Signal;

use self::load::Load;
use self::lost::LOST;
use self::supervisor::{Supervisor, helper_stderr};
use super::guest_reservations::{GUEST_KEY, release, reserve};
use super::helper::SOCKET;
use super::initiator::{DirectPort, Initiator};
use super::lio_target::{Port, Target};
use super::nested_guest::{self, Accelerator, NestedGuest};
use super::{Modules, uptime};
use pr_testkit::process::timed;

/// Number of times that the guest runs its commands under load.
const ROUNDS: u32 = 15;

/// Time between two kills of the helper.
const PERIOD: Duration = Duration::from_secs(1);

/// Maximum attempts for a command that is lost each time.
const ATTEMPTS: u32 = 3;

/// Exit status of `sg_persist` for ABORTED COMMAND.
const ABORTED: i32 = 11;

/// Runs a guest on one disk and other clients on another.
pub(crate) fn run(options: &nested_guest::Programs, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [port, other] = target.create_unit::<2>()?;
    let [busy] = target.create_unit::<1>()?;
    let accelerator = Accelerator::detect(modules);
    options.prepare()?;
    println!("guest: target ready after {} s", uptime()?);
    let supervisor = Supervisor::start(&options.helper)?;
    let steps = timed("boot of the nested guest", || {
        NestedGuest::start(&port.block, accelerator)
    })
    .and_then(|mut guest| {
        with_service(&supervisor, &mut guest, &other, &busy)?;
        supervisor.stop()?;
        timed("no helper", || without_service(&options.helper, &mut guest))?;
        guest.stop()
    });
    if steps.is_err() {
        eprintln!("guest: the helpers' stderr:\n{}", helper_stderr());
    }
    steps
}

/// Ends the helper in several ways; the supervisor starts it again.
fn with_service(
    supervisor: &Supervisor,
    guest: &mut impl Initiator,
    other: &Port,
    busy: &Port,
) -> Result<()> {
    let mut witness = DirectPort(other);
    timed("lost responses", || {
        lost::run(supervisor, guest, &mut witness)
    })?;
    guest
        .persist(&format!("--out --register --param-sark={GUEST_KEY}"))?
        .expect_code(0)?;
    let load = Load::start(&busy.block)?;
    timed("killed between commands", || {
        between_commands(supervisor, guest)
    })?;
    let lost = timed("killed under load", || {
        under_load(supervisor, guest, Signal::KILL)
    })?;
    print_counts(&load.stop()?, lost);
    let load = Load::start(&busy.block)?;
    let lost = timed("restarted under load", || {
        under_load(supervisor, guest, Signal::TERM)
    })?;
    let counts = load.stop()?;
    print_counts(&counts, lost);
    ensure!(
        lost == 0 && counts.lost == 0,
        "commands were lost although the helper was stopped with SIGTERM"
    );
    witness
        .persist("--in --read-keys")?
        .expect_code(0)?
        .expect_contains(GUEST_KEY)?;
    Ok(())
}

/// QEMU retries for some seconds and then returns an error to the guest. It reconnects as soon as a
/// helper runs again.
fn without_service(helper: &Path, guest: &mut impl Initiator) -> Result<()> {
    guest
        .persist("--in --read-keys")?
        .expect_code(ABORTED)?
        .expect_contains("Aborted command")?;
    let supervisor = Supervisor::start(helper)?;
    nested_guest::chown_to_qemu(Path::new(SOCKET))?;
    guest
        .persist("--in --read-keys")?
        .expect_code(0)?
        .expect_contains(GUEST_KEY)?;
    supervisor.stop()
}

fn print_counts(counts: &load::RequestCounts, lost: u32) {
    println!(
        "guest: commands of the guest: {lost} lost; of the other clients: {} answered, {} lost",
        counts.answered, counts.lost
    );
}

/// Returns the guest's commands. Each returns GOOD, also when it is repeated.
fn commands() -> [String; 4] {
    [
        "--in --read-keys".to_owned(),
        reserve(GUEST_KEY, 5),
        "--in --read-reservation".to_owned(),
        release(GUEST_KEY, 5),
    ]
}

/// QEMU detects the closed connection before it sends a command, so the guest does not notice.
fn between_commands(supervisor: &Supervisor, guest: &mut impl Initiator) -> Result<()> {
    for _ in 0..3 {
        for command in commands() {
            supervisor.replace(Signal::KILL)?;
            guest.persist(&command)?.expect_code(0)?;
        }
    }
    Ok(())
}

/// Ends the helper once a second, whatever it is doing. Only a command in flight can be lost, and
/// it returns GOOD when it is repeated. Returns the number of lost commands.
fn under_load(supervisor: &Supervisor, guest: &mut impl Initiator, signal: Signal) -> Result<u32> {
    let stop = AtomicBool::new(false);
    let before = supervisor.start_count();
    let lost = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(PERIOD);
                supervisor.replace(signal)?;
            }
            Ok(())
        });
        let lost = (0..ROUNDS).try_fold(0, |lost, _| Ok(lost + one_round(guest)?));
        stop.store(true, Ordering::Relaxed);
        let killed: Result<()> = killer
            .join()
            .map_err(|_| anyhow!("the thread that ends the helper panicked"))?;
        killed.and(lost)
    })?;
    let ends = supervisor.start_count() - before;
    let commands = ROUNDS * 4;
    println!("guest: {commands} commands of the guest, {ends} restarts of the helper");
    ensure!(lost <= ends, "more commands were lost than helpers ended");
    Ok(lost)
}

/// Runs the commands once. Returns the number of lost commands.
fn one_round(guest: &mut impl Initiator) -> Result<u32> {
    let mut total = 0;
    for command in commands() {
        let lost = (0..ATTEMPTS)
            .map(|_| guest.persist(&command))
            .find_map(|output| match output {
                Ok(output) if output.has_code(LOST) => {
                    total += 1;
                    None
                }
                other => Some(other),
            });
        lost.context("a command was lost in each attempt")??
            .expect_code(0)?;
    }
    Ok(total)
}
