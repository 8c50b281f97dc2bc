// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs the machines of a scenario at the same time.

use std::process::ExitStatus;
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::qemu::{End, Machine};
use crate::exit_status::ScenarioResult;
use pr_testkit::process::timed;

/// Maximum number of boots if a machine or a nested guest hangs. A single hang is a fault of the
/// emulation and not of the scenario: QEMU's emulation of AMD's virtualization (10.0.2) has hung in
/// one of some dozens of machines when it entered a nested guest.
const ATTEMPTS: u32 = 3;

/// Boots the machines, again if one of them or its nested guest hangs. Returns the machine that
/// ended first, with QEMU's exit status. The others are killed then.
pub(crate) fn run<'a>(machines: &'a [Machine<'a>]) -> Result<(&'a Machine<'a>, ExitStatus)> {
    for attempt in 1..=ATTEMPTS {
        let (machine, end) = timed("virtual machine", || run_once(machines))?;
        match end {
            End::Exited(status) if has_hung_guest(status) => {
                eprintln!("vm: the nested guest hung in attempt {attempt}");
            }
            End::Exited(status) => return Ok((machine, status)),
            End::Hung => eprintln!(
                "vm: the machine hung in attempt {attempt}; see the end of {}",
                machine.log.display()
            ),
            End::Stopped => bail!("a machine was stopped although no other one had ended"),
        }
    }
    bail!("a machine or its nested guest hung in each of {ATTEMPTS} attempts")
}

fn has_hung_guest(status: ExitStatus) -> bool {
    ScenarioResult::from_exit_status(status) == Some(ScenarioResult::NestedGuestHung)
}

fn run_once<'a>(machines: &'a [Machine<'a>]) -> Result<(&'a Machine<'a>, End)> {
    let first = OnceLock::new();
    thread::scope(|scope| {
        for machine in machines {
            let first = &first;
            scope.spawn(move || {
                let end = machine.run(|| first.get().is_some());
                // Only the first end counts: it stops the other machines.
                let _ = first.set((machine, end));
            });
        }
    });
    let (machine, end) = first.into_inner().context("the scenario has no machine")?;
    Ok((machine, end?))
}
