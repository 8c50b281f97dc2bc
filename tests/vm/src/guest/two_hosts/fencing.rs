// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fencing of a host by the other host's guest, with the commands of `fence_scsi` and `fence_mpath`
//! (fence-agents 4.12 to 4.17). The agents need Python, which the guests do not have.

use anyhow::{Context as _, Result};

use super::coordinator::Machines;
use super::iscsi_target::PORTALS;
use super::migrations::KEY as KEY_A;
use super::pr_state::PrState;
use super::remote_guest::RemoteGuest;
use super::request::Request;
use super::writer::Writer;
use crate::guest::initiator::{CommandOutput, Initiator};
use crate::role::Role;

/// Key of the guest on host B.
const KEY_B: u64 = 0x6ee9_0001;

/// Reservation type of both agents: Write Exclusive, Registrants Only.
const TYPE: u8 = 5;

/// A fence agent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    /// Registers with REGISTER AND IGNORE EXISTING KEY, and sends TEST UNIT READY before each
    /// command.
    FenceScsi,
    /// Registers with REGISTER.
    FenceMpath,
}

impl Agent {
    /// Sends a command as the agent does.
    fn send(self, guest: &mut impl Initiator, arguments: &str) -> Result<CommandOutput> {
        if self == Self::FenceScsi {
            let disk = guest.disk();
            // The agent ignores the result, which can be a unit attention.
            guest.run(&format!("sg_turs {disk}"))?;
        }
        guest.persist(arguments)
    }
}

/// The action `on`: registers the guest, and reserves the disk if it is not reserved.
pub(super) fn unfence(guest: &mut impl Initiator, agent: Agent, key: u64) -> Result<()> {
    if agent == Agent::FenceScsi {
        agent
            .send(guest, "--in --read-reservation")?
            .expect_code(0)?;
    }
    let register = match agent {
        Agent::FenceScsi => "--register-ignore",
        Agent::FenceMpath => "--register",
    };
    agent
        .send(guest, &format!("--out {register} --param-sark={key:#x}"))?
        .expect_code(0)?;
    agent
        .send(guest, "--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&format!("{key:#x}"))?;
    let reservation = agent.send(guest, "--in --read-reservation")?;
    let reservation = reservation.expect_code(0)?;
    if !reservation.contains("Key=") {
        let reserve = format!("--out --reserve --param-rk={key:#x} --prout-type={TYPE}");
        agent.send(guest, &reserve)?.expect_code(0)?;
    }
    Ok(())
}

/// The action `off`: removes the registrations of the other guest.
fn fence(guest: &mut impl Initiator, agent: Agent, own: u64, victim: u64) -> Result<()> {
    agent
        .send(guest, "--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&format!("{victim:#x}"))?;
    let keys = format!("--param-rk={own:#x} --param-sark={victim:#x}");
    agent
        .send(
            guest,
            &format!("--out --preempt-abort {keys} --prout-type={TYPE}"),
        )?
        .expect_code(0)?;
    agent
        .send(guest, "--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&format!("{own:#x}"))?
        .expect_lacks(&format!("{victim:#x}"))?;
    agent
        .send(guest, "--in --read-reservation")?
        .expect_code(0)?
        .expect_contains(&format!("Key={own:#x}"))?;
    Ok(())
}

/// Fences host A twice. Its guest is registered and holds the reservation.
pub(super) fn run(machines: &mut Machines, guest_a: RemoteGuest) -> Result<()> {
    let guest_b = machines.boot(Role::HostB)?;
    let mut test = FencingTest {
        machines,
        guest_a,
        guest_b,
    };
    unfence(&mut test.guest_b, Agent::FenceScsi, KEY_B)?;
    test.expect_both(Role::HostA)?;
    test.fence_hung_host().context("a host that hangs")?;
    unfence(&mut test.guest_a, Agent::FenceMpath, KEY_A)?;
    test.expect_both(Role::HostB)?;
    test.fence_crashed_host().context("a host that crashes")
}

/// A guest on each host.
struct FencingTest<'a> {
    machines: &'a mut Machines,
    guest_a: RemoteGuest,
    guest_b: RemoteGuest,
}

impl FencingTest<'_> {
    /// Host A hangs while its guest writes, loses its paths, and is fenced. Then it continues: its
    /// paths return, and the guest sends its next write.
    fn fence_hung_host(&mut self) -> Result<()> {
        let writer = Writer::start(&mut self.guest_a, &self.machines.unit.image)?;
        self.guest_a.pause()?;
        for portal in PORTALS {
            let host = self.machines.host(Role::HostA);
            host.execute(Request::FailPath(portal))?;
        }
        fence(&mut self.guest_b, Agent::FenceScsi, KEY_B, KEY_A)?;
        self.expect_fenced()?;
        for portal in PORTALS {
            let host = self.machines.host(Role::HostA);
            host.execute(Request::RestorePath(portal))?;
        }
        self.expect_fenced()
            .context("after the paths have returned")?;
        self.guest_a.resume()?;
        writer.expect_conflict(&mut self.guest_a)?;
        self.expect_fenced()?;
        self.guest_b.write_block()?.expect_code(0)?;
        Ok(())
    }

    /// Host A crashes while its guest writes, and is fenced. Then it returns: a new guest, which is
    /// not registered, sends a write.
    fn fence_crashed_host(&mut self) -> Result<()> {
        let writer = Writer::start(&mut self.guest_a, &self.machines.unit.image)?;
        self.machines.host(Role::HostA).crash()?;
        fence(&mut self.guest_b, Agent::FenceMpath, KEY_B, KEY_A)?;
        writer.end()?;
        self.expect_fenced()?;
        self.machines.wait_for_restart(Role::HostA)?;
        self.guest_a = self.machines.boot(Role::HostA)?;
        self.guest_a
            .write_block()?
            .expect_code(1)?
            .expect_contains("Invalid exchange")?;
        self.expect_fenced().context("after host-a has restarted")?;
        self.guest_b.write_block()?.expect_code(0)?;
        Ok(())
    }

    /// Checks that both guests are registered, and which one holds the reservation.
    fn expect_both(&self, holder: Role) -> Result<()> {
        let state = PrState::default()
            .registered(Role::HostA, KEY_A, PORTALS.len())
            .registered(Role::HostB, KEY_B, PORTALS.len())
            .held_by(holder);
        self.machines.witness().expect(&state)
    }

    /// Checks that only the guest on host B is registered.
    fn expect_fenced(&self) -> Result<()> {
        let state = PrState::default()
            .registered(Role::HostB, KEY_B, PORTALS.len())
            .held_by(Role::HostB);
        self.machines.witness().expect(&state)
    }
}
