//! How the guest tells the host its verdict: as QEMU's own exit status.
//!
//! QEMU's `isa-debug-exit` device ends the machine when a byte is written to its I/O port, with the
//! exit status `byte * 2 + 1`. Unlike a line on the console or a file in a share it cannot be
//! garbled, and it cannot be left over from another run. The bytes are such that no other end of
//! QEMU (power off, an error of its own, a signal) looks like one of them.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};

/// The I/O port that QEMU's command line gives to the device; PC hardware leaves it free.
pub(crate) const PORT: u16 = 0xf4;

const SUCCESS: u8 = 0x2a;
const FAILURE: u8 = 0x2b;

/// What came out of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything was as it should be.
    Success,
    /// The scenario ran and found a fault; the console says which.
    Failure,
}

impl Verdict {
    fn byte(self) -> u8 {
        match self {
            Self::Success => SUCCESS,
            Self::Failure => FAILURE,
        }
    }

    /// Reads QEMU's exit status. `None`: the machine ended before the scenario did.
    pub(crate) fn of_machine(status: ExitStatus) -> Option<Self> {
        [Self::Success, Self::Failure]
            .into_iter()
            .find(|verdict| status.code() == Some(i32::from(verdict.byte()) * 2 + 1))
    }

    /// Ends the machine that this process runs in with this verdict.
    pub(crate) fn report(self) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .open("/dev/port")
            .and_then(|port| port.write_all_at(&[self.byte()], u64::from(PORT)))
            .context("cannot write the verdict to the I/O port of isa-debug-exit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn only_the_devices_own_statuses_are_verdicts() {
        let verdict = |code: i32| Verdict::of_machine(ExitStatus::from_raw(code << 8));
        assert_eq!(verdict(0x2a * 2 + 1), Some(Verdict::Success));
        assert_eq!(verdict(0x2b * 2 + 1), Some(Verdict::Failure));
        assert_eq!(verdict(0), None, "powered off");
        assert_eq!(verdict(1), None, "an error of QEMU");
        assert_eq!(Verdict::of_machine(ExitStatus::from_raw(9)), None, "killed");
    }
}
