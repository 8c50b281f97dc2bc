// SPDX-License-Identifier: MIT OR Apache-2.0

//! The first process of the virtual machine: starts the scenario in a child process, reaps orphans,
//! and ends the machine with the scenario's result.
//!
//! libvirt starts its helpers as orphans, and considers a helper alive until it is reaped.

use std::env;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::tcdrain;

use super::{heartbeat, mount_new};
use crate::exit_status::ScenarioResult;

/// Set in the environment of the scenario's process, so that a scenario does not run outside of a
/// virtual machine by mistake.
const SCENARIO_VARIABLE: &str = "PR_GUEST_SCENARIO";

/// Returns whether this process is the scenario's.
pub(super) fn is_scenario_process() -> bool {
    let parent = rustix::process::getppid();
    parent.is_some_and(Pid::is_init) && env::var_os(SCENARIO_VARIABLE).is_some()
}

/// Runs the scenario and ends the machine. Returns only if the machine cannot be ended.
pub(super) fn run() -> Result<()> {
    let result = match scenario() {
        Ok(()) => ScenarioResult::Success,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ScenarioResult::Failure
        }
    };
    // Write all output to the console before the machine ends.
    tcdrain(std::io::stdout())?;
    result.report()?;
    // QEMU exits a moment later. If it does not, the host reports the missing result as a failure.
    thread::sleep(Duration::from_secs(10));
    reboot(RebootCommand::PowerOff).context("cannot power off")
}

fn scenario() -> Result<()> {
    for dir in ["/run", "/dev/shm"] {
        mount_new("tmpfs", dir)?;
    }
    mount_new("devpts", "/dev/pts")?;
    heartbeat::start()?;
    let executable = env::current_exe().context("cannot find this program's own path")?;
    let scenario = Command::new(executable)
        .args(env::args_os().skip(1))
        .env(SCENARIO_VARIABLE, "1")
        .spawn()
        .context("cannot start the scenario")?;
    loop {
        let exited = wait(WaitOptions::empty()).context("cannot wait for processes")?;
        let Some((process, status)) = exited else {
            continue;
        };
        if process == Pid::from_child(&scenario) {
            ensure!(
                status.exit_status() == Some(0),
                "the scenario exited with {status:?}"
            );
            return Ok(());
        }
    }
}
