//! The nested guest: a QEMU inside the virtual machine, with a disk of the target's and
//! the helper as its way to reserve it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Modules;
use super::helper::SOCKET;
use super::initiator::Initiator;
use super::serial::Console;
use crate::process::{command, wait_for_end};

/// QEMU runs as this user (nobody), as a management layer would have it: it may open its disk and
/// the helper's socket because they are made its own, and has no privilege besides.
const USER: u32 = 65534;

/// Where that user can read the kernel and the archive: the target folder may be root's alone.
pub(super) const FOLDER: &str = "/run/nested";

/// How long one command may take, and the end of the machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How QEMU executes the guest's instructions.
#[derive(Clone, Copy)]
pub(crate) enum Accelerator {
    /// The virtualisation of the processor, which here is itself emulated.
    Kvm,
    /// By emulation within the emulation, ten times slower.
    Tcg,
}

impl Accelerator {
    /// KVM if it can be had in this machine.
    pub(crate) fn best(modules: &Modules) -> Self {
        let loaded = modules.load("kvm").and_then(|()| modules.load("kvm_amd"));
        if loaded.is_ok() && Path::new("/dev/kvm").exists() {
            println!("guest: the nested guest runs with KVM");
            return Self::Kvm;
        }
        println!("guest: no /dev/kvm, so the nested guest is emulated and takes minutes");
        Self::Tcg
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }

    pub(super) fn boot_limit(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(120),
            Self::Tcg => Duration::from_secs(480),
        }
    }
}

/// The running guest.
pub(crate) struct Nested {
    qemu: Child,
    console: Console<ChildStdin>,
}

/// Copies what QEMU has to read to where it may.
pub(crate) fn prepare(kernel: &Path, initramfs: &Path) -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot create {FOLDER}"))?;
    for (source, name) in [(kernel, "kernel"), (initramfs, "initramfs")] {
        fs::copy(source, Path::new(FOLDER).join(name))
            .with_context(|| format!("cannot copy {} to {FOLDER}", source.display()))?;
    }
    Ok(())
}

/// Makes something QEMU's user's own.
pub(crate) fn give(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER))
        .with_context(|| format!("cannot give {} to QEMU's user", path.display()))
}

impl Nested {
    /// Boots the guest and waits until it takes commands. The helper must be listening.
    pub(crate) fn start(disk: &Path, accelerator: Accelerator) -> Result<Self> {
        let kvm = Path::new("/dev/kvm");
        let kvm = matches!(accelerator, Accelerator::Kvm).then_some(kvm);
        for path in [disk, Path::new(SOCKET)].into_iter().chain(kvm) {
            give(path)?;
        }
        let mut qemu = qemu(disk, accelerator)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the nested QEMU")?;
        let input = qemu.stdin.take().context("the nested QEMU has no stdin")?;
        let output = qemu
            .stdout
            .take()
            .context("the nested QEMU has no stdout")?;
        let console = Console::new(input, output);
        console
            .answer(accelerator.boot_limit())
            .context("the nested guest does not come up")?;
        Ok(Self { qemu, console })
    }

    /// Powers the guest off.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.console.send("poweroff -f")?;
        let status = wait_for_end(&mut self.qemu, PATIENCE)?
            .context("the nested QEMU did not end when its guest powered off")?;
        ensure!(status.success(), "the nested QEMU ended with {status}");
        Ok(())
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        // After a failed step; where the guest has powered off this finds it ended.
        if let Err(error) = self.qemu.kill() {
            eprintln!("guest: cannot kill the nested QEMU: {error}");
        }
    }
}

impl Initiator for Nested {
    fn name(&self) -> &'static str {
        "nested guest"
    }

    fn disk(&self) -> String {
        "/dev/sda".to_owned()
    }

    fn execute(&mut self, line: &str) -> Result<(i32, String)> {
        self.console.run(line, PATIENCE)
    }
}

fn qemu(disk: &Path, accelerator: Accelerator) -> Command {
    let mut qemu = command("setpriv");
    qemu.arg(format!("--reuid={USER}"))
        .arg(format!("--regid={USER}"))
        .args(["--clear-groups", "--no-new-privs", "--bounding-set=-all"])
        .arg("qemu-system-x86_64")
        .args(accelerator.arguments())
        .args([
            "-machine",
            "q35",
            "-m",
            "256",
            "-nodefaults",
            "-no-user-config",
        ])
        .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-kernel", &format!("{FOLDER}/kernel")])
        .args(["-initrd", &format!("{FOLDER}/initramfs")])
        .args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1"])
        .args([
            "-object",
            &format!("pr-manager-helper,id=helper0,path={SOCKET}"),
        ])
        .args([
            "-blockdev",
            &format!(
                "driver=host_device,node-name=disk,pr-manager=helper0,cache.direct=on,filename={}",
                disk.display()
            ),
        ])
        .args(["-device", "virtio-scsi-pci"])
        .args(["-device", "scsi-block,drive=disk"]);
    qemu
}
