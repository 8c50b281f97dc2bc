// SPDX-License-Identifier: MIT OR Apache-2.0

//! Exit statuses: those of `sg_persist`, as `sg3_utils(8)` lists them.

use std::process::ExitCode;

use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

/// An exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// The command was executed.
    pub(crate) const SUCCESS: Exit = Exit(0);
    /// The command line is wrong, or the helper, the device or standard output cannot be used.
    pub(crate) const FAILURE: Exit = Exit(1);
    /// The command was executed and changed nothing (`SG_LIB_OK_FALSE`).
    pub(crate) const UNCHANGED: Exit = Exit(36);
    /// `validate` or `doctor` has found a fault (also `SG_LIB_OK_FALSE`).
    pub(crate) const NEGATIVE: Exit = Exit::UNCHANGED;
    /// A device responded with GOOD and malformed data.
    pub(crate) const MALFORMED: Exit = Exit(97);
    /// CHECK CONDITION with sense data that have no status of their own.
    const OTHER_SENSE: Exit = Exit(98);
    /// A SCSI status that the standard does not define.
    const OTHER_STATUS: Exit = Exit(99);

    /// Returns the number.
    pub(crate) const fn code(self) -> u8 {
        self.0
    }

    /// Returns the exit status for a SCSI status, and the sense data of a CHECK CONDITION.
    pub(crate) fn from_status(status: Status, sense: Option<&Sense>) -> Self {
        match status {
            Status::GOOD => Exit::SUCCESS,
            Status::CHECK_CONDITION => sense.map_or(Exit::OTHER_SENSE, Self::from_sense),
            Status::RESERVATION_CONFLICT => Exit(24),
            Status::CONDITION_MET => Exit(25),
            Status::BUSY => Exit(26),
            Status::TASK_SET_FULL => Exit(27),
            Status::ACA_ACTIVE => Exit(28),
            Status::TASK_ABORTED => Exit(29),
            _ => Exit::OTHER_STATUS,
        }
    }

    fn from_sense(sense: &Sense) -> Self {
        match (sense.key, sense.code) {
            (SenseKey::NoSense, _) => Exit(20),
            (SenseKey::RecoveredError, _) => Exit(21),
            (SenseKey::NotReady, _) => Exit(2),
            (SenseKey::MediumError | SenseKey::HardwareError | SenseKey::BlankCheck, _) => Exit(3),
            (SenseKey::IllegalRequest, AdditionalSense::INVALID_COMMAND_OPERATION_CODE) => Exit(9),
            (SenseKey::IllegalRequest, AdditionalSense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE) => {
                Exit(22)
            }
            (SenseKey::IllegalRequest, _) => Exit(5),
            (SenseKey::UnitAttention, _) => Exit(6),
            (SenseKey::DataProtect, _) => Exit(7),
            (SenseKey::CopyAborted, _) => Exit(10),
            // Protection information.
            (SenseKey::AbortedCommand, AdditionalSense { asc: 0x10, .. }) => Exit(40),
            (SenseKey::AbortedCommand, _) => Exit(11),
            (SenseKey::Miscompare, _) => Exit(14),
            _ => Exit::OTHER_SENSE,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_maps_to_sg3_utils_exit() {
        for (status, exit) in [
            (0x00, 0),
            (0x02, 98),
            (0x18, 24),
            (0x04, 25),
            (0x08, 26),
            (0x28, 27),
            (0x30, 28),
            (0x40, 29),
            (0x42, 99),
        ] {
            let found = Exit::from_status(Status(status), None);
            assert_eq!(found, Exit(exit), "{status:#x}");
        }
    }

    #[test]
    fn sense_maps_to_sg3_utils_exit() {
        for (key, asc, ascq, exit) in [
            (0x0, 0x00, 0x00, 20),
            (0x1, 0x00, 0x00, 21),
            (0x2, 0x04, 0x01, 2),
            (0x3, 0x11, 0x00, 3),
            (0x4, 0x44, 0x00, 3),
            (0x5, 0x24, 0x00, 5),
            (0x5, 0x20, 0x00, 9),
            (0x5, 0x20, 0x01, 5),
            (0x5, 0x21, 0x00, 22),
            (0x6, 0x29, 0x00, 6),
            (0x7, 0x27, 0x00, 7),
            (0x8, 0x00, 0x00, 3),
            (0xa, 0x00, 0x00, 10),
            (0xb, 0x00, 0x06, 11),
            (0xb, 0x10, 0x01, 40),
            (0xd, 0x00, 0x00, 98),
            (0xe, 0x1d, 0x00, 14),
        ] {
            let sense = Sense::new(SenseKey::from_low_bits(key), AdditionalSense { asc, ascq });
            let found = Exit::from_status(Status::CHECK_CONDITION, Some(&sense));
            assert_eq!(found, Exit(exit), "{key:x}/{asc:02x}/{ascq:02x}");
        }
    }
}
