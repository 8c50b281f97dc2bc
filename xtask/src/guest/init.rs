//! The first process of the virtual machine: it starts the scenario as a process of its own, takes the status of
//! whatever ends without a parent, and ends the machine with the verdict.
//!
//! libvirt starts its helpers so that they have no parent, and takes them for alive as long as nobody has taken
//! their status.

use std::env;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::tcdrain;

use super::{mount_new, pulse};
use crate::verdict::Verdict;

/// Set for the scenario's process: outside of such a machine nobody is to run one by mistake.
const MARK: &str = "PR_GUEST_SCENARIO";

/// Whether this process is the scenario's.
pub(super) fn is_parent() -> bool {
    let parent = rustix::process::getppid();
    parent.is_some_and(Pid::is_init) && env::var_os(MARK).is_some()
}

/// Runs the scenario and ends the machine. Comes back only where the machine cannot be ended.
pub(super) fn run() -> Result<()> {
    let verdict = match scenario() {
        Ok(()) => Verdict::Success,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            Verdict::Failure
        }
    };
    // The last of the output is to be on the wire before the machine is gone.
    tcdrain(std::io::stdout())?;
    verdict.report()?;
    // QEMU acts on it a moment later. If it does not, a machine without a verdict is a failure.
    thread::sleep(Duration::from_secs(10));
    reboot(RebootCommand::PowerOff).context("cannot power off")
}

fn scenario() -> Result<()> {
    for folder in ["/run", "/dev/shm"] {
        mount_new("tmpfs", folder)?;
    }
    mount_new("devpts", "/dev/pts")?;
    pulse::start()?;
    let me = env::current_exe().context("cannot find this program's own path")?;
    let scenario = Command::new(me)
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .spawn()
        .context("cannot start the scenario")?;
    loop {
        let ended = wait(WaitOptions::empty()).context("cannot wait for processes")?;
        let Some((process, status)) = ended else {
            continue;
        };
        if process == Pid::from_child(&scenario) {
            ensure!(
                status.exit_status() == Some(0),
                "the scenario ended with {status:?}"
            );
            return Ok(());
        }
    }
}
