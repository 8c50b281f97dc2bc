//! A machine of libvirt's with a disk of the target's, and its console.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::daemon::{give, virsh};
use crate::guest::helper::SOCKET;
use crate::guest::initiator::Initiator;
use crate::guest::nested::{Accelerator, FOLDER, PATIENCE};
use crate::guest::serial::Console;
use crate::process::poll;

/// Who starts the helper, as the disk's description says it.
#[derive(Clone, Copy)]
pub(super) enum Reservations {
    /// libvirt, one for this machine.
    Managed,
    /// Somebody else, at [`SOCKET`].
    Unmanaged,
}

impl Reservations {
    fn description(self) -> String {
        match self {
            Self::Managed => "<reservations managed='yes'/>".to_owned(),
            Self::Unmanaged => format!(
                "<reservations managed='no'><source type='unix' path='{SOCKET}' mode='client'/></reservations>"
            ),
        }
    }
}

/// A machine that libvirt knows and that may not be running.
pub(super) struct Definition {
    name: &'static str,
    console: PathBuf,
}

impl Definition {
    /// Describes a machine to libvirt.
    pub(super) fn new(name: &'static str, disk: &Path, reservations: Reservations) -> Result<Self> {
        let console = Path::new(FOLDER).join(format!("{name}.console"));
        let file = Path::new(FOLDER).join(format!("{name}.xml"));
        fs::write(&file, description(name, disk, reservations, &console))
            .with_context(|| format!("cannot write {}", file.display()))?;
        virsh(&["define", &file.display().to_string()])?;
        Ok(Self { name, console })
    }

    /// Starts the machine and waits until its guest takes commands.
    pub(super) fn start(&self) -> Result<Domain> {
        // QEMU connects to the console, so nothing that the guest says first is lost.
        let console = UnixListener::bind(&self.console)
            .with_context(|| format!("cannot listen on {}", self.console.display()))?;
        give(&self.console)?;
        console.set_nonblocking(true)?;
        virsh(&["start", self.name])?;
        let accepted = poll(PATIENCE, || Ok(console.accept().ok()))?;
        let (console, _) = accepted.context("QEMU does not connect to the console")?;
        console.set_nonblocking(false)?;
        let output = console.try_clone()?;
        let domain = Domain {
            name: self.name,
            number: virsh(&["domid", self.name])?.trim().to_owned(),
            console: Console::new(console, output),
        };
        domain
            .console
            .answer(Accelerator::Kvm.boot_limit())
            .context("the guest does not come up")?;
        Ok(domain)
    }

    /// Has it not start, and gives what virsh says.
    pub(super) fn fail_to_start(&self) -> Result<String> {
        match virsh(&["start", self.name]) {
            Ok(_) => anyhow::bail!("{} starts", self.name),
            Err(error) => Ok(error.to_string()),
        }
    }
}

/// A running machine.
pub(super) struct Domain {
    pub(super) name: &'static str,
    /// By which libvirt's names of files begin.
    pub(super) number: String,
    console: Console<UnixStream>,
}

impl Domain {
    /// Takes its power away.
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
        self.console.run(line, PATIENCE)
    }
}

fn description(name: &str, disk: &Path, reservations: Reservations, console: &Path) -> String {
    format!(
        "\
<domain type='kvm'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{FOLDER}/kernel</kernel>
    <initrd>{FOLDER}/initramfs</initrd>
    <cmdline>console=ttyS0 quiet loglevel=1 panic=-1</cmdline>
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
    <memballoon model='none'/>
  </devices>
</domain>
",
        disk.display(),
        reservations.description(),
        console.display()
    )
}
