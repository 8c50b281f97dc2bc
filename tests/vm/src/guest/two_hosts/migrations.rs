// SPDX-License-Identifier: MIT OR Apache-2.0

//! Migrations of a guest that holds a reservation and writes without a pause.

use anyhow::{Context as _, Result, ensure};

use super::fence_agents::{Agent, unfence};
use super::iscsi_target::PORTALS;
use super::machines::Machines;
use super::pr_state::PrState;
use super::remote_guest::RemoteGuest;
use super::request::Request;
use super::writer::Writer;
use crate::guest::live_migration::Capabilities;
use crate::role::Role;
use pr_testkit::process::timed;

/// Key of the guest.
pub(super) const KEY: u64 = 0x6ee9_0000;

const WITHOUT_PAUSE: Capabilities = Capabilities {
    pause_before_switchover: false,
};

const WITH_PAUSE: Capabilities = Capabilities {
    pause_before_switchover: true,
};

/// Runs all migrations. The guest starts and ends on host A.
pub(super) fn run(machines: &mut Machines) -> Result<RemoteGuest> {
    let guest = machines.boot(Role::HostA)?;
    let mut test = MigrationTest {
        machines,
        guest,
        host: Role::HostA,
        downtimes: Vec::new(),
    };
    unfence(&mut test.guest, Agent::FenceScsi, KEY)?;
    test.expect_holder(PORTALS.len())?;

    test.both_directions().context("both directions")?;
    test.path_down_at_source()
        .context("a path down at the source")?;
    test.path_down_at_destination()
        .context("a path down at the destination")?;
    test.fail().context("a failed migration")?;
    for line in &test.downtimes {
        println!("downtime: {line}");
    }
    Ok(test.guest)
}

/// A guest that migrates between the hosts.
struct MigrationTest<'a> {
    machines: &'a mut Machines,
    guest: RemoteGuest,
    /// The guest's host.
    host: Role,
    /// Report of each migration.
    downtimes: Vec<String>,
}

impl MigrationTest<'_> {
    fn both_directions(&mut self) -> Result<()> {
        let writer = self.start_writer()?;
        self.migrate(Role::HostB, &writer)?;
        self.expect_holder(PORTALS.len())?;
        self.migrate(Role::HostA, &writer)?;
        self.expect_holder(PORTALS.len())?;
        writer.stop(&mut self.guest)
    }

    /// Migrates while a path of the source is down, which returns afterwards. The source must not
    /// be registered with the guest's key again.
    fn path_down_at_source(&mut self) -> Result<()> {
        let [down, _] = PORTALS;
        let source = self.host;
        let writer = self.start_writer()?;
        self.machines
            .host(source)
            .execute(Request::FailPath(down))?;
        self.migrate(Role::HostB, &writer)?;
        self.expect_holder(PORTALS.len())?;
        let host = self.machines.host(source);
        host.execute(Request::AwaitNoKey)?;
        host.execute(Request::RestorePath(down))?;
        self.expect_holder(PORTALS.len())
            .context("after the path of the source has returned")?;
        writer.stop(&mut self.guest)
    }

    /// Migrates while a path of the destination is down. multipathd registers it when it returns.
    fn path_down_at_destination(&mut self) -> Result<()> {
        let [_, down] = PORTALS;
        let destination = Role::HostA;
        let writer = self.start_writer()?;
        let host = self.machines.host(destination);
        host.execute(Request::FailPath(down))?;
        self.migrate(destination, &writer)?;
        self.expect_holder(PORTALS.len() - 1)?;
        let host = self.machines.host(destination);
        host.execute(Request::RestorePath(down))?;
        let expected = self.holder(PORTALS.len());
        self.machines.witness().wait_for(&expected)?;
        writer.stop(&mut self.guest)
    }

    /// Kills the destination's QEMU when the guest is paused. The guest continues at the source.
    fn fail(&mut self) -> Result<()> {
        let writer = self.start_writer()?;
        // Its connections end with QEMU.
        let _destination = self.await_guest(Role::HostB, WITH_PAUSE)?;
        self.guest.migrate(Role::HostB, WITH_PAUSE)?;
        self.guest.monitor.wait_until_paused()?;
        self.machines.host(Role::HostB).execute(Request::Kill)?;
        self.guest.monitor.switch_over("failed")?;
        writer.wait_for_writes(&self.guest)?;
        self.expect_holder(PORTALS.len())?;
        writer.stop(&mut self.guest)
    }

    /// Migrates the guest, and ends the source's QEMU.
    fn migrate(&mut self, to: Role, writer: &Writer) -> Result<()> {
        let from = self.host;
        ensure!(from != to, "the guest is already on {}", to.name());
        let mut destination = self.await_guest(to, WITHOUT_PAUSE)?;
        writer.take_longest_gap();
        let migration = timed("migration", || {
            self.guest.migrate(to, WITHOUT_PAUSE)?;
            let migration = self.guest.monitor.wait_for_migration("completed")?;
            destination.monitor.wait_until_resumed()?;
            Ok(migration)
        })?;
        writer.wait_for_writes(&destination)?;
        self.downtimes.push(format!(
            "{} -> {}: {} ms by QEMU, {} ms between two writes",
            from.name(),
            to.name(),
            migration["downtime"],
            writer.take_longest_gap().as_millis()
        ));
        self.guest = destination;
        self.host = to;
        self.machines.host(from).execute(Request::Kill)?;
        Ok(())
    }

    /// Starts a QEMU that waits for the guest.
    fn await_guest(&mut self, host: Role, capabilities: Capabilities) -> Result<RemoteGuest> {
        let mut destination = self.machines.host(host).start_guest(Request::Await)?;
        destination.listen(capabilities)?;
        Ok(destination)
    }

    fn start_writer(&mut self) -> Result<Writer> {
        Writer::start(&mut self.guest, &self.machines.unit.image)
    }

    /// Returns the state in which the guest's host holds the reservation and only its paths are
    /// registered.
    fn holder(&self, paths: usize) -> PrState {
        PrState::default()
            .registered(self.host, KEY, paths)
            .held_by(self.host)
    }

    fn expect_holder(&self, paths: usize) -> Result<()> {
        self.machines.witness().expect(&self.holder(paths))
    }
}
