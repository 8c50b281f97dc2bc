// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `migration`: a guest that holds a reservation migrates to another QEMU, which has its
//! own helper and port. QEMU moves the reservation to that port through the helper. Then a guest
//! migrates between two QEMUs of one helper.

mod machine;
mod one_helper;

use anyhow::{Context as _, Result, ensure};

use super::guest_reservations::{GUEST_KEY, release, reserve};
use super::initiator::{DirectPort, Initiator};
use super::lio_target::{Port, Target};
use super::nested_guest::{self, Accelerator};
use super::{Modules, uptime};
use machine::{Machine, Setup};
use pr_testkit::process::timed;

/// Type of the guest's reservation: Write Exclusive, Registrants Only.
const TYPE: u8 = 5;

// Commands of the guest and of QEMU, as the helper traces them.
const READ_RESERVATION: &str = "'READ RESERVATION' length=24 status=0x00";
const UNIT_ATTENTION: &str = "'READ RESERVATION' length=0 status=0x02";
const REGISTER: &str = "'REGISTER' type=0x00 key=0x0 sa_key=0x123abc status=0x00";
const REGISTER_CONFLICT: &str = "'REGISTER' type=0x00 key=0x0 sa_key=0x123abc status=0x18";
const UNREGISTER: &str = "'REGISTER' type=0x00 key=0x123abc sa_key=0x0 status=0x00";
const RESERVE: &str = "'RESERVE' type=0x05 key=0x123abc sa_key=0x0 status=0x00";
const RELEASE: &str = "'RELEASE' type=0x05 key=0x123abc sa_key=0x0 status=0x00";
const PREEMPT: &str = "'PREEMPT' type=0x05 key=0x123abc sa_key=0x123abc status=0x00";

/// Commands with which QEMU moves the reservation to the port of its helper.
const MOVE: [&str; 3] = [READ_RESERVATION, REGISTER, PREEMPT];

/// Commands of the source after a failed migration that did not move the reservation. The port is
/// still registered, so QEMU's REGISTER conflicts; QEMU prints a warning and changes nothing.
const STILL_REGISTERED: [&str; 2] = [READ_RESERVATION, REGISTER_CONFLICT];

/// Lets migrations fail at different steps, and then one succeed.
pub(crate) fn run(options: &nested_guest::Programs, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let ports = target.create_unit::<3>()?;
    let accelerator = Accelerator::detect(modules);
    ensure!(
        matches!(accelerator, Accelerator::Kvm),
        "the guests need KVM"
    );
    options.prepare()?;
    println!("guest: target ready after {} s", uptime()?);
    let setup = Setup {
        helper: &options.helper,
        accelerator,
    };
    let [source, destination, witness] = &ports;
    let mut test = MigrationTest {
        machine: timed("boot of the guest", || setup.boot(source))?,
        setup,
        source,
        destination,
        witness: DirectPort(witness),
        source_commands: Vec::new(),
    };
    test.reserve()?;
    test.cancel().context("a canceled migration")?;
    test.kill_destination()
        .context("a migration to a QEMU that was killed")?;
    test.stop_helper()
        .context("a migration to a QEMU without a helper")?;
    test.fail_after_move()
        .context("a migration that failed after the reservation had moved")?;
    test.succeed()?;
    timed("one helper", || one_helper::run(setup, &ports)).context("with one helper")
}

/// A guest with a reservation, which migrates from one port to another.
struct MigrationTest<'a> {
    setup: Setup<'a>,
    /// The QEMU that runs the guest.
    machine: Machine,
    source: &'a Port,
    destination: &'a Port,
    /// A port of the unit that is not registered.
    witness: DirectPort<'a>,
    /// Commands that the source's helper must have executed.
    source_commands: Vec<&'static str>,
}

