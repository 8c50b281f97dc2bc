// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reports the result of a scenario to the host as QEMU's exit status.
//!
//! QEMU's `isa-debug-exit` device ends the machine when a byte is written to its I/O port; the exit
//! status is `byte * 2 + 1`. Unlike a line on the console or a file in a share, it cannot be
//! garbled or left over from another run. The bytes differ from every other way that QEMU can end
//! (power off, its own errors, signals).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};

/// I/O port of the device on QEMU's command line. PC hardware does not use it.
pub(crate) const PORT: u16 = 0xf4;

const SUCCESS: u8 = 0x2a;
const FAILURE: u8 = 0x2b;
const NESTED_GUEST_HUNG: u8 = 0x2c;

/// Result of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScenarioResult {
    /// The scenario passed.
    Success,
    /// The scenario found a fault; the console has the details.
    Failure,
    /// The emulated nested guest hung, so the scenario has no result.
    NestedGuestHung,
}

impl ScenarioResult {
    fn byte(self) -> u8 {
        match self {
            Self::Success => SUCCESS,
            Self::Failure => FAILURE,
            Self::NestedGuestHung => NESTED_GUEST_HUNG,
        }
    }

    /// Decodes QEMU's exit status; `None` if the machine ended before the scenario did.
    pub(crate) fn from_exit_status(status: ExitStatus) -> Option<Self> {
        [Self::Success, Self::Failure, Self::NestedGuestHung]
            .into_iter()
            .find(|result| status.code() == Some(i32::from(result.byte()) * 2 + 1))
    }

    /// Ends the machine that this process runs in.
    pub(crate) fn report(self) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .open("/dev/port")
            .and_then(|port| port.write_all_at(&[self.byte()], u64::from(PORT)))
            .context("cannot write the result to the I/O port of isa-debug-exit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn other_exit_statuses_are_not_results() {
        let result = |code: i32| ScenarioResult::from_exit_status(ExitStatus::from_raw(code << 8));
        assert_eq!(result(0x2a * 2 + 1), Some(ScenarioResult::Success));
        assert_eq!(result(0x2b * 2 + 1), Some(ScenarioResult::Failure));
        assert_eq!(result(0x2c * 2 + 1), Some(ScenarioResult::NestedGuestHung));
        assert_eq!(result(0), None, "powered off");
        assert_eq!(result(1), None, "an error of QEMU");
        assert_eq!(
            ScenarioResult::from_exit_status(ExitStatus::from_raw(9)),
            None,
            "killed"
        );
    }
}
