//! One SCSI device: the command goes to it by `SG_IO`, exactly as it came.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use linux_util::sg_io::{Completion, Data, sg_io};
use pr_helper_protocol::wire::{CDB_SIZE, SENSE_SIZE};
use rustix::io::Errno;
use scsi_pr::{AdditionalSense as Code, SenseKey as Key, Status};

use crate::command::command_log;
use crate::command::executor::CommandResult;
use crate::trace::{event_enabled, trace};

/// `DRIVER_TIMEOUT` of old kernels' `include/scsi/scsi_status.h`, as the bits that QEMU looks at.
const DRIVER_TIMEOUT: u16 = 0x06;

/// What became of a command that was sent: who its outcome comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportOutcome {
    /// The logical unit has answered, or the kernel has in its place. Elsewhere the answer would be the
    /// same.
    Completed(CommandResult),
    /// It did not get to the logical unit. By another path it may.
    NotDelivered(CommandResult),
    /// No answer came back. It may have been done, or may still be.
    Unknown(CommandResult),
}

impl TransportOutcome {
    /// The outcome, wherever it comes from.
    #[must_use]
    pub const fn into_result(self) -> CommandResult {
        match self {
            Self::Completed(outcome) | Self::NotDelivered(outcome) | Self::Unknown(outcome) => {
                outcome
            }
        }
    }
}

/// Sends a command to `device` with its `data`, and waits for it.
#[must_use]
pub fn execute_sg_io(
    device: BorrowedFd<'_>,
    cdb: &[u8; CDB_SIZE],
    data: Data<'_>,
    timeout: Duration,
) -> TransportOutcome {
    let mut sense = [0; SENSE_SIZE];
    // Only what comes from a device has a length to report.
    let requested = match &data {
        Data::FromDevice(data) => data.len(),
        Data::None | Data::ToDevice(_) => 0,
    };
    let start = begin(device, cdb, timeout);
    let result = sg_io(device, cdb, data, &mut sense, timeout);
    if let Some(start) = start {
        end(device, &result, start.elapsed());
    }
    match result {
        Err(error) => from_errno(&error),
        Ok(completion) => from_host(completion)
            .or_else(|| from_driver(completion))
            .unwrap_or_else(|| {
                TransportOutcome::Completed(from_device(completion, requested, sense))
            }),
    }
}

/// Gives when it was, if anybody wants to know how long it takes.
fn begin(device: BorrowedFd<'_>, cdb: &[u8; CDB_SIZE], timeout: Duration) -> Option<Instant> {
    let [opcode, action, ..] = *cdb;
    trace!(pr_helper_sg_begin(
        device.as_raw_fd(),
        opcode,
        action,
        u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
    ));
    event_enabled!(pr_helper_sg_end).then(Instant::now)
}

fn end(device: BorrowedFd<'_>, result: &io::Result<Completion>, took: Duration) {
    let (errno, completion) = match result {
        Ok(completion) => (0, *completion),
        Err(error) => (error.raw_os_error().unwrap_or(-1), Completion::default()),
    };
    trace!(pr_helper_sg_end(
        device.as_raw_fd(),
        errno,
        completion.status,
        completion.host_status,
        completion.driver_status,
        u32::try_from(completion.residual).unwrap_or(u32::MAX),
        command_log::microseconds(took),
    ));
}

fn failed(key: Key, code: Code) -> TransportOutcome {
    TransportOutcome::Completed(CommandResult::check_condition(key, code))
}

fn unsent(key: Key, code: Code) -> TransportOutcome {
    TransportOutcome::NotDelivered(CommandResult::check_condition(key, code))
}

fn lost(key: Key, code: Code) -> TransportOutcome {
    TransportOutcome::Unknown(CommandResult::check_condition(key, code))
}

/// The ioctl failed: the kernel did not send the command, or gave it up.
///
/// The choices are QEMU's (`scsi/utils.c`), so that a guest sees the same as with other helpers.
fn from_errno(error: &io::Error) -> TransportOutcome {
    match Errno::from_io_error(error) {
        Some(Errno::DOM) => {
            TransportOutcome::Completed(CommandResult::from_status(Status::TASK_SET_FULL))
        }
        Some(Errno::BADE) => {
            TransportOutcome::Completed(CommandResult::from_status(Status::RESERVATION_CONFLICT))
        }
        Some(Errno::NODATA) => failed(Key::MediumError, Code::UNRECOVERED_READ_ERROR),
        Some(Errno::REMOTEIO | Errno::NOMEM) => {
            failed(Key::HardwareError, Code::INTERNAL_TARGET_FAILURE)
        }
        Some(Errno::NOMEDIUM) => failed(Key::NotReady, Code::MEDIUM_NOT_PRESENT),
        Some(Errno::INVAL) => failed(Key::IllegalRequest, Code::INVALID_FIELD_IN_CDB),
        Some(Errno::NOSPC) => failed(
            Key::DataProtect,
            Code::SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
        ),
        // The file is no SCSI device, or this process may not send it commands.
        Some(Errno::NOTTY | Errno::PERM) => {
            failed(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED)
        }
        // Of a disk that is offline, of a map that is suspended.
        Some(Errno::NODEV | Errno::NXIO | Errno::AGAIN) => {
            unsent(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED)
        }
        // EIO of a map without paths, ETIMEDOUT, ENOLINK.
        _ => lost(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED),
    }
}

