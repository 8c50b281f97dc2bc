// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `libvirt`: Debian's libvirt starts domains with a disk of the target. Their
//! reservations go through a helper that libvirt starts, monitors and stops, or through a helper
//! that libvirt does not manage. `prhctl` shows what two domains of a cluster have done.

mod daemon;
mod doctor;
mod documented;
mod domain;
mod failover;
mod managed;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::daemon::chown_to_qemu;
use self::domain::{Domain, DomainDefinition, Reservations};
use self::managed::Managed;
use super::guest_reservations::{GUEST_KEY, all_steps, release, reserve};
use super::helper::{Helper, SOCKET, helper_stderr};
use super::initiator::{DirectPort, Initiator};
use super::lio_target::{Port, Target};
use super::multipath::multipathd_log;
use super::nested_guest::{self, Accelerator};
use super::prhctl_command::Prhctl;
use super::process_table::{self, HELPER};
use super::{Modules, uptime};
use pr_testkit::process::timed;

/// Path of the helper in qemu.conf. It is a link to the helper under test, or a script that does
/// not start it.
const HELPER_LINK: &str = "/run/pr/qemu-pr-helper";

/// Programs of the host for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    nested: nested_guest::Programs,
    #[arg(long)]
    prhctl: PathBuf,
}

/// Runs domains with a managed helper, with one that does not start, and with an unmanaged one, and
/// two domains of a cluster.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [port, other] = target.create_unit::<2>()?;
    ensure!(
        matches!(Accelerator::detect(modules), Accelerator::Kvm),
        "the domains need KVM"
    );
    let Options { nested, prhctl } = options;
    nested.prepare()?;
    replace_helper_link(|| symlink(&nested.helper, HELPER_LINK))?;
    timed("libvirtd", || daemon::start(Path::new(HELPER_LINK)))?;
    println!("guest: target and libvirtd ready after {} s", uptime()?);
    let others = [port.block.as_path(), &other.block];
    let steps = with_managed(&port, &other)
        .context("with a managed helper")
        .and_then(|()| without_helper(&nested.helper, &port).context("without a helper"))
        .and_then(|()| {
            with_unmanaged(&nested.helper, &port, &other).context("with an unmanaged helper")
        })
        .and_then(|()| replace_helper_link(|| symlink(&nested.helper, HELPER_LINK)))
        // Last, because udevd and multipathd continue to run.
        .and_then(|()| {
            failover::run(
                &mut target,
                &others,
                modules,
                &nested.helper,
                Prhctl(prhctl),
            )
            .context("two domains")
        });
    if steps.is_err() {
        eprintln!("guest: libvirtd's log:\n{}", daemon::libvirtd_log());
        eprintln!("guest: multipathd's log:\n{}", multipathd_log());
    }
    steps
}

/// Replaces the file at [`HELPER_LINK`]. libvirt looks it up each time it starts a domain.
fn replace_helper_link(create: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
    let dir = Path::new(HELPER_LINK)
        .parent()
        .context("no parent directory")?;
    fs::create_dir_all(dir)
        .and_then(
            |()| match Path::new(HELPER_LINK).symlink_metadata().is_ok() {
                true => fs::remove_file(HELPER_LINK),
                false => Ok(()),
            },
        )
        .and_then(|()| create())
        .with_context(|| format!("cannot create {HELPER_LINK}"))
}

fn with_managed(port: &Port, other: &Port) -> Result<()> {
    let definition = DomainDefinition::new("managed", &port.block, Reservations::Managed)?;
    let mut guest = timed("virsh start, and the guest's boot", || definition.start())?;
    let managed = Managed::new(&guest);
    Managed::expect_confined(managed.expect_started(Path::new(HELPER_LINK))?)?;
    let mut witness = DirectPort(other);
    timed("reservations", || {
        all_steps(&mut guest, &mut witness, &[port])
    })?;
    reserve_across_a_crash(&mut guest, &mut witness, &managed)?;
    Managed::expect_confined(process_table::one(HELPER)?)?;
    timed("virsh destroy", || guest.destroy())?;
    managed.expect_nothing_left()?;
    println!("guest: virsh destroy removed all processes, the socket and the PID file");
    Ok(())
}

/// Kills the helper before each command. libvirt starts it again, and the guest does not notice.
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
        println!("guest: killed the helper");
        guest.persist(step)?.expect_code(0)?;
        managed.expect_started(Path::new(HELPER_LINK))?;
    }
    witness
        .persist("--in --read-keys")?
        .expect_contains(GUEST_KEY)?;
    let clear = format!("--out --clear --param-rk={GUEST_KEY}");
    guest.persist(&clear)?.expect_code(0)?;
    Ok(())
}

/// libvirt's error must contain the helper's reason for not starting.
fn without_helper(helper: &Path, port: &Port) -> Result<()> {
    let definition = DomainDefinition::new("broken", &port.block, Reservations::Managed)?;
    // For an unknown option: the message, the usage, and where to find more.
    for (options, reason, lines) in [
        ("-f /nowhere/pr.pid", "/nowhere/pr.pid", 1),
        ("--no-such-option", "--no-such-option", 3),
    ] {
        let script = format!("#!/bin/sh\nexec {} {options} \"$@\"\n", helper.display());
        replace_helper_link(|| {
            fs::write(HELPER_LINK, script)?;
            fs::set_permissions(HELPER_LINK, fs::Permissions::from_mode(0o755))
        })?;
        let error = definition.fail_to_start()?;
        println!("guest: {error}");
        let message = error.split_once("pr helper died and reported: ");
        let (_, message) = message.with_context(|| format!("the error has no reason: {error}"))?;
        ensure!(
            message
                .lines()
                .all(|line| line.starts_with("qemu-pr-helper: "))
                && message.lines().count() == lines,
            "not {lines} lines of the helper: {message}"
        );
        ensure!(message.contains(reason), "no {reason}: {message}");
        ensure!(
            process_table::all(HELPER)?.is_empty(),
            "a helper runs although its start failed"
        );
    }
    Ok(())
}

/// libvirt passes the socket to QEMU and does not touch the helper.
fn with_unmanaged(helper: &Path, port: &Port, other: &Port) -> Result<()> {
    let helper = Helper::start(helper)?;
    chown_to_qemu(Path::new(SOCKET))?;
    let definition = DomainDefinition::new("unmanaged", &port.block, Reservations::Unmanaged)?;
    let steps =
        timed("virsh start, and the guest's boot", || definition.start()).and_then(|mut guest| {
            all_steps(&mut guest, &mut DirectPort(other), &[port])?;
            timed("virsh destroy", || guest.destroy())
        });
    steps.with_context(|| format!("the helper's stderr: {}", helper_stderr()))?;
    ensure!(
        process_table::one(HELPER)? == helper.id() && Path::new(SOCKET).exists(),
        "virsh destroy stopped an unmanaged helper"
    );
    println!("guest: virsh destroy did not stop the unmanaged helper");
    helper.stop()
}
