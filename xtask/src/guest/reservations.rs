//! Scenario `guest`: a real QEMU guest registers, reserves, is refused and releases on a real SCSI
//! target through the helper, and a second initiator port sees and feels what it did. Its disk is a port of
//! the target, and then a multipath map.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::helper::{Helper, complaints};
use super::initiator::{DirectPort, Initiator};
use super::lio::{Port, Target};
use super::multipath::Stage;
use super::nested::{self, Accelerator, Nested};
use super::{Modules, uptime};
use crate::process::timed;

/// What the host has built for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    /// The helper under test
    #[arg(long)]
    helper: PathBuf,
    /// QEMU's own helper
    #[arg(long)]
    original: PathBuf,
    /// The nested guest's kernel
    #[arg(long)]
    kernel: PathBuf,
    /// The nested guest's first root folder
    #[arg(long)]
    initramfs: PathBuf,
}

/// `sg_persist` ends with this on status RESERVATION CONFLICT (`sg3_utils(8)`, EXIT STATUS).
pub(super) const CONFLICT: i32 = 24;

/// And with this on a unit attention.
pub(super) const UNIT_ATTENTION: i32 = 6;

/// The nested guest's key and the second port's.
pub(super) const GUEST_KEY: &str = "0x123abc";
pub(super) const PORT_KEY: &str = "0x456def";

const WRITE_EXCLUSIVE: &str = "Write Exclusive, registrants only";
const EXCLUSIVE_ACCESS: &str = "Exclusive Access";

/// Runs the same steps with each helper.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [port, other] = target.unit::<2>()?;
    let accelerator = Accelerator::best(modules);
    nested::prepare(&options.kernel, &options.initramfs)?;
    println!(
        "guest: target ready after {} s; the nested QEMU has no privileges",
        uptime()?
    );
    // The original first: where it fails too, the steps are wrong and not our helper.
    let helpers = match accelerator {
        Accelerator::Kvm => vec![&options.original, &options.helper],
        // There is no time for more.
        Accelerator::Tcg => vec![&options.helper],
    };
    for helper in helpers {
        let name = helper.display().to_string();
        timed(&name, || {
            with_helper(helper, &port.block, &[&port], &other, accelerator)
        })
        .with_context(|| format!("with {name}"))?;
    }
    if matches!(accelerator, Accelerator::Tcg) {
        println!("guest: there is no time for the same steps on a multipath map");
        return Ok(());
    }
    // The guest has overwritten the partition table of the other one.
    let [first, second, other] = target.unit::<3>()?;
    let paths = [first, second];
    let stage = timed("udevd, multipathd and its map", || {
        Stage::set(modules, &paths, &[&other])
    })?;
    let ports = paths.each_ref();
    stage.freeze_udev()?;
    timed("multipath map", || {
        with_helper(&options.helper, stage.disk(), &ports, &other, accelerator)
    })
    .context("on a multipath map")
}

/// Has a guest with `disk`, which `paths` lead to, and another port go through all steps.
fn with_helper(
    program: &Path,
    disk: &Path,
    paths: &[&Port],
    other: &Port,
    accelerator: Accelerator,
) -> Result<()> {
    println!("guest: with {} and {}", program.display(), disk.display());
    let helper = Helper::start(program)?;
    let mut port = DirectPort(other);
    let steps = timed("boot of the nested guest", || {
        Nested::start(disk, accelerator)
    })
    .and_then(|mut guest| {
        all_steps(&mut guest, &mut port, paths)?;
        guest.stop()
    });
    if steps.is_err() {
        eprintln!("guest: the helper's stderr:\n{}", complaints());
    }
    steps?;
    helper.stop()
}

/// A guest whose disk `paths` lead to, and another port of the same unit. Nobody is registered, before and after.
pub(super) fn all_steps(
    guest: &mut impl Initiator,
    port: &mut impl Initiator,
    paths: &[&Port],
) -> Result<()> {
    register_and_reserve(guest, port, paths)?;
    refuse_the_port(guest, port, paths)?;
    refuse_the_guest(guest, port)?;
    preempt_and_clear(guest, port)
}

/// What `sg_persist` says of so many keys: one for each path to the guest's disk, and others'.
fn registered(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} registered reservation key{plural}")
}

