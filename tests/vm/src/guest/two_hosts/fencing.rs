// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fencing of a host by the other host's guest.

use anyhow::{Context as _, Result};

use super::fence_agents::{Agent, fence, unfence};
use super::iscsi_target::PORTALS;
use super::machines::Machines;
use super::migrations::KEY as KEY_A;
use super::pr_state::PrState;
use super::remote_guest::RemoteGuest;
use super::request::Request;
use super::writer::Writer;
use crate::guest::initiator::Initiator as _;
use crate::role::Role;

/// Key of the guest on host B.
const KEY_B: u64 = 0x6ee9_0001;

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
