// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs QEMU with a time limit, and copies the console to the terminal and a log.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::network;
use super::root::RootFs;
use crate::exit_status;
use crate::guest::heartbeat;
use crate::role::Role;
use pr_testkit::process::{command, poll, wait_timeout};

/// Time to wait for the rest of the console's output after QEMU has exited.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);

/// A virtual machine that is emulated in software, because CI machines seldom support nested
/// virtualization. The emulated processor has AMD's virtualization, so a nested guest can use KVM.
pub(crate) struct Machine<'a> {
    /// Root file system, with the kernel.
    pub(crate) root: &'a RootFs,
    /// Role in a scenario with several machines.
    pub(crate) role: Option<Role>,
    /// Its initramfs.
    pub(crate) initramfs: PathBuf,
    /// File for the console's output.
    pub(crate) log: PathBuf,
    /// File for the heartbeat.
    pub(crate) heartbeat: PathBuf,
    /// Number of processors.
    pub(crate) processors: u8,
    /// Lets the machine's clock advance by one nanosecond with each instruction, and not with the
    /// time of the host. This requires a single processor.
    pub(crate) counts_instructions: bool,
    /// Time limit.
    pub(crate) limit: Duration,
    /// Shows the kernel's messages on the console.
    pub(crate) keep_console: bool,
}

/// Result of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// QEMU has exited.
    Exited(ExitStatus),
    /// The heartbeat stopped before the time limit, and the machine was killed.
    Hung,
    /// The machine was killed, because another one has ended.
    Stopped,
}

impl Machine<'_> {
    /// Boots the machine and waits for its end. Kills it when `is_over` returns true.
    pub(crate) fn run(&self, is_over: impl Fn() -> bool) -> Result<End> {
        // Remove the heartbeats of an earlier machine.
        File::create(&self.heartbeat)
            .with_context(|| format!("cannot create {}", self.heartbeat.display()))?;
        let log = File::create(&self.log)
            .with_context(|| format!("cannot create {}", self.log.display()))?;
        let mut qemu = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        let console = qemu.stdout.take().context("QEMU has no console")?;
        let is_quiet = self.is_host();
        let copier = thread::spawn(move || copy(console, log, is_quiet));
        let end = self.wait(&mut qemu, is_over);
        // QEMU has exited and closed its end of the pipe, so this does not block.
        match copier.join() {
            Ok(copied) => copied.context("cannot write the console log")?,
            Err(_) => bail!("the thread that copies the console panicked"),
        }
        end
    }

    fn wait(&self, qemu: &mut Child, is_over: impl Fn() -> bool) -> Result<End> {
        let (mut beats, mut last) = (0, Instant::now());
        let end = poll(self.limit, || {
            if let Some(status) = qemu.try_wait().context("cannot wait for QEMU")? {
                return Ok(Some(End::Exited(status)));
            }
            if is_over() {
                return Ok(Some(End::Stopped));
            }
            let metadata = fs::metadata(&self.heartbeat).context("cannot read the heartbeat")?;
            if metadata.len() != beats {
                (beats, last) = (metadata.len(), Instant::now());
            }
            Ok((last.elapsed() > heartbeat::LIMIT).then_some(End::Hung))
        })?;
        if !matches!(end, Some(End::Exited(_))) {
            qemu.kill().context("cannot kill QEMU")?;
            wait_timeout(qemu, OUTPUT_TIMEOUT)?;
        }
        end.with_context(|| {
            format!(
                "time limit of {} minutes exceeded; machine killed; see the end of {}",
                self.limit.as_secs() / 60,
                self.log.display()
            )
        })
    }

    /// Returns whether the machine is a host that the scenario uses. Such a machine can be
    /// restarted, and its console is only in the log.
    fn is_host(&self) -> bool {
        self.role.is_some_and(|role| Role::HOSTS.contains(&role))
    }

    fn command(&self) -> Command {
        // QEMU must not outlive a killed xtask. setpriv executes QEMU, so the process ID is QEMU's.
        let mut qemu = command("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-cpu", "max", "-machine", "q35", "-m", "2048"])
            .args(["-smp", &self.processors.to_string()])
            .args(["-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-serial", "stdio"])
            .args(["-serial", &format!("file:{}", self.heartbeat.display())])
            .arg("-kernel")
            .arg(self.root.kernel.image())
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", &self.kernel_arguments()])
            .args([
                "-device",
                &format!("isa-debug-exit,iobase={:#x},iosize=1", exit_status::PORT),
            ]);
        qemu.args(match self.counts_instructions {
            true => [
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
            ]
            .as_slice(),
            false => &["-accel", "tcg,thread=multi"],
        });
        if !self.is_host() {
            qemu.arg("-no-reboot");
        }
        if let Some(role) = self.role {
            network::add_cards(&mut qemu, role, &self.root.files);
        }
        share(&mut qemu, "root", &self.root.dir);
        for (number, dir) in self.root.shares.iter().enumerate() {
            share(&mut qemu, &format!("share{number}"), dir);
        }
        qemu
    }

    fn kernel_arguments(&self) -> String {
        // A panic restarts the machine at once, and -no-reboot, if it is set, ends it instead.
        let messages = if self.keep_console {
            "loglevel=7"
        } else {
            "quiet loglevel=1"
        };
        // Mitigations of processor faults only slow down an emulated processor.
        format!("console=ttyS0 panic=-1 mitigations=off {messages}")
    }
}

/// Adds a directory that the machine can mount read-only by its tag.
fn share(qemu: &mut Command, tag: &str, dir: &Path) {
    // Other file systems below the directory are included; `remap` keeps their inode numbers apart.
    qemu.arg("-fsdev")
        .arg(format!(
            "local,id={tag},path={},security_model=none,readonly=on,multidevs=remap",
            // A comma would end the value.
            dir.display().to_string().replace(',', ",,")
        ))
        .args([
            "-device",
            &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        ]);
}

/// Copies the console to the log, and to stdout unless `is_quiet`, without carriage returns.
fn copy(mut console: impl Read, mut log: File, is_quiet: bool) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut output = io::stdout();
    loop {
        let length = console.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let text: Vec<u8> = buffer[..length]
            .iter()
            .copied()
            .filter(|&byte| byte != b'\r')
            .collect();
        log.write_all(&text)?;
        if !is_quiet {
            output.write_all(&text)?;
            output.flush()?;
        }
    }
}
