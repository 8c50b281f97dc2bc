// SPDX-License-Identifier: MIT OR Apache-2.0

//! Execution of a command on one SCSI device: the CDB goes to the device unchanged, with `SG_IO`.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use linux_util::sg_io::{Completion, Data, sg_io};
use pr_helper_protocol::wire::{CDB_SIZE, SENSE_SIZE};
use rustix::io::Errno;
use scsi_pr::{AdditionalSense as Code, SenseKey as Key, Status};

use self::TransportOutcome::{Completed, NotDelivered, Unknown};
use crate::command::command_log;
use crate::command::executor::CommandResult;
use crate::trace::{event_enabled, trace};

/// `DRIVER_TIMEOUT` of old kernels' `include/scsi/scsi_status.h`, as the bits that QEMU tests.
const DRIVER_TIMEOUT: u16 = 0x06;

/// Result of a command, by whether it has reached the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportOutcome {
    /// The logical unit has completed the command, or the kernel in its place. The result would be
    /// the same on another path.
    Completed(CommandResult),
    /// The command has not reached the logical unit. Another path can be tried.
    NotDelivered(CommandResult),
    /// The response is missing. The command may have been executed, or may still be.
    Unknown(CommandResult),
}

impl TransportOutcome {
    /// Returns the result.
    #[must_use]
    pub const fn into_result(self) -> CommandResult {
        let (Completed(result) | NotDelivered(result) | Unknown(result)) = self;
        result
    }
}

/// Sends a command with its `data` to the device of `fd`, and waits for the result.
pub(crate) fn execute_sg_io(
    fd: BorrowedFd<'_>,
    cdb: &[u8; CDB_SIZE],
    data: Data<'_>,
    timeout: Duration,
) -> TransportOutcome {
    let mut sense = [0; SENSE_SIZE];
    // Only data from the device has a length to report.
    let requested = match &data {
        Data::FromDevice(data) => data.len(),
        Data::None | Data::ToDevice(_) => 0,
    };
    let start = trace_begin(fd, cdb, timeout);
    let result = sg_io(fd, cdb, data, &mut sense, timeout);
    if let Some(start) = start {
        trace_end(fd, &result, start.elapsed());
    }
    match result {
        Err(error) => from_errno(&error),
        Ok(completion) => from_host(completion)
            .or_else(|| from_driver(completion))
            .unwrap_or_else(|| Completed(from_device(completion, requested, sense))),
    }
}

/// Traces the start of a command. Returns the time, if the end is traced as well.
fn trace_begin(fd: BorrowedFd<'_>, cdb: &[u8; CDB_SIZE], timeout: Duration) -> Option<Instant> {
    let [opcode, action, ..] = *cdb;
    trace!(pr_helper_sg_begin(
        fd.as_raw_fd(),
        opcode,
        action,
        u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
    ));
    event_enabled!(pr_helper_sg_end).then(Instant::now)
}

fn trace_end(fd: BorrowedFd<'_>, result: &io::Result<Completion>, duration: Duration) {
    let (errno, completion) = match result {
        Ok(completion) => (0, *completion),
        Err(error) => (error.raw_os_error().unwrap_or(-1), Completion::default()),
    };
    trace!(pr_helper_sg_end(
        fd.as_raw_fd(),
        errno,
        completion.status,
        completion.host_status,
        completion.driver_status,
        u32::try_from(completion.residual).unwrap_or(u32::MAX),
        command_log::microseconds(duration),
    ));
}

/// Returns the outcome if the ioctl failed: the kernel did not send the command, or gave up on it.
///
/// The choices are QEMU's (`scsi/utils.c`), so that a guest sees the same as with other helpers.
fn from_errno(error: &io::Error) -> TransportOutcome {
    let (status, check) = (CommandResult::from_status, CommandResult::check_condition);
    match Errno::from_io_error(error) {
        Some(Errno::DOM) => Completed(status(Status::TASK_SET_FULL)),
        Some(Errno::BADE) => Completed(status(Status::RESERVATION_CONFLICT)),
        Some(Errno::NODATA) => Completed(check(Key::MediumError, Code::UNRECOVERED_READ_ERROR)),
        Some(Errno::REMOTEIO | Errno::NOMEM) => {
            Completed(check(Key::HardwareError, Code::INTERNAL_TARGET_FAILURE))
        }
        Some(Errno::NOMEDIUM) => Completed(check(Key::NotReady, Code::MEDIUM_NOT_PRESENT)),
        Some(Errno::INVAL) => Completed(check(Key::IllegalRequest, Code::INVALID_FIELD_IN_CDB)),
        Some(Errno::NOSPC) => {
            let code = Code::SPACE_ALLOCATION_FAILED_WRITE_PROTECT;
            Completed(check(Key::DataProtect, code))
        }
        // The file is not a SCSI device, or this process must not send it commands.
        Some(Errno::NOTTY | Errno::PERM) => {
            Completed(check(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED))
        }
        // The disk is offline, or the map is suspended.
        Some(Errno::NODEV | Errno::NXIO | Errno::AGAIN) => {
            NotDelivered(check(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED))
        }
        // EIO of a map without paths, ETIMEDOUT, ENOLINK.
        _ => Unknown(check(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED)),
    }
}