/// The guest takes a reservation, and both sides see it.
fn register_and_reserve(
    guest: &mut impl Initiator,
    port: &mut impl Initiator,
    paths: &[&Port],
) -> Result<()> {
    for initiator in [guest as &mut dyn Initiator, port] {
        initiator
            .persist("--in --read-keys")?
            .expect_code(0)?
            .expect_contains("NO registered reservation keys")?;
    }
    guest
        .persist(&format!("--out --register --param-sark={GUEST_KEY}"))?
        .expect_code(0)?;
    guest.persist(&reserve(GUEST_KEY, 5))?.expect_code(0)?;
    for initiator in [guest as &mut dyn Initiator, port] {
        initiator
            .persist("--in --read-keys")?
            .expect_code(0)?
            .expect_contains(&registered(paths.len()))?
            .expect_contains(GUEST_KEY)?;
        initiator
            .persist("--in --read-reservation")?
            .expect_code(0)?
            .expect_contains(&format!("Key={GUEST_KEY}"))?
            .expect_contains(WRITE_EXCLUSIVE)?;
        let mut status = initiator
            .persist("--in --read-full-status")?
            .expect_code(0)?
            .expect_contains(&format!("Key={GUEST_KEY}"))?
            .expect_contains("<< Reservation holder >>")?
            .expect_contains(WRITE_EXCLUSIVE)?;
        // The TransportIDs of SAS ports, in the middle of the longest parameter data.
        for path in paths {
            let address = format!("SAS address: 0x50014050000000{:02}", path.number);
            status = status.expect_contains(&address)?;
        }
        initiator
            .persist("--in --report-capabilities")?
            .expect_code(0)?
            .expect_contains("Persist Through Power Loss Capable(PTPL_C): 1")?
            .expect_contains(&format!("{WRITE_EXCLUSIVE}: 1"))?;
    }
    Ok(())
}

/// While the guest holds its reservation the second port is kept out.
fn refuse_the_port(
    guest: &mut impl Initiator,
    port: &mut impl Initiator,
    paths: &[&Port],
) -> Result<()> {
    guest.write_block()?.expect_code(0)?;
    port.read_block()?.expect_code(0)?;
    // EBADE is what the kernel makes of RESERVATION CONFLICT.
    port.write_block()?
        .expect_code(1)?
        .expect_contains("Invalid exchange")?;
    port.persist(&format!("--out --register --param-sark={PORT_KEY}"))?
        .expect_code(0)?;
    port.persist(&reserve(PORT_KEY, 3))?.expect_code(CONFLICT)?;
    port.write_block()?.expect_code(0)?;
    guest
        .persist("--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&registered(paths.len() + 1))?
        .expect_contains(GUEST_KEY)?
        .expect_contains(PORT_KEY)?;
    Ok(())
}

/// The guest gives its reservation up, the second port takes one, and the guest is kept out.
fn refuse_the_guest(guest: &mut impl Initiator, port: &mut impl Initiator) -> Result<()> {
    guest.persist(&release(GUEST_KEY, 5))?.expect_code(0)?;
    // The other registrants of such a reservation are told that it has gone, once.
    port.persist("--in --read-reservation")?
        .expect_code(UNIT_ATTENTION)?
        .expect_contains("Reservations released")?;
    port.persist("--in --read-reservation")?
        .expect_code(0)?
        .expect_contains("there is NO reservation held")?;
    port.persist(&reserve(PORT_KEY, 3))?.expect_code(0)?;
    guest
        .persist(&reserve(GUEST_KEY, 5))?
        .expect_code(CONFLICT)?
        .expect_contains("Reservation conflict")?;
    guest
        .persist("--in --read-reservation")?
        .expect_code(0)?
        .expect_contains(&format!("Key={PORT_KEY}"))?
        .expect_contains(EXCLUSIVE_ACCESS)?;
    guest.read_block()?.expect_code(1)?;
    guest.write_block()?.expect_code(1)?;
    port.persist(&release(PORT_KEY, 3))?.expect_code(0)?;
    guest.read_block()?.expect_code(0)?;
    Ok(())
}

/// The guest fences the second port, as a cluster does, and leaves nothing behind.
fn preempt_and_clear(guest: &mut impl Initiator, port: &mut impl Initiator) -> Result<()> {
    guest.persist(&reserve(GUEST_KEY, 5))?.expect_code(0)?;
    guest
        .persist(&format!(
            "--out --preempt --param-rk={GUEST_KEY} --param-sark={PORT_KEY} --prout-type=5"
        ))?
        .expect_code(0)?;
    port.persist("--in --read-keys")?
        .expect_code(UNIT_ATTENTION)?
        .expect_contains("Registrations preempted")?;
    port.persist("--in --read-keys")?
        .expect_code(0)?
        .expect_contains(GUEST_KEY)?
        .expect_lacks(PORT_KEY)?;
    port.write_block()?
        .expect_code(1)?
        .expect_contains("Invalid exchange")?;
    guest.persist(&release(GUEST_KEY, 5))?.expect_code(0)?;
    guest
        .persist(&format!("--out --clear --param-rk={GUEST_KEY}"))?
        .expect_code(0)?;
    for initiator in [guest as &mut dyn Initiator, port] {
        initiator
            .persist("--in --read-keys")?
            .expect_code(0)?
            .expect_contains("NO registered reservation keys")?;
        initiator.write_block()?.expect_code(0)?;
    }
    Ok(())
}

pub(super) fn reserve(key: &str, kind: u8) -> String {
    format!("--out --reserve --param-rk={key} --prout-type={kind}")
}

pub(super) fn release(key: &str, kind: u8) -> String {
    format!("--out --release --param-rk={key} --prout-type={kind}")
}
