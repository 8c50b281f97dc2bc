//! Scenario `restart`: the helper is killed again and again, while its socket stays open as a service manager keeps it,
//! and a guest and other clients go on.

mod load;
mod lost;
mod supervisor;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use rustix::process::Signal;

use self::load::Load;
use self::lost::LOST;
use self::supervisor::{Supervisor, complaints};
use super::helper::SOCKET;
use super::initiator::{DirectPort, Initiator};
use super::lio::{Port, Target};
use super::nested::{self, Accelerator, Nested};
use super::reservations::{GUEST_KEY, release, reserve};
use super::{Modules, uptime};
use crate::process::timed;

/// How many times the guest goes through its commands under load.
const ROUNDS: u32 = 15;

/// From one end of the helper to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// How often a command is sent that is lost each time.
const ATTEMPTS: u32 = 3;

/// `sg_persist` ends with this on ABORTED COMMAND.
const ABORTED: i32 = 11;

/// What the host has built for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    /// The helper under test
    #[arg(long)]
    helper: PathBuf,
    /// The nested guest's kernel
    #[arg(long)]
    kernel: PathBuf,
    /// The nested guest's first root folder
    #[arg(long)]
    initramfs: PathBuf,
}

/// A guest with a disk, and other clients with another.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [port, other] = target.unit::<2>()?;
    let [busy] = target.unit::<1>()?;
    let accelerator = Accelerator::best(modules);
    nested::prepare(&options.kernel, &options.initramfs)?;
    println!("guest: target ready after {} s", uptime()?);
    let supervisor = Supervisor::start(&options.helper)?;
    let steps = timed("boot of the nested guest", || {
        Nested::start(&port.block, accelerator)
    })
    .and_then(|mut guest| {
        with_service(&supervisor, &mut guest, &other, &busy)?;
        supervisor.stop()?;
        timed("no helper", || without_service(&options.helper, &mut guest))?;
        guest.stop()
    });
    if steps.is_err() {
        eprintln!("guest: the helpers' stderr:\n{}", complaints());
    }
    steps
}

/// The helper ends in all manners, and there is always another one.
fn with_service(
    supervisor: &Supervisor,
    guest: &mut impl Initiator,
    other: &Port,
    busy: &Port,
) -> Result<()> {
    let mut witness = DirectPort(other);
    timed("answers that are lost", || {
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
    say(&load.stop()?, lost);
    let load = Load::start(&busy.block)?;
    let lost = timed("restarted under load", || {
        under_load(supervisor, guest, Signal::TERM)
    })?;
    let others = load.stop()?;
    say(&others, lost);
    ensure!(
        lost == 0 && others.lost == 0,
        "a helper that is asked to end loses commands"
    );
    witness
        .persist("--in --read-keys")?
        .expect_code(0)?
        .expect_contains(GUEST_KEY)?;
    Ok(())
}

/// QEMU tries for some seconds, and then lets the guest know. As soon as there is a helper again, it connects.
fn without_service(helper: &Path, guest: &mut impl Initiator) -> Result<()> {
    guest
        .persist("--in --read-keys")?
        .expect_code(ABORTED)?
        .expect_contains("Aborted command")?;
    let supervisor = Supervisor::start(helper)?;
    nested::give(Path::new(SOCKET))?;
    guest
        .persist("--in --read-keys")?
        .expect_code(0)?
        .expect_contains(GUEST_KEY)?;
    supervisor.stop()
}

fn say(others: &load::Count, lost: u32) {
    println!(
        "guest: of the guest's commands {lost} lost; of the other clients' {} answered, {} lost",
        others.answered, others.lost
    );
}

/// What the guest sends, over and over: each is GOOD, and stays so if it is sent again.
fn commands() -> [String; 4] {
    [
        "--in --read-keys".to_owned(),
        reserve(GUEST_KEY, 5),
        "--in --read-reservation".to_owned(),
        release(GUEST_KEY, 5),
    ]
}

/// QEMU finds its connection gone before a command is on its way, and the guest notices nothing.
fn between_commands(supervisor: &Supervisor, guest: &mut impl Initiator) -> Result<()> {
    for _ in 0..3 {
        for command in commands() {
            supervisor.replace(Signal::KILL)?;
            guest.persist(&command)?.expect_code(0)?;
        }
    }
    Ok(())
}

/// The helper ends once in a second, whatever it is doing. A command that is on its way then may be lost, and is GOOD when
/// it is sent again. Another one is not. Gives how many were lost.
fn under_load(supervisor: &Supervisor, guest: &mut impl Initiator, signal: Signal) -> Result<u32> {
    let is_over = AtomicBool::new(false);
    let before = supervisor.starts();
    let lost = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(PERIOD);
                supervisor.replace(signal)?;
            }
            Ok(())
        });
        let lost = (0..ROUNDS).try_fold(0, |lost, _| Ok(lost + one_round(guest)?));
        is_over.store(true, Ordering::Relaxed);
        let killed: Result<()> = killer.join().map_err(|_| anyhow!("the killer panicked"))?;
        killed.and(lost)
    })?;
    let ends = supervisor.starts() - before;
    let commands = ROUNDS * 4;
    println!("guest: {commands} commands of the guest's, {ends} ends of the helper");
    ensure!(lost <= ends, "more commands are lost than helpers ended");
    Ok(lost)
}

/// How many commands were lost.
fn one_round(guest: &mut impl Initiator) -> Result<u32> {
    let mut all = 0;
    for command in commands() {
        let lost =
            (0..ATTEMPTS)
                .map(|_| guest.persist(&command))
                .find_map(|outcome| match outcome {
                    Ok(outcome) if outcome.is(LOST) => {
                        all += 1;
                        None
                    }
                    other => Some(other),
                });
        lost.context("a command is lost again and again")??
            .expect_code(0)?;
    }
    Ok(all)
}