/// Returns the outcome if the host adapter did not carry the command (`DID_…` of
/// `include/scsi/scsi_status.h`).
fn from_host(completion: Completion) -> Option<TransportOutcome> {
    let (status, check) = (CommandResult::from_status, CommandResult::check_condition);
    let aborted = |code| Unknown(check(Key::AbortedCommand, code));
    Some(match completion.host_status {
        0x00 => return None,
        0x01 => {
            let code = Code::LOGICAL_UNIT_DOES_NOT_RESPOND_TO_SELECTION;
            NotDelivered(check(Key::AbortedCommand, code))
        }
        0x02 => Unknown(status(Status::BUSY)),
        0x03 => aborted(Code::COMMAND_TIMEOUT_DURING_PROCESSING),
        0x04 => aborted(Code::LOGICAL_UNIT_COMMUNICATION_FAILURE),
        0x05 => aborted(Code::COMMANDS_CLEARED_BY_DEVICE_SERVER),
        0x08 => {
            let code = Code::POWER_ON_RESET_OR_BUS_DEVICE_RESET;
            Unknown(check(Key::UnitAttention, code))
        }
        0x0e => aborted(Code::I_T_NEXUS_LOSS_OCCURRED),
        0x10 => Completed(check(Key::HardwareError, Code::INTERNAL_TARGET_FAILURE)),
        0x11 => Completed(status(Status::RESERVATION_CONFLICT)),
        0x12 => {
            let code = Code::SPACE_ALLOCATION_FAILED_WRITE_PROTECT;
            Completed(check(Key::DataProtect, code))
        }
        0x13 => Completed(check(Key::MediumError, Code::UNRECOVERED_READ_ERROR)),
        // An unknown host status is not a success.
        _ => aborted(Code::IO_PROCESS_TERMINATED),
    })
}

/// Returns the outcome if the driver timed out.
fn from_driver(completion: Completion) -> Option<TransportOutcome> {
    (completion.driver_status & DRIVER_TIMEOUT != 0)
        .then(|| Unknown(CommandResult::from_status(Status::BUSY)))
}

/// Returns the result if the device completed the command.
fn from_device(completion: Completion, requested: usize, sense: [u8; SENSE_SIZE]) -> CommandResult {
    let status = Status(completion.status);
    let data_len = match status {
        Status::GOOD => requested.saturating_sub(completion.residual),
        _ => 0,
    };
    CommandResult {
        status,
        sense,
        data_len,
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

    fn host(host_status: u16) -> Option<TransportOutcome> {
        from_host(Completion {
            host_status,
            ..OK_COMPLETION
        })
    }

    fn driver(driver_status: u16) -> Option<TransportOutcome> {
        from_driver(Completion {
            driver_status,
            ..OK_COMPLETION
        })
    }

    #[test]
    fn nonzero_host_status_is_not_good() {
        for host_status in 1..=0x20 {
            let result = host(host_status).unwrap().into_result();
            assert_ne!(result.status, Status::GOOD, "{host_status:#x}");
            assert_eq!(result.data_len, 0);
        }
        assert_eq!(host(0), None);
    }

    #[test]
    fn conflict_seen_by_host_is_a_reservation_conflict() {
        let conflict = Completed(CommandResult::from_status(Status::RESERVATION_CONFLICT));
        assert_eq!(host(0x11), Some(conflict));
        assert_eq!(from_errno(&Errno::BADE.into()), conflict);
    }

    #[test]
    fn driver_sense_is_not_a_timeout() {
        assert_eq!(driver(8), None);
        let busy = Unknown(CommandResult::from_status(Status::BUSY));
        assert_eq!(driver(6), Some(busy));
    }

    #[test]
    fn errors_are_completed_unless_another_path_may_help() {
        use Errno as E;
        let is_completed = |outcome| matches!(outcome, Completed(_));
        for error in [E::NODEV, E::NXIO, E::IO, E::AGAIN, E::TIMEDOUT] {
            assert!(!is_completed(from_errno(&error.into())), "{error}");
        }
        for error in [E::NOTTY, E::PERM, E::INVAL, E::REMOTEIO, E::NOSPC] {
            assert!(is_completed(from_errno(&error.into())), "{error}");
        }
        for host_status in [1, 3, 0x0e] {
            assert!(
                !is_completed(host(host_status).unwrap()),
                "{host_status:#x}"
            );
        }
        for host_status in [0x10, 0x13] {
            assert!(is_completed(host(host_status).unwrap()), "{host_status:#x}");
        }
    }

    #[test]
    fn data_len_is_what_was_transferred_with_good() {
        let data_len = |status, residual, requested| {
            let completion = Completion {
                status,
                residual,
                ..OK_COMPLETION
            };
            from_device(completion, requested, [0; SENSE_SIZE]).data_len
        };
        assert_eq!(data_len(0, 24, 32), 8);
        assert_eq!(data_len(0, 99, 32), 0);
        assert_eq!(data_len(0x18, 24, 32), 0);
        assert_eq!(data_len(0, 0, 0), 0);
    }
}
