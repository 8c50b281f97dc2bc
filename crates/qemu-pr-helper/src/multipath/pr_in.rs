// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE IN: any path can answer it. The helper itself sends it to the map, and the
//! kernel chooses a path, but does not try a second one. If the map does not answer in time, a
//! worker sends the command to one path after another.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::CDB_SIZE;
use scsi_pr::{AdditionalSense, SenseKey, Status};

use super::map_threads::{MapThreads, TaskError};
use super::paths::aborted;
use super::worker_trace::WorkerTrace;
use crate::command::command_log;
use crate::command::device::DeviceId;
use crate::command::executor::CommandResult;
use crate::command::sg::{self, TransportOutcome};
use crate::server::limiter::{Limiter, Permit};

/// Limit of the threads that wait for a map.
pub(super) type ReaderLimiter = Limiter<DeviceId, 1>;

/// Permit of one of these threads.
pub(super) type ReaderPermit = Permit<DeviceId, 1, Arc<ReaderLimiter>>;

/// Additional sense code of the unit attentions after a reset, for all qualifiers.
const RESET_OCCURRED: u8 = 0x29;

/// Maximum number of these unit attentions that are not reported to the guest, in case that a
/// logical unit sends them endlessly.
const MAX_RESET_REPORTS: usize = 64;

/// Sends the command with `send`, again after each report of a reset. Each path reports a reset, so
/// a guest that has seen the report would get it again. A reset changes no registration
/// (docs/decisions/0008-reset-reports.md).
///
/// # Errors
///
/// Returns the result for the guest if the command was not completed: another path can be tried.
pub(super) fn send_until_answered(
    mut send: impl FnMut() -> TransportOutcome,
) -> Result<CommandResult, CommandResult> {
    let mut resets: usize = 0;
    loop {
        match send() {
            TransportOutcome::Completed(result)
                if is_reset(&result) && resets < MAX_RESET_REPORTS =>
            {
                resets = resets.saturating_add(1);
            }
            TransportOutcome::Completed(result) => return Ok(result),
            TransportOutcome::NotDelivered(result) | TransportOutcome::Unknown(result) => {
                return Err(result);
            }
        }
    }
}

/// Returns whether the result is the unit attention POWER ON, RESET, OR BUS DEVICE RESET OCCURRED,
/// with any qualifier.
fn is_reset(result: &CommandResult) -> bool {
    result.decode_sense().is_some_and(|sense| {
        sense.key == SenseKey::UnitAttention && sense.code.asc == RESET_OCCURRED
    })
}

/// A map, for commands that the kernel sends over a path of its choice.
///
/// The kernel holds a command to a map that queues I/O until a path returns, and the thread that
/// has sent it cannot be interrupted. So another thread sends it.
#[derive(Debug)]
pub(super) struct WholeMap<'a> {
    /// Shared with a thread that hangs.
    device: Arc<(OwnedFd, ReaderPermit)>,
    threads: &'a MapThreads,
    trace: &'a WorkerTrace,
    timeout: Duration,
}

impl<'a> WholeMap<'a> {
    /// Creates the map of `descriptor`, which is duplicated. Each command has the time limit
    /// `timeout`. A thread that hangs keeps `permit`.
    pub(super) fn new(
        descriptor: BorrowedFd<'_>,
        permit: ReaderPermit,
        threads: &'a MapThreads,
        trace: &'a WorkerTrace,
        timeout: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            device: Arc::new((descriptor.try_clone_to_owned()?, permit)),
            threads,
            trace,
            timeout,
        })
    }

    /// Sends PERSISTENT RESERVE IN and stores the reply in `data`.
    pub(super) fn send(&self, cdb: &[u8; CDB_SIZE], data: &mut [u8]) -> TransportOutcome {
        let start = Instant::now();
        let outcome = self.execute(cdb, data);
        let took = command_log::microseconds(start.elapsed());
        self.trace.record_path("map", cdb, outcome, took);
        outcome
    }

    fn execute(&self, cdb: &[u8; CDB_SIZE], data: &mut [u8]) -> TransportOutcome {
        let (device, cdb, timeout) = (Arc::clone(&self.device), *cdb, self.timeout);
        let mut buffer = vec![0; data.len()];
        let reply = self.threads.run(timeout, move || {
            let data = Data::FromDevice(&mut buffer);
            let outcome = sg::execute_sg_io(device.0.as_fd(), &cdb, data, timeout);
            (outcome, buffer)
        });
        match reply {
            Ok((outcome, reply)) => {
                data.copy_from_slice(&reply);
                outcome
            }
            Err(TaskError::NotStarted) => {
                TransportOutcome::NotDelivered(CommandResult::from_status(Status::BUSY))
            }
            Err(TaskError::Timeout) => TransportOutcome::Unknown(aborted(
                AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn reset(ascq: u8) -> AdditionalSense {
        AdditionalSense {
            asc: RESET_OCCURRED,
            ascq,
        }
    }

    /// Sends a command to a path with pending unit attentions; the last one is reported first.
    fn send_to(mut attentions: Vec<AdditionalSense>) -> CommandResult {
        let result = send_until_answered(|| {
            let attention = attentions.pop();
            TransportOutcome::Completed(attention.map_or_else(
                || CommandResult::from_status(Status::GOOD),
                |code| CommandResult::check_condition(SenseKey::UnitAttention, code),
            ))
        });
        result.unwrap()
    }

    #[test]
    fn reset_of_the_unit_is_not_reported_by_read_keys() {
        let resets = [0, 2, 3].map(reset).to_vec();
        assert_eq!(send_to(resets).status, Status::GOOD);
    }

    #[test]
    fn preemption_is_reported_by_read_keys() {
        let preempted = AdditionalSense::REGISTRATIONS_PREEMPTED;
        let result = send_to(vec![preempted, reset(0)]);
        assert_eq!(result.decode_sense().unwrap().code, preempted);
    }

    #[test]
    fn endless_resets_are_reported() {
        let result = send_to(vec![reset(0); MAX_RESET_REPORTS + 1]);
        assert_eq!(result.decode_sense().unwrap().code, reset(0));
    }
}
