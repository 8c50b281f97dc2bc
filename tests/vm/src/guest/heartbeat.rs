// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine's heartbeat: a thread writes a byte each second to the second serial port.
//!
//! No scenario and no hung command can block this thread, so the heartbeat stops only if the whole
//! machine hangs.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

const PORT: &str = "/dev/ttyS1";

/// Maximum time between two heartbeats, and from power-on to the first. Booting takes some seconds;
/// background load of the host slows it down, but not to a minute.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Starts the heartbeat, which runs until the machine ends.
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
