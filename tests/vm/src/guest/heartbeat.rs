// SPDX-License-Identifier: MIT OR Apache-2.0

//! Heartbeats of the machine and of nested guests: each writes a byte a second to its second serial
//! port.
//!
//! No scenario and no hung command can block the thread or the process that writes, so a heartbeat
//! stops only if the whole machine or nested guest hangs.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::termios::tcdrain;

use crate::exit_status::ScenarioResult;
use pr_testkit::process::poll;

const PORT: &str = "/dev/ttyS1";

/// Maximum time between two heartbeats, and from power-on to the first. Booting takes some seconds;
/// background load of the host slows it down, but not to a minute.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Maximum time between two heartbeats of a nested guest that has not responded for
/// [`nested_guest::COMMAND_TIMEOUT`](super::nested_guest::COMMAND_TIMEOUT).
const NESTED_LIMIT: Duration = Duration::from_secs(10);

/// Starts the machine's heartbeat, which runs until the machine ends.
pub(crate) fn start() -> Result<()> {
    let mut port = OpenOptions::new()
        .write(true)
        .open(PORT)
        .with_context(|| format!("cannot open {PORT}"))?;
    thread::spawn(move || {
        while port.write_all(b".").is_ok() {
            thread::sleep(Duration::from_secs(1));
        }
    });
    Ok(())
}

/// Creates the file for a nested guest's heartbeats: QEMU, which must own it, writes the output of
/// the second serial port to it.
pub(crate) fn create_nested(path: &Path) -> Result<()> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(())
}

/// Ends the machine if the nested guest with this file has no heartbeat. The host then repeats the
/// scenario: the emulation hangs, and not the command that the guest executes.
pub(crate) fn check_nested(path: &Path) -> Result<()> {
    let length = || -> Result<u64> {
        let metadata = fs::metadata(path);
        Ok(metadata
            .with_context(|| format!("cannot read {}", path.display()))?
            .len())
    };
    let before = length()?;
    let beat = poll(NESTED_LIMIT, || Ok((length()? != before).then_some(())))?;
    if beat.is_some() {
        return Ok(());
    }
    eprintln!("guest: the nested guest hung: its heartbeat has stopped");
    tcdrain(std::io::stdout())?;
    ScenarioResult::NestedGuestHung.report()?;
    bail!("the nested guest hung, and the machine did not end")
}
