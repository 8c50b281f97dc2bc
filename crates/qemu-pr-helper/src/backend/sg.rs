//! One SCSI device: the command goes to it by `SG_IO`, exactly as it came.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use linux_sys::sg::{Completion, Data, sg_io};
use pr_socket::wire::SENSE_SIZE;
use pr_socket::{Command, Direction};
use rustix::io::Errno;
use scsi_pr::{AdditionalSense as Code, SenseKey as Key, Status};

use crate::outcome::Outcome;

/// `DRIVER_TIMEOUT` of old kernels' `include/scsi/scsi_status.h`, as the bits that QEMU looks at.
const DRIVER_TIMEOUT: u16 = 0x06;

/// Sends `command` to `device` and waits for it; the device's answer goes to the front of `data`.
#[must_use]
pub fn execute(
    device: BorrowedFd<'_>,
    command: &Command,
    parameters: &[u8],
    data: &mut [u8],
    timeout: Duration,
) -> Outcome {
    let mut sense = [0; SENSE_SIZE];
    let requested = data.len();
    let transfer = match command.direction() {
        Direction::In => Data::FromDevice(data),
        Direction::Out => Data::ToDevice(parameters),
    };
    match sg_io(device, command.cdb(), transfer, &mut sense, timeout) {
        Err(error) => from_errno(&error),
        Ok(completion) => from_host(completion)
            .or_else(|| from_driver(completion))
            .unwrap_or_else(|| from_device(completion, command, requested, sense)),
    }
}

fn failed(key: Key, code: Code) -> Outcome {
    Outcome::check_condition(key, code)
}

/// The ioctl failed: the kernel did not send the command, or gave it up.
///
/// The choices are QEMU's (`scsi/utils.c`), so that a guest sees the same as with other helpers.
fn from_errno(error: &io::Error) -> Outcome {
    match Errno::from_io_error(error) {
        Some(Errno::DOM) => Outcome::status(Status::TASK_SET_FULL),
        Some(Errno::BADE) => Outcome::status(Status::RESERVATION_CONFLICT),
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
        // ENOTTY too: the file is no SCSI device.
        _ => failed(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED),
    }
}

/// The host adapter could not carry the command (`DID_…` of `include/scsi/scsi_status.h`).
fn from_host(completion: Completion) -> Option<Outcome> {
    Some(match completion.host_status {
        0x00 => return None,
        0x01 => failed(
            Key::AbortedCommand,
            Code::LOGICAL_UNIT_DOES_NOT_RESPOND_TO_SELECTION,
        ),
        0x02 => Outcome::status(Status::BUSY),
        0x03 => failed(Key::AbortedCommand, Code::COMMAND_TIMEOUT_DURING_PROCESSING),
        0x04 => failed(
            Key::AbortedCommand,
            Code::LOGICAL_UNIT_COMMUNICATION_FAILURE,
        ),
        0x05 => failed(Key::AbortedCommand, Code::COMMANDS_CLEARED_BY_DEVICE_SERVER),
        0x08 => failed(Key::UnitAttention, Code::POWER_ON_RESET_OR_BUS_DEVICE_RESET),
        0x0e => failed(Key::AbortedCommand, Code::I_T_NEXUS_LOSS_OCCURRED),
        0x10 => failed(Key::HardwareError, Code::INTERNAL_TARGET_FAILURE),
        0x11 => Outcome::status(Status::RESERVATION_CONFLICT),
        0x12 => failed(
            Key::DataProtect,
            Code::SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
        ),
        0x13 => failed(Key::MediumError, Code::UNRECOVERED_READ_ERROR),
        // What nobody can name was no success.
        _ => failed(Key::AbortedCommand, Code::IO_PROCESS_TERMINATED),
    })
}

fn from_driver(completion: Completion) -> Option<Outcome> {
    (completion.driver_status & DRIVER_TIMEOUT != 0).then(|| Outcome::status(Status::BUSY))
}

/// The device answered.
fn from_device(
    completion: Completion,
    command: &Command,
    requested: usize,
    sense: [u8; SENSE_SIZE],
) -> Outcome {
    let status = Status(completion.status);
    let has_data = status == Status::GOOD && command.direction() == Direction::In;
    let length = if has_data {
        requested.saturating_sub(completion.residual)
    } else {
        0
    };
    Outcome {
        status,
        sense,
        length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Completion = Completion {
        status: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
    };

    fn command(opcode: u8) -> Command {
        Command::new([opcode, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0]).unwrap()
    }

    #[test]
    fn every_host_status_but_zero_is_a_failure() {
        for host_status in 1..=0x20 {
            let outcome = from_host(Completion {
                host_status,
                ..WELL
            })
            .unwrap();
            assert_ne!(outcome.status, Status::GOOD, "{host_status:#x}");
            assert_eq!(outcome.length, 0);
        }
        assert_eq!(from_host(WELL), None);
    }

    #[test]
    fn a_refusal_by_the_host_is_a_reservation_conflict() {
        let outcome = from_host(Completion {
            host_status: 0x11,
            ..WELL
        })
        .unwrap();
        assert_eq!(outcome, Outcome::status(Status::RESERVATION_CONFLICT));
        let outcome = from_errno(&Errno::BADE.into());
        assert_eq!(outcome, Outcome::status(Status::RESERVATION_CONFLICT));
    }

    #[test]
    fn sense_that_a_driver_announces_is_no_timeout() {
        assert_eq!(
            from_driver(Completion {
                driver_status: 8,
                ..WELL
            }),
            None
        );
        let outcome = from_driver(Completion {
            driver_status: 6,
            ..WELL
        })
        .unwrap();
        assert_eq!(outcome, Outcome::status(Status::BUSY));
    }

    #[test]
    fn data_is_what_was_transferred_and_only_with_good() {
        let partial = Completion {
            residual: 24,
            ..WELL
        };
        let length = |completion, opcode| {
            from_device(completion, &command(opcode), 32, [0; SENSE_SIZE]).length
        };
        assert_eq!(length(partial, 0x5e), 8);
        assert_eq!(
            length(
                Completion {
                    residual: 99,
                    ..WELL
                },
                0x5e
            ),
            0
        );
        assert_eq!(
            length(
                Completion {
                    status: 0x18,
                    ..partial
                },
                0x5e
            ),
            0
        );
        assert_eq!(length(partial, 0x5f), 0);
    }
}