/// The host adapter could not carry the command (`DID_…` of `include/scsi/scsi_status.h`).
fn from_host(completion: Completion) -> Option<TransportOutcome> {
    Some(match completion.host_status {
        0x00 => return None,
        0x01 => unsent(
            Key::AbortedCommand,
            Code::LOGICAL_UNIT_DOES_NOT_RESPOND_TO_SELECTION,
        ),
        0x02 => TransportOutcome::Unknown(CommandResult::from_status(Status::BUSY)),
        0x03 => lost(Key::AbortedCommand, Code::COMMAND_TIMEOUT_DURING_PROCESSING),
        0x04 => lost(
            Key::AbortedCommand,
            Code::LOGICAL_UNIT_COMMUNICATION_FAILURE,
        ),
        0x05 => lost(Key::AbortedCommand, Code::COMMANDS_CLEARED_BY_DEVICE_SERVER),
        0x08 => lost(Key::UnitAttention, Code::POWER_ON_RESET_OR_BUS_DEVICE_RESET),
        0x0e => lost(Key::AbortedCommand, Code::I_T_NEXUS_LOSS_OCCURRED),
        0x10 => failed(Key::HardwareError, Code::INTERNAL_TARGET_FAILURE),
        0x11 => {
            TransportOutcome::Completed(CommandResult::from_status(Status::RESERVATION_CONFLICT))
        }
        0x12 => failed(
            Key::DataProtect,
            Code::SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
        ),
        0x13 => failed(Key::MediumError, Code::UNRECOVERED_READ_ERROR),
        // What nobody can name was no success.
        _ => lost(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED),
    })
}

fn from_driver(completion: Completion) -> Option<TransportOutcome> {
    (completion.driver_status & DRIVER_TIMEOUT != 0)
        .then(|| TransportOutcome::Unknown(CommandResult::from_status(Status::BUSY)))
}

/// The device answered.
fn from_device(completion: Completion, requested: usize, sense: [u8; SENSE_SIZE]) -> CommandResult {
    let status = Status(completion.status);
    let length = match status {
        Status::GOOD => requested.saturating_sub(completion.residual),
        _ => 0,
    };
    CommandResult {
        status,
        sense,
        data_len: length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK_COMPLETION: Completion = Completion {
        status: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
    };

    #[test]
    fn every_host_status_but_zero_is_a_failure() {
        for host_status in 1..=0x20 {
            let outcome = from_host(Completion {
                host_status,
                ..OK_COMPLETION
            })
            .unwrap();
            let outcome = outcome.into_result();
            assert_ne!(outcome.status, Status::GOOD, "{host_status:#x}");
            assert_eq!(outcome.data_len, 0);
        }
        assert_eq!(from_host(OK_COMPLETION), None);
    }

    #[test]
    fn a_refusal_by_the_host_is_a_reservation_conflict() {
        let outcome = from_host(Completion {
            host_status: 0x11,
            ..OK_COMPLETION
        })
        .unwrap();
        let conflict =
            TransportOutcome::Completed(CommandResult::from_status(Status::RESERVATION_CONFLICT));
        assert_eq!(outcome, conflict);
        let outcome = from_errno(&Errno::BADE.into());
        assert_eq!(outcome, conflict);
    }

    #[test]
    fn sense_that_a_driver_announces_is_no_timeout() {
        assert_eq!(
            from_driver(Completion {
                driver_status: 8,
                ..OK_COMPLETION
            }),
            None
        );
        let outcome = from_driver(Completion {
            driver_status: 6,
            ..OK_COMPLETION
        })
        .unwrap();
        assert_eq!(
            outcome,
            TransportOutcome::Unknown(CommandResult::from_status(Status::BUSY))
        );
    }

    #[test]
    fn what_another_path_would_not_mend_is_an_answer() {
        for error in [
            Errno::NODEV,
            Errno::NXIO,
            Errno::IO,
            Errno::AGAIN,
            Errno::TIMEDOUT,
        ] {
            let delivery = from_errno(&error.into());
            assert!(
                !matches!(delivery, TransportOutcome::Completed(_)),
                "{error}"
            );
        }
        for error in [
            Errno::NOTTY,
            Errno::PERM,
            Errno::INVAL,
            Errno::REMOTEIO,
            Errno::NOSPC,
        ] {
            let delivery = from_errno(&error.into());
            assert!(
                matches!(delivery, TransportOutcome::Completed(_)),
                "{error}"
            );
        }
        for (host_status, is_lost) in [
            (1, true),
            (3, true),
            (0x0e, true),
            (0x10, false),
            (0x13, false),
        ] {
            let delivery = from_host(Completion {
                host_status,
                ..OK_COMPLETION
            })
            .unwrap();
            assert_eq!(
                !matches!(delivery, TransportOutcome::Completed(_)),
                is_lost,
                "{host_status:#x}"
            );
        }
    }

    #[test]
    fn data_is_what_was_transferred_and_only_with_good() {
        let partial = Completion {
            residual: 24,
            ..OK_COMPLETION
        };
        let length =
            |completion, requested| from_device(completion, requested, [0; SENSE_SIZE]).data_len;
        assert_eq!(length(partial, 32), 8);
        let too_much = Completion {
            residual: 99,
            ..OK_COMPLETION
        };
        assert_eq!(length(too_much, 32), 0);
        let refused = Completion {
            status: 0x18,
            ..partial
        };
        assert_eq!(length(refused, 32), 0);
        assert_eq!(length(OK_COMPLETION, 0), 0);
    }
}
