//! Runs QEMU: the console live and in a log, a time limit, and nothing left behind.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::guest::pulse;
use crate::process::{command, poll, wait_for_end};
use crate::verdict;

/// How long to wait for the last of the console's output once QEMU has ended.
const PARTING: Duration = Duration::from_secs(5);

/// A virtual machine that is emulated in software: CI machines seldom let their guests use the
/// processor's own virtualisation. What it emulates has AMD's, so a nested guest can use KVM.
pub(crate) struct Machine<'a> {
    /// The kernel to boot.
    pub(crate) kernel: &'a Path,
    /// Its first root folder.
    pub(crate) initramfs: &'a Path,
    /// Where the console is kept.
    pub(crate) log: &'a Path,
    /// Where its pulse is kept.
    pub(crate) pulse: &'a Path,
    /// How many processors it has.
    pub(crate) processors: u8,
    /// When to give up.
    pub(crate) limit: Duration,
    /// Whether the kernel's own messages are wanted on the console.
    pub(crate) keep_console: bool,
}

/// How a machine came to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// QEMU has ended.
    Ended(ExitStatus),
    /// Its pulse stopped, long before its time was over, and it was killed.
    StoodStill,
}

impl Machine<'_> {
    /// Boots the machine and waits for its end.
    pub(crate) fn run(&self) -> Result<End> {
        // The last machine's is not this one's.
        File::create(self.pulse)
            .with_context(|| format!("cannot create {}", self.pulse.display()))?;
        let log = File::create(self.log)
            .with_context(|| format!("cannot create {}", self.log.display()))?;
        let mut qemu = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        let console = qemu.stdout.take().context("QEMU has no console")?;
        let copier = thread::spawn(move || copy(console, log));
        let end = self.wait(&mut qemu);
        // Its end of the pipe is closed now, so this is short.
        match copier.join() {
            Ok(copied) => copied.context("cannot keep the console")?,
            Err(_) => bail!("the thread that copies the console panicked"),
        }
        end
    }

    fn wait(&self, qemu: &mut Child) -> Result<End> {
        let (mut beats, mut last) = (0, Instant::now());
        let end = poll(self.limit, || {
            if let Some(status) = qemu.try_wait().context("cannot wait for QEMU")? {
                return Ok(Some(End::Ended(status)));
            }
            let now = fs::metadata(self.pulse).context("cannot read the pulse")?;
            if now.len() != beats {
                (beats, last) = (now.len(), Instant::now());
            }
            Ok((last.elapsed() > pulse::LIMIT).then_some(End::StoodStill))
        })?;
        if !matches!(end, Some(End::Ended(_))) {
            qemu.kill().context("cannot kill QEMU")?;
            wait_for_end(qemu, PARTING)?;
        }
        end.with_context(|| {
            format!(
                "not done after {} minutes, killed; see the end of {}",
                self.limit.as_secs() / 60,
                self.log.display()
            )
        })
    }

    fn command(&self) -> Command {
        // A QEMU whose xtask was killed must not live on. The program replaces setpriv, so the
        // process id is QEMU's.
        let mut qemu = command("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-machine", "q35", "-m", "2048"])
            .args(["-smp", &self.processors.to_string()])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .args(["-serial", &format!("file:{}", self.pulse.display())])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &self.kernel_arguments()])
            // Other file systems below the root folder are seen too; their inode numbers are kept
            // apart.
            .args([
                "-fsdev",
                "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
            ])
            .args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"])
            .args([
                "-device",
                &format!("isa-debug-exit,iobase={:#x},iosize=1", verdict::PORT),
            ]);
        qemu
    }

    fn kernel_arguments(&self) -> String {
        // A panic restarts the machine at once, which -no-reboot makes its end.
        let messages = if self.keep_console {
            "loglevel=7"
        } else {
            "quiet loglevel=1"
        };
        format!("console=ttyS0 panic=-1 {messages}")
    }
}

/// Copies the console to our output and to the log, without the carriage returns of a terminal.
fn copy(mut console: impl Read, mut log: File) -> io::Result<()> {
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
        output.write_all(&text)?;
        output.flush()?;
    }
}
