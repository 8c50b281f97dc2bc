// SPDX-License-Identifier: MIT OR Apache-2.0

//! The status byte that ends every SCSI command.

use std::fmt;

/// A SCSI status code (SAM-5, 5.3).
///
/// Any byte is a value, because some devices and host adapters return reserved codes.
///
/// ```
/// # use scsi_pr::Status;
/// assert_eq!(Status(0x18), Status::RESERVATION_CONFLICT);
/// assert_eq!(Status(0x18).to_string(), "RESERVATION CONFLICT");
/// assert_eq!(Status(0x42).to_string(), "status 0x42");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u8);

impl Status {
    /// The command succeeded.
    pub const GOOD: Status = Status(0x00);
    /// The command failed. Sense data contains the reason.
    pub const CHECK_CONDITION: Status = Status(0x02);
    /// The condition that the command tests for is met. The command succeeded.
    pub const CONDITION_MET: Status = Status(0x04);
    /// The device cannot accept the command now.
    pub const BUSY: Status = Status(0x08);
    /// The reservation of another initiator port forbids the command, or the given reservation key
    /// is not the registered one.
    pub const RESERVATION_CONFLICT: Status = Status(0x18);
    /// The device's command queue is full.
    pub const TASK_SET_FULL: Status = Status(0x28);
    /// An auto contingent allegiance condition blocks the command.
    pub const ACA_ACTIVE: Status = Status(0x30);
    /// Another initiator port aborted the command.
    pub const TASK_ABORTED: Status = Status(0x40);

    /// Returns the name in the standard, or `None` if the code is reserved or obsolete.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Status::GOOD => "GOOD",
            Status::CHECK_CONDITION => "CHECK CONDITION",
            Status::CONDITION_MET => "CONDITION MET",
            Status::BUSY => "BUSY",
            Status::RESERVATION_CONFLICT => "RESERVATION CONFLICT",
            Status::TASK_SET_FULL => "TASK SET FULL",
            Status::ACA_ACTIVE => "ACA ACTIVE",
            Status::TASK_ABORTED => "TASK ABORTED",
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "status {:#04x}", self.0),
        }
    }
}
