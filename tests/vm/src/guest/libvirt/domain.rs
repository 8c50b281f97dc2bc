// SPDX-License-Identifier: MIT OR Apache-2.0

//! A libvirt domain with a disk of the target, and its console.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::daemon::{chown_to_qemu, virsh};
use crate::guest::heartbeat;
use crate::guest::helper::SOCKET;
use crate::guest::initiator::Initiator;
use crate::guest::nested_guest::{Accelerator, COMMAND_TIMEOUT, NESTED_DIR};
use crate::guest::serial::Console;
use pr_testkit::process::poll;

/// Owner of the helper, as in the disk's XML.
#[derive(Clone, Copy)]
pub(super) enum Reservations {
    /// libvirt starts a helper for the domain.
    Managed,
    /// The helper at [`SOCKET`] is used.
    Unmanaged,
}

impl Reservations {
    fn description(self) -> String {
        match self {
            Self::Managed => "<reservations managed='yes'/>".to_owned(),
            Self::Unmanaged => format!(
                "<reservations managed='no'>\
                <source type='unix' path='{SOCKET}' mode='client'/></reservations>"
            ),
        }
    }
}

/// A domain that is defined but not necessarily running.
pub(super) struct DomainDefinition {
    name: &'static str,
    console: PathBuf,
    heartbeat: PathBuf,
}

impl DomainDefinition {
    /// Defines a domain.
    pub(super) fn new(name: &'static str, disk: &Path, reservations: Reservations) -> Result<Self> {
        let console = Path::new(NESTED_DIR).join(format!("{name}.console"));
        let heartbeat = Path::new(NESTED_DIR).join(format!("{name}.heartbeat"));
        let file = Path::new(NESTED_DIR).join(format!("{name}.xml"));
        let description = description(name, disk, reservations, &console, &heartbeat);
        fs::write(&file, description)
            .with_context(|| format!("cannot write {}", file.display()))?;
        virsh(&["define", &file.display().to_string()])?;
        Ok(Self {
            name,
            console,
            heartbeat,
        })
    }

    /// Starts the domain and waits until its guest accepts commands.
    pub(super) fn start(&self) -> Result<Domain> {
        // QEMU connects to the console, so no output of the guest is lost.
        let console = UnixListener::bind(&self.console)
            .with_context(|| format!("cannot listen on {}", self.console.display()))?;
        heartbeat::create_nested(&self.heartbeat)?;
        for path in [&self.console, &self.heartbeat] {
            chown_to_qemu(path)?;
        }
        console.set_nonblocking(true)?;
        virsh(&["start", self.name])?;
        let accepted = poll(COMMAND_TIMEOUT, || Ok(console.accept().ok()))?;
        let (console, _) = accepted.context("QEMU did not connect to the console")?;
        console.set_nonblocking(false)?;
        let output = console.try_clone()?;
        let domain = Domain {
            name: self.name,
            id: virsh(&["domid", self.name])?.trim().to_owned(),
            console: Console::new(console, output, Some(self.heartbeat.clone())),
        };
        domain
            .console
            .read_result(Accelerator::Kvm.boot_timeout())
            .context("the guest did not boot")?;
        Ok(domain)
    }

    /// Starts a domain that must not start, and returns virsh's error.
    pub(super) fn fail_to_start(&self) -> Result<String> {
        match virsh(&["start", self.name]) {
            Ok(_) => anyhow::bail!("{} started", self.name),
            Err(error) => Ok(error.to_string()),
        }
    }
}

/// A running domain.
pub(super) struct Domain {
    pub(super) name: &'static str,
    /// ID of the domain, with which libvirt's file names begin.
    pub(super) id: String,
    console: Console<UnixStream>,
}

impl Domain {
    /// Starts a command line, and returns its result when it is called.
    pub(super) fn start_command(
        &mut self,
        line: &str,
    ) -> Result<impl FnOnce() -> Result<(i32, String)> + use<'_>> {
        self.console.send(line)?;
        Ok(|| self.console.read_result(COMMAND_TIMEOUT))
    }

    /// Destroys the domain, which is like a power failure.
    pub(super) fn destroy(self) -> Result<()> {
        virsh(&["destroy", self.name])?;
        Ok(())
    }
}

impl Initiator for Domain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn disk(&self) -> String {
        "/dev/sda".to_owned()
    }

    fn execute(&mut self, line: &str) -> Result<(i32, String)> {
        self.console.run(line, COMMAND_TIMEOUT)
    }
}

fn description(
    name: &str,
    disk: &Path,
    reservations: Reservations,
    console: &Path,
    heartbeat: &Path,
) -> String {
    format!(
        "\
<domain type='kvm'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{NESTED_DIR}/kernel</kernel>
    <initrd>{NESTED_DIR}/initramfs</initrd>
    <cmdline>console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <controller type='scsi' model='virtio-scsi'/>
    <disk type='block' device='lun'>
      <driver name='qemu' type='raw' cache='none'/>
      <source dev='{}'>{}</source>
      <target dev='sda' bus='scsi'/>
    </disk>
    <serial type='unix'><source mode='connect' path='{}'/></serial>
    <serial type='file'><source path='{}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
",
        disk.display(),
        reservations.description(),
        console.display(),
        heartbeat.display()
    )
}
