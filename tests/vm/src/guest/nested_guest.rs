// SPDX-License-Identifier: MIT OR Apache-2.0

//! The nested guest: a QEMU in the virtual machine, with a disk of the target and the helper as its
//! `pr-manager-helper`.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::Modules;
use super::heartbeat;
use super::helper::SOCKET;
use super::initiator::Initiator;
use super::serial::Console;
use pr_testkit::process::{command, wait_timeout};

/// User ID of QEMU. As with a management layer, QEMU is unprivileged. The user owns the disk and
/// the helper's socket, and has no other privileges.
const USER: u32 = 65534;

/// Directory of the kernel and the initramfs that this user can read. The target directory can be
/// accessible by root only.
pub(super) const NESTED_DIR: &str = "/run/nested";

/// Timeout of a command, and of the machine's shutdown.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// QEMU's accelerator.
#[derive(Clone, Copy)]
pub(crate) enum Accelerator {
    /// KVM on the processor's virtualization, which is itself emulated here.
    Kvm,
    /// Emulation within the emulation, which is ten times slower.
    Tcg,
}

impl Accelerator {
    /// Returns KVM if this machine supports it.
    pub(crate) fn detect(modules: &Modules) -> Self {
        // QEMU's emulation of the virtual global interrupt flag (10.0.2) hangs with Linux 7.2.
        let loaded = modules.load_with_options("kvm_amd", &["vgif=0"]);
        if loaded.is_ok() && Path::new("/dev/kvm").exists() {
            println!("guest: the nested guest uses KVM");
            return Self::Kvm;
        }
        println!(
            "guest: /dev/kvm is not available; the nested guest is emulated, which takes minutes"
        );
        Self::Tcg
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }

    pub(super) fn boot_timeout(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(300),
            Self::Tcg => Duration::from_secs(480),
        }
    }
}

/// Programs of the host for a scenario with a nested guest.
#[derive(Args)]
pub(crate) struct Programs {
    /// The helper under test
    #[arg(long)]
    pub(crate) helper: PathBuf,
    /// The nested guest's kernel
    #[arg(long)]
    kernel: PathBuf,
    /// The nested guest's initramfs
    #[arg(long)]
    initramfs: PathBuf,
}

impl Programs {
    /// Copies QEMU's files to [`NESTED_DIR`].
    pub(crate) fn prepare(&self) -> Result<()> {
        fs::create_dir_all(NESTED_DIR).with_context(|| format!("cannot create {NESTED_DIR}"))?;
        for (source, name) in [(&self.kernel, "kernel"), (&self.initramfs, "initramfs")] {
            fs::copy(source, Path::new(NESTED_DIR).join(name))
                .with_context(|| format!("cannot copy {} to {NESTED_DIR}", source.display()))?;
        }
        Ok(())
    }
}

/// A running guest.
pub(crate) struct NestedGuest {
    qemu: Child,
    console: Console<ChildStdin>,
}

/// Makes QEMU's user the owner of a file.
pub(crate) fn chown_to_qemu(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER))
        .with_context(|| format!("cannot make QEMU's user the owner of {}", path.display()))
}

impl NestedGuest {
    /// Boots the guest and waits until it accepts commands. The helper must be listening.
    pub(crate) fn start(disk: &Path, accelerator: Accelerator) -> Result<Self> {
        let guest = Self::launch(disk, Path::new(SOCKET), accelerator, &[])?;
        guest.wait_for_boot(accelerator)?;
        Ok(guest)
    }

    /// Starts QEMU with additional options, without waiting for the guest. The helper must be
    /// listening on `socket`.
    pub(super) fn launch(
        disk: &Path,
        socket: &Path,
        accelerator: Accelerator,
        options: &[&str],
    ) -> Result<Self> {
        let name = socket.file_name().context("the socket has no name")?;
        let heartbeat = Path::new(NESTED_DIR).join(name).with_extension("heartbeat");
        heartbeat::create_nested(&heartbeat)?;
        chown_to_qemu(&heartbeat)?;
        let mut qemu = qemu(disk, socket, accelerator)?
            .args(["-serial", "stdio"])
            .args(["-serial", &format!("file:{}", heartbeat.display())])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the nested QEMU")?;
        let input = qemu.stdin.take().context("the nested QEMU has no stdin")?;
        let output = qemu
            .stdout
            .take()
            .context("the nested QEMU has no stdout")?;
        let console = Console::new(input, output, Some(heartbeat));
        Ok(Self { qemu, console })
    }

    /// Waits until the guest accepts commands.
    pub(super) fn wait_for_boot(&self, accelerator: Accelerator) -> Result<()> {
        self.console
            .read_result(accelerator.boot_timeout())
            .context("the nested guest did not boot")?;
        Ok(())
    }

    /// Powers off the guest.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.console.send("poweroff -f")?;
        let status = wait_timeout(&mut self.qemu, COMMAND_TIMEOUT)?
            .context("the nested QEMU did not exit after its guest powered off")?;
        ensure!(status.success(), "the nested QEMU exited with {status}");
        Ok(())
    }
}

impl Drop for NestedGuest {
    fn drop(&mut self) {
        // Ends QEMU after a failed step. After a power-off it has already exited.
        if let Err(error) = self.qemu.kill().and_then(|()| self.qemu.wait()) {
            eprintln!("guest: cannot kill the nested QEMU: {error}");
        }
    }
}

impl Initiator for NestedGuest {
    fn name(&self) -> &'static str {
        "nested guest"
    }

    fn disk(&self) -> String {
        "/dev/sda".to_owned()
    }

    fn execute(&mut self, line: &str) -> Result<(i32, String)> {
        self.console.run(line, COMMAND_TIMEOUT)
    }
}

/// Returns the command line of an unprivileged QEMU without a console for the guest, and gives it
/// access to its files.
pub(super) fn qemu(disk: &Path, socket: &Path, accelerator: Accelerator) -> Result<Command> {
    let kvm = Path::new("/dev/kvm");
    let kvm = matches!(accelerator, Accelerator::Kvm).then_some(kvm);
    for path in [disk, socket].into_iter().chain(kvm) {
        chown_to_qemu(path)?;
    }
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
        .args(["-display", "none", "-no-reboot"])
        .args(["-kernel", &format!("{NESTED_DIR}/kernel")])
        .args(["-initrd", &format!("{NESTED_DIR}/initramfs")])
        .args([
            "-append",
            "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off",
        ])
        .args([
            "-object",
            &format!("pr-manager-helper,id=helper0,path={}", socket.display()),
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
    Ok(qemu)
}
