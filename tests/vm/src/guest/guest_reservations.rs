// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `guest`: a QEMU guest registers, reserves, gets a conflict and releases on a real SCSI
//! target through the helper, while a second initiator port checks the effects. The guest's disk is
//! a port of the target, and then a multipath map, on which the logical unit is also reset.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::helper::{Helper, helper_stderr};
use super::initiator::{CONFLICT, DirectPort, Initiator, UNIT_ATTENTION};
use super::lio_target::{Port, Target};
use super::multipath::MapFixture;
use super::nested_guest::{self, Accelerator, NestedGuest};
use super::{Modules, uptime, watchdog_check};
use pr_testkit::process::timed;

/// Programs of the host for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    nested: nested_guest::Programs,
    /// QEMU's helper
    #[arg(long)]
    original: PathBuf,
}

/// Keys of the nested guest and of the second port.
pub(super) const GUEST_KEY: &str = "0x123abc";
pub(super) const PORT_KEY: &str = "0x456def";

const WRITE_EXCLUSIVE: &str = "Write Exclusive, registrants only";
const EXCLUSIVE_ACCESS: &str = "Exclusive Access";

/// Runs the same steps with each helper.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let [port, other] = target.create_unit::<2>()?;
    let accelerator = Accelerator::detect(modules);
    options.nested.prepare()?;
    println!(
        "guest: target ready after {} s; the nested QEMU has no privileges",
        uptime()?
    );
    // QEMU's helper first: if it fails too, the steps are wrong, and not our helper.
    let helpers = match accelerator {
        Accelerator::Kvm => vec![&options.original, &options.nested.helper],
        // With emulation, there is no time for both.
        Accelerator::Tcg => vec![&options.nested.helper],
    };
    for helper in helpers {
        let name = helper.display().to_string();
        timed(&name, || {
            let end = |_: &mut NestedGuest, _: &mut DirectPort<'_>| Ok(());
            with_helper(helper, &port.block, &[&port], &other, accelerator, end)
        })
        .with_context(|| format!("with {name}"))?;
    }
    if matches!(accelerator, Accelerator::Tcg) {
        println!("guest: multipath map skipped: emulation would take too long");
        return Ok(());
    }
    // The guest has overwritten the partition table of the first logical unit.
    let [first, second, other] = target.create_unit::<3>()?;
    let paths = [first, second];
    let fixture = timed("udevd, multipathd and its map", || {
        MapFixture::create(modules, &paths, &[&other])
    })?;
    let ports = paths.each_ref();
    fixture.freeze_udev()?;
    timed("multipath map", || {
        with_helper(
            &options.nested.helper,
            fixture.disk(),
            &ports,
            &other,
            accelerator,
            |guest, port| {
                timed("fence_scsi_check", || {
                    watchdog_check::run(guest, GUEST_KEY, port, &fixture)
                })
            },
        )
    })
    .context("on a multipath map")
}

/// Runs all steps with a nested guest on `disk`, which consists of `paths`, and another port, and
/// then `end`.
fn with_helper(
    program: &Path,
    disk: &Path,
    paths: &[&Port],
    other: &Port,
    accelerator: Accelerator,
    end: impl FnOnce(&mut NestedGuest, &mut DirectPort<'_>) -> Result<()>,
) -> Result<()> {
    println!("guest: with {} and {}", program.display(), disk.display());
    let helper = Helper::start(program)?;
    let mut port = DirectPort(other);
    let steps = timed("boot of the nested guest", || {
        NestedGuest::start(disk, accelerator)
    })
    .and_then(|mut guest| {
        all_steps(&mut guest, &mut port, paths)?;
        end(&mut guest, &mut port)?;
        guest.stop()
    });
    if steps.is_err() {
        eprintln!("guest: the helper's stderr:\n{}", helper_stderr());
    }
    steps?;
    helper.stop()
}

/// Runs all steps with a guest on a disk that consists of `paths`, and another port of the same
/// unit. No port is registered before and afterwards.
pub(super) fn all_steps(
    guest: &mut impl Initiator,
    port: &mut impl Initiator,
    paths: &[&Port],
) -> Result<()> {
    register_and_reserve(guest, port, paths)?;
    port_conflicts(guest, port, paths)?;
    guest_conflicts(guest, port)?;
    preempt_and_clear(guest, port)
}

/// Returns the text of `sg_persist` for a number of keys. The guest has a key for each path to its
/// disk.
fn key_count_text(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} registered reservation key{plural}")
}

/// The guest registers and reserves; both initiators see it.
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
            .expect_contains(&key_count_text(paths.len()))?
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
        // TransportIDs of SAS ports, which are the longest parameter data.
        for path in paths {
            let address = format!("SAS address: 0x{}", path.address());
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

/// Commands of the second port conflict with the guest's reservation.
fn port_conflicts(
    guest: &mut impl Initiator,
    port: &mut impl Initiator,
    paths: &[&Port],
) -> Result<()> {
    guest.write_block()?.expect_code(0)?;
    port.read_block()?.expect_code(0)?;
    // The kernel maps RESERVATION CONFLICT to EBADE.
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
        .expect_contains(&key_count_text(paths.len() + 1))?
        .expect_contains(GUEST_KEY)?
        .expect_contains(PORT_KEY)?;
    Ok(())
}

/// The guest releases its reservation, the second port reserves, and commands of the guest
/// conflict.
fn guest_conflicts(guest: &mut impl Initiator, port: &mut impl Initiator) -> Result<()> {
    guest.persist(&release(GUEST_KEY, 5))?.expect_code(0)?;
    // The target establishes a unit attention for the other registrants of such a reservation.
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

/// The guest preempts the second port, as a cluster does, and clears all registrations.
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