impl MigrationTest<'_> {
    fn reserve(&mut self) -> Result<()> {
        let guest = &mut self.machine.guest;
        guest.persist(&register())?.expect_code(0)?;
        guest.persist(&reserve(GUEST_KEY, TYPE))?.expect_code(0)?;
        guest.write_block()?.expect_code(0)?;
        self.source_commands.extend([REGISTER, RESERVE]);
        expect_holder(&mut self.witness, self.source, self.destination)
    }

    /// Cancels a migration while the guest is paused.
    fn cancel(&mut self) -> Result<()> {
        let _destination = self.pause_for(self.setup.await_guest(self.destination)?)?;
        self.machine.cancel()?;
        self.expect_at_source(&STILL_REGISTERED)
    }

    /// Kills the destination's QEMU before the devices are transferred.
    fn kill_destination(&mut self) -> Result<()> {
        drop(self.pause_for(self.setup.await_guest(self.destination)?)?);
        self.machine.switch_over("failed")?;
        self.expect_at_source(&STILL_REGISTERED)
    }

    /// Stops the destination's helper before the devices are transferred.
    fn stop_helper(&mut self) -> Result<()> {
        let mut destination = self.pause_for(self.setup.await_guest(self.destination)?)?;
        destination.stop_helper()?;
        self.machine.switch_over("failed")?;
        ensure!(
            destination.commands()?.is_empty(),
            "the helper executed commands before it was stopped"
        );
        self.expect_at_source(&STILL_REGISTERED)
    }

    /// Migrates to a machine that lacks a device which is transferred after the disk.
    ///
    /// QEMU 11.1 does not move the reservation back, because its first command ends with the unit
    /// attention for the move. The guest continues at the source, and can take the reservation
    /// back.
    fn fail_after_move(&mut self) -> Result<()> {
        let destination = self
            .setup
            .await_guest_with_one_device_less(self.destination)?;
        let mut destination = self.pause_for(destination)?;
        self.machine.switch_over("failed")?;
        destination.stop_helper()?;
        expect_commands("destination", &destination, &MOVE)?;
        expect_holder(&mut self.witness, self.destination, self.source)
            .context("QEMU moves the reservation back: update docs/compatibility.md")?;
        let guest = &mut self.machine.guest;
        guest.write_block()?.expect_code(1)?;
        guest.persist(&register())?.expect_code(0)?;
        let keys = format!("--param-rk={GUEST_KEY} --param-sark={GUEST_KEY}");
        guest
            .persist(&format!("--out --preempt {keys} --prout-type={TYPE}"))?
            .expect_code(0)?;
        // After a PREEMPT of the guest, QEMU looks which reservation has resulted.
        self.expect_at_source(&[UNIT_ATTENTION, REGISTER, PREEMPT, READ_RESERVATION])
    }

    /// Starts a migration, and waits until the guest is paused.
    fn pause_for(&mut self, destination: Machine) -> Result<Machine> {
        timed("migration until the guest is paused", || {
            self.machine.migrate(&destination)
        })?;
        Ok(destination)
    }

    /// Checks that the guest runs at the source and has its reservation after a failed migration.
    /// The helper must have executed `commands` since the migration was started.
    fn expect_at_source(&mut self, commands: &[&'static str]) -> Result<()> {
        expect_holder(&mut self.witness, self.source, self.destination)?;
        let guest = &mut self.machine.guest;
        guest.write_block()?.expect_code(0)?;
        guest.persist(&reserve(GUEST_KEY, TYPE))?.expect_code(0)?;
        self.source_commands.extend(commands);
        self.source_commands.push(RESERVE);
        Ok(())
    }

    /// Migrates the guest, which continues at the destination.
    fn succeed(mut self) -> Result<()> {
        let mut destination = self.pause_for(self.setup.await_guest(self.destination)?)?;
        timed("switch-over", || {
            self.machine.switch_over("completed")?;
            destination.wait_until_resumed()
        })?;
        expect_holder(&mut self.witness, self.destination, self.source)?;
        self.continue_at_destination(&mut destination.guest)?;
        self.machine.stop_helper()?;
        expect_commands("source", &self.machine, &self.source_commands)?;
        destination.stop_helper()?;
        let own = [RESERVE, RELEASE, UNREGISTER];
        expect_commands("destination", &destination, &[&MOVE[..], &own].concat())?;
        println!("guest: the reservation moved with the guest");
        Ok(())
    }

    /// The guest uses and removes its reservation, which excludes the source's port.
    fn continue_at_destination(&mut self, guest: &mut impl Initiator) -> Result<()> {
        guest.write_block()?.expect_code(0)?;
        guest.read_block()?.expect_code(0)?;
        // The kernel maps RESERVATION CONFLICT to EBADE.
        DirectPort(self.source)
            .write_block()?
            .expect_code(1)?
            .expect_contains("Invalid exchange")?;
        guest.persist(&reserve(GUEST_KEY, TYPE))?.expect_code(0)?;
        guest.persist(&release(GUEST_KEY, TYPE))?.expect_code(0)?;
        guest
            .persist(&format!("--out --register --param-rk={GUEST_KEY}"))?
            .expect_code(0)?;
        self.witness
            .persist("--in --read-keys")?
            .expect_code(0)?
            .expect_contains("NO registered reservation keys")?;
        Ok(())
    }
}

fn register() -> String {
    format!("--out --register --param-sark={GUEST_KEY}")
}

/// Checks at the target and through the witness that only `holder` is registered, and that it holds
/// the reservation.
fn expect_holder(witness: &mut DirectPort<'_>, holder: &Port, other: &Port) -> Result<()> {
    let registered = holder.reservation_attribute("res_pr_registered_i_pts")?;
    let held = holder.reservation_attribute("res_pr_holder_tg_port")?;
    println!("target: {registered}\ntarget: {held}");
    let (own, others) = (holder.address(), other.address());
    ensure!(
        registered.contains(&own) && !registered.contains(&others) && held.contains(&own),
        "port {} is not the only registered port and the holder",
        holder.number
    );
    witness
        .persist("--in --read-full-status")?
        .expect_code(0)?
        .expect_contains(&format!("Key={GUEST_KEY}"))?
        .expect_contains("<< Reservation holder >>")?
        .expect_contains(&format!("SAS address: 0x{own}"))?
        .expect_lacks(&format!("SAS address: 0x{others}"))?;
    Ok(())
}

/// Checks the commands of a stopped helper.
fn expect_commands(name: &str, machine: &Machine, expected: &[&str]) -> Result<()> {
    let commands = machine.commands()?;
    ensure!(
        commands == expected,
        "the {name}'s helper executed {commands:#?} instead of {expected:#?}"
    );
    Ok(())
}
