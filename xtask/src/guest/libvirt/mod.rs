//! Scenario `libvirt`: Debian's libvirt starts machines with a disk on the target, whose reservations go through the
//! helper: one that libvirt starts, watches and ends, and one that is somebody else's.

mod daemon;
mod domain;
mod managed;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::daemon::give;
use self::domain::{Definition, Domain, Reservations};
use self::managed::Managed;
use super::helper::{Helper, SOCKET, complaints};
use super::initiator::{DirectPort, Initiator};
use super::lio::{Port, Target};
use super::nested::{self, Accelerator};
use super::process_table::{self, HELPER};
use super::reservations::{GUEST_KEY, all_steps, release, reserve};
use super::{Modules, uptime};
use crate::process::timed;

/// What qemu.conf names. It leads to the helper under test, or to something that does not start.
const NAMED: &str = "/run/pr/qemu-pr-helper";

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

/// A machine with a helper of libvirt's, one that libvirt cannot start, and one with a helper of its own.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [port, other] = target.unit::<2>()?;
    ensure!(
        matches!(Accelerator::best(modules), Accelerator::Kvm),
        "the machines are to run with KVM"
    );
    nested::prepare(&options.kernel, &options.initramfs)?;
    name_helper(|| symlink(&options.helper, NAMED))?;
    timed("libvirtd", || daemon::start(Path::new(NAMED)))?;
    println!("guest: target and libvirtd ready after {} s", uptime()?);
    let steps = with_managed(&port, &other)
        .context("with a helper of libvirt's")
        .and_then(|()| without_helper(&options.helper, &port).context("without a helper"))
        .and_then(|()| {
            with_unmanaged(&options.helper, &port, &other).context("with a helper of our own")
        });
    if steps.is_err() {
        eprintln!("guest: libvirtd said:\n{}", daemon::said());
    }
    steps
}

/// Changes what [`NAMED`] leads to. libvirt does not look before it starts a machine.
fn name_helper(make: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
    let folder = Path::new(NAMED).parent().context("no folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| match Path::new(NAMED).is_symlink() {
            true => fs::remove_file(NAMED),
            false => Ok(()),
        })
        .and_then(|()| make())
        .with_context(|| format!("cannot make {NAMED}"))
}

fn with_managed(port: &Port, other: &Port) -> Result<()> {
    let machine = Definition::new("managed", &port.block, Reservations::Managed)?;
    let mut guest = timed("virsh start, and the guest's boot", || machine.start())?;
    let managed = Managed::of(&guest);
    Managed::expect_confined(managed.expect_started(Path::new(NAMED))?)?;
    let mut witness = DirectPort(other);
    timed("reservations", || {
        all_steps(&mut guest, &mut witness, &[port])
    })?;
    reserve_across_a_crash(&mut guest, &mut witness, &managed)?;
    Managed::expect_confined(process_table::one(HELPER)?)?;
    timed("virsh destroy", || guest.destroy())?;
    managed.expect_nothing_left()?;
    println!("guest: virsh destroy has left no process, socket or PID file behind");
    Ok(())
}

/// The helper is killed before each command. libvirt starts it anew, and the guest does not notice.
fn reserve_across_a_crash(
    guest: &mut Domain,
    witness: &mut impl Initiator,
    managed: &Managed,
) -> Result<()> {
    let steps = [
        format!("--out --register --param-sark={GUEST_KEY}"),
        reserve(GUEST_KEY, 5),
        "--in --read-keys".to_owned(),
        release(GUEST_KEY, 5),
    ];
    for step in &steps {
        Managed::kill(process_table::one(HELPER)?)?;
        println!("guest: the helper is killed");
        guest.persist(step)?.expect_code(0)?;
        managed.expect_started(Path::new(NAMED))?;
    }
    witness
        .persist("--in --read-keys")?
        .expect_contains(GUEST_KEY)?;
    let clear = format!("--out --clear --param-rk={GUEST_KEY}");
    guest.persist(&clear)?.expect_code(0)?;
    Ok(())
}

/// Why the helper does not start is what whoever started the machine reads.
fn without_helper(helper: &Path, port: &Port) -> Result<()> {
    let machine = Definition::new("unfortunate", &port.block, Reservations::Managed)?;
    // Of a wrong option QEMU's helper says two lines as well.
    for (options, reason, lines) in [
        ("-f /nowhere/pr.pid", "/nowhere/pr.pid", 1),
        ("--no-such-option", "--no-such-option", 2),
    ] {
        let script = format!("#!/bin/sh\nexec {} {options} \"$@\"\n", helper.display());
        name_helper(|| {
            fs::write(NAMED, script)?;
            fs::set_permissions(NAMED, fs::Permissions::from_mode(0o755))
        })?;
        let said = machine.fail_to_start()?;
        println!("guest: {said}");
        let ours = said.split_once("pr helper died and reported: ");
        let (_, ours) = ours.with_context(|| format!("no reason is named: {said}"))?;
        ensure!(
            ours.lines()
                .all(|line| line.starts_with("qemu-pr-helper: "))
                && ours.lines().count() == lines,
            "not {lines} lines of ours: {ours}"
        );
        ensure!(ours.contains(reason), "no {reason}: {ours}");
        ensure!(
            process_table::all(HELPER)?.is_empty(),
            "a helper that has not started runs"
        );
    }
    Ok(())
}

/// libvirt only names the socket to QEMU, and leaves the helper alone.
fn with_unmanaged(helper: &Path, port: &Port, other: &Port) -> Result<()> {
    let helper = Helper::start(helper)?;
    give(Path::new(SOCKET))?;
    let machine = Definition::new("unmanaged", &port.block, Reservations::Unmanaged)?;
    let steps =
        timed("virsh start, and the guest's boot", || machine.start()).and_then(|mut guest| {
            all_steps(&mut guest, &mut DirectPort(other), &[port])?;
            timed("virsh destroy", || guest.destroy())
        });
    steps.with_context(|| format!("the helper said: {}", complaints()))?;
    ensure!(
        process_table::one(HELPER)? == helper.id() && Path::new(SOCKET).exists(),
        "virsh destroy has ended a helper that is not libvirt's"
    );
    println!("guest: virsh destroy has left our own helper alone");
    helper.stop()
}
