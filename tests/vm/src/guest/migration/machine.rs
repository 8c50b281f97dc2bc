// SPDX-License-Identifier: MIT OR Apache-2.0

//! Machines between which the guest migrates: a port of the unit, a helper, and a QEMU with its
//! monitor.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::guest::lio_target::Port;
use crate::guest::live_migration::Capabilities;
use crate::guest::nested_guest::{Accelerator, NestedGuest};
use crate::guest::qmp::Qmp;
use pr_testkit::HelperProcess;

/// A device of the guest that QEMU transfers after the disk, because its option is behind that of
/// the disk.
pub(super) const LAST_DEVICE: [&str; 2] = ["-device", "virtio-rng-pci"];

/// Makes QEMU wait for the command `migrate-incoming`.
pub(super) const INCOMING: [&str; 2] = ["-incoming", "defer"];

/// Helper and accelerator of both sides.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) helper: &'a Path,
    pub(super) accelerator: Accelerator,
}

/// A QEMU with a helper and a port of its own.
pub(super) struct Machine {
    pub(super) guest: NestedGuest,
    helper: HelperProcess,
    monitor: Qmp<UnixStream>,
}

impl Setup<'_> {
    /// Starts a machine and boots its guest.
    pub(super) fn boot(&self, port: &Port) -> Result<Machine> {
        let machine = self.start(port, &LAST_DEVICE)?;
        machine.guest.wait_for_boot(self.accelerator)?;
        Ok(machine)
    }

    /// Starts a machine that waits for a guest.
    pub(super) fn await_guest(&self, port: &Port) -> Result<Machine> {
        self.listen(port, &[&LAST_DEVICE[..], &INCOMING].concat())
    }

    /// Starts a machine that waits for a guest, and fails at its last device.
    pub(super) fn await_guest_with_one_device_less(&self, port: &Port) -> Result<Machine> {
        self.listen(port, &INCOMING)
    }

    fn listen(&self, port: &Port, options: &[&str]) -> Result<Machine> {
        let mut machine = self.start(port, options)?;
        let uri = machine.uri();
        machine.monitor.listen(&uri)?;
        Ok(machine)
    }

    fn start(&self, port: &Port, options: &[&str]) -> Result<Machine> {
        let helper = HelperProcess::builder(self.helper)
            .args(["-u", "nobody", "-T", "pr_helper_*_end,file=trace"])
            .start()?;
        let (guest, monitor) = self.launch(helper.socket(), port, options)?;
        Ok(Machine {
            guest,
            helper,
            monitor,
        })
    }

    /// Starts QEMU with the socket of a helper, and connects to its monitor.
    pub(super) fn launch(
        &self,
        socket: &Path,
        port: &Port,
        options: &[&str],
    ) -> Result<(NestedGuest, Qmp<UnixStream>)> {
        let monitor = socket.with_extension("monitor");
        let server = format!("unix:{},server=on,wait=off", monitor.display());
        let options = [
            &["-qmp", &server, "-global", "scsi-block.share-rw=on"],
            options,
        ];
        let guest = NestedGuest::launch(&port.block, socket, self.accelerator, &options.concat())?;
        let mut monitor = Qmp::connect(&monitor)?;
        monitor.set_capabilities(Capabilities {
            pause_before_switchover: true,
        })?;
        Ok((guest, monitor))
    }
}

impl Machine {
    /// Starts a migration and waits until the guest is paused for the switch-over.
    pub(super) fn migrate(&mut self, destination: &Self) -> Result<()> {
        self.monitor.migrate(&destination.uri())?;
        self.monitor.wait_until_paused()
    }

    /// Continues a migration after the guest is paused, and waits until it has ended in this state.
    pub(super) fn switch_over(&mut self, end: &str) -> Result<()> {
        self.monitor.switch_over(end)
    }

    /// Cancels a migration, and waits until the guest runs again.
    pub(super) fn cancel(&mut self) -> Result<()> {
        self.monitor.cancel_migration()
    }

    /// Waits until the guest that migrated to this machine runs.
    pub(super) fn wait_until_resumed(&mut self) -> Result<()> {
        self.monitor.wait_until_resumed()
    }

    /// Stops the helper.
    pub(super) fn stop_helper(&mut self) -> Result<()> {
        let status = self.helper.terminate()?;
        ensure!(status.success(), "the helper exited with {status}");
        Ok(())
    }

    /// Returns the commands that the helper executed until it was stopped: action, arguments,
    /// status.
    pub(super) fn commands(&self) -> Result<Vec<String>> {
        let trace = self.helper.dir().join("trace");
        let trace = fs::read_to_string(&trace)
            .with_context(|| format!("cannot read {}", trace.display()))?;
        Ok(trace
            .lines()
            .filter_map(command_in)
            .map(str::to_owned)
            .collect())
    }

    fn uri(&self) -> String {
        format!("unix:{}/incoming", self.helper.dir().display())
    }
}

/// Returns the command in a line of the trace: `'REGISTER' type=0x00 key=0x0 sa_key=0x1
/// status=0x00`.
fn command_in(line: &str) -> Option<&str> {
    let (_, command) = line.split_once(" action=")?;
    let (command, _) = command.split_once(" sense=")?;
    Some(command)
}
