//! The machine's pulse: a byte each second on its second serial port, whatever the scenario does.
//!
//! Where it stops, the whole machine stands still: no scenario, and no hung command, can hold up a thread
//! that does nothing else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

const PORT: &str = "/dev/ttyS1";

/// How long there may be none, from when the machine is switched on. It boots in some seconds, and other
/// work beside it makes it slower, but not that much.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Lets it begin, until the machine ends.
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
