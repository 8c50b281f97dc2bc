//! The status byte with which every SCSI command ends.

use std::fmt;

/// A SCSI status code (SAM-5, 5.3).
///
/// Any byte is a value: devices and host adapters have been seen to answer reserved ones.
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
    /// It failed, and sense data says why.
    pub const CHECK_CONDITION: Status = Status(0x02);
    /// A condition that the command tests for is met; a success.
    pub const CONDITION_MET: Status = Status(0x04);
    /// The device cannot take the command now.
    pub const BUSY: Status = Status(0x08);
    /// A reservation of somebody else forbids the command, or the key given is not the registered
    /// one.
    pub const RESERVATION_CONFLICT: Status = Status(0x18);
    /// The queue for commands is full.
    pub const TASK_SET_FULL: Status = Status(0x28);
    /// An auto contingent allegiance condition blocks the command.
    pub const ACA_ACTIVE: Status = Status(0x30);
    /// Another initiator port had the command aborted.
    pub const TASK_ABORTED: Status = Status(0x40);

    /// The standard's name, or `None` for a reserved or obsolete code.
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

impl From<u8> for Status {
    fn from(code: u8) -> Self {
        Status(code)
    }
}

impl From<Status> for u8 {
    fn from(status: Status) -> Self {
        status.0
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
