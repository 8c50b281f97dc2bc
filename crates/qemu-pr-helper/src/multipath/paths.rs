// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths of a map, with a time limit for each. A hung command uses up only the time of its own
//! path.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use helper_state::PathRegistration;
use linux_util::sg_io::Data;
use pr_helper_protocol::wire::CDB_SIZE;
use rustix::fs::OFlags;
use rustix::io::Errno;
use scsi_pr::{AdditionalSense, SenseKey};

use super::deadline::{PendingRequest, TimeBudget};
use super::message::PathReport;
use super::pr_out::PrPath;
use super::steps::{Attempt, PathReply, StepResult};
use super::sysfs_map::PathId;
use super::worker_trace::WorkerTrace;
use crate::command::device;
use crate::command::executor::CommandResult;
use crate::command::sg::{self, TransportOutcome};

/// The additional sense code of LOGICAL UNIT NOT READY, for all qualifiers.
const NOT_READY: u8 = 0x04;

/// Delay between two attempts at a path that is busy, or that could not be reached.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Minimum time after which a step counts as one that hangs. With less time left, no command is
/// sent, which takes a moment too.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Path of a map. `Display` is its name.
#[derive(Debug)]
pub(super) struct MapPath {
    id: PathId,
    /// Reason why the device cannot be opened, unless it is gone.
    open_error: Option<String>,
    /// True after a command that got no reply in time. No further commands are sent then.
    timed_out: bool,
    budget: TimeBudget,
    attempt: Rc<Attempt>,
    trace: WorkerTrace,
}

impl MapPath {
    /// Creates the path of a request that `attempt` executes.
    pub(super) fn new(
        id: &PathId,
        budget: &TimeBudget,
        attempt: &Rc<Attempt>,
        trace: &WorkerTrace,
    ) -> Self {
        Self {
            id: id.clone(),
            open_error: None,
            timed_out: false,
            budget: budget.clone(),
            attempt: Rc::clone(attempt),
            trace: trace.clone(),
        }
    }

    /// Returns a warning if a command found that the device cannot be opened, for a reason other
    /// than that it is gone.
    pub(super) fn open_error(&self) -> Option<String> {
        let error = self.open_error.as_ref()?;
        Some(format!(
            "path {self} unusable: cannot open /dev/{self}: {error}"
        ))
    }

    /// Returns whether a command got no reply in time.
    pub(super) const fn has_timed_out(&self) -> bool {
        self.timed_out
    }

    /// Returns the path with its registration.
    pub(super) fn report(&self, registration: PathRegistration) -> PathReport {
        self.id.report(registration)
    }

    /// Sends a command within the time budget. Returns the outcome, and the time that it took in
    /// microseconds.
    fn execute(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> (TransportOutcome, u64) {
        const TIMEOUT: AdditionalSense = AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING;
        if self.timed_out {
            return (TransportOutcome::Unknown(aborted(TIMEOUT)), 0);
        }
        let timeout = self.budget.path_timeout();
        let (id, pending) = (&self.id, &self.budget.pending);
        let send = || StepResult::Path(send_to(id, pending, cdb, &data, timeout));
        let (result, took) = self.attempt.step(timeout.max(MIN_TIMEOUT), send);
        let Some(StepResult::Path(reply)) = result else {
            self.timed_out = true;
            return (TransportOutcome::Unknown(aborted(TIMEOUT)), took);
        };
        if let Data::FromDevice(buffer) = data {
            buffer.copy_from_slice(&reply.data);
        }
        if self.open_error.is_none() {
            self.open_error = reply.open_error;
        }
        (reply.outcome, took)
    }
}

/// Sends a command to the device of a path, which is opened if necessary.
fn send_to(
    id: &PathId,
    pending: &PendingRequest,
    cdb: &[u8; CDB_SIZE],
    data: &Data<'_>,
    timeout: Duration,
) -> PathReply {
    let start = Instant::now();
    let mut received = Vec::new();
    let data = match data {
        Data::None => Data::None,
        Data::ToDevice(list) => Data::ToDevice(list),
        Data::FromDevice(buffer) => {
            received.resize(buffer.len(), 0);
            Data::FromDevice(&mut received)
        }
    };
    let mut open_error = None;
    let outcome = match open(id) {
        Ok(file) => {
            let left = timeout.saturating_sub(start.elapsed());
            send_in_time(file, pending, cdb, data, left)
        }
        Err(error) => {
            let errno = Errno::from_io_error(&error);
            if !matches!(errno, Some(Errno::NXIO | Errno::NODEV)) {
                open_error = Some(error.to_string());
            }
            not_delivered(AdditionalSense::IO_PROCESS_TERMINATED)
        }
    };
    PathReply {
        outcome,
        data: received,
        open_error,
    }
}

/// Sends a command, unless no time is left or the helper no longer waits for a change.
///
/// Opening the device can take longer than its time limit. By then the path has been given up, and
/// a command that changes something must not be executed after its request has failed.
fn send_in_time(
    file: &File,
    pending: &PendingRequest,
    cdb: &[u8; CDB_SIZE],
    data: Data<'_>,
    left: Duration,
) -> TransportOutcome {
    let is_change = !matches!(data, Data::FromDevice(_));
    if left.is_zero() || (is_change && !pending.is_pending()) {
        return not_delivered(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING);
    }
    match sg::execute_sg_io(file.as_fd(), cdb, data, left) {
        TransportOutcome::Completed(result) if is_unavailable(&result) => {
            TransportOutcome::NotDelivered(result)
        }
        outcome => outcome,
    }
}

/// Opens the device of a path, if it is not open, read-only: that is sufficient with
/// `CAP_SYS_RAWIO`, and udev probes a disk again each time that a process with write access closes
/// it.
fn open(id: &PathId) -> io::Result<&File> {
    if let Some(file) = id.file.get() {
        return Ok(file);
    }
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(Path::new("/dev").join(&id.name))?;
    if device::device_id(opened.as_fd()) != id.number {
        let text = format!("the node is not device {}", id.number);
        return Err(io::Error::other(text));
    }
    Ok(id.file.get_or_init(|| opened))
}

impl PrPath for MapPath {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let (outcome, took) = self.execute(cdb, data);
        self.trace.record_path(&self.id.name, cdb, outcome, took);
        outcome
    }

    fn wait_before_retry(&self) {
        // After a timeout, `send` returns at once.
        if !self.timed_out && !self.attempt.is_repeating() {
            thread::sleep(RETRY_DELAY);
        }
    }

    fn number(&self) -> String {
        self.id.number.to_string()
    }
}

impl fmt::Display for MapPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id.name)
    }
}

/// Returns whether the logical unit is not ready or not present on this path: its target port is in
/// standby, or its controller is starting. Another path may give a better answer; if none does,
/// this is the answer.
fn is_unavailable(result: &CommandResult) -> bool {
    result.decode_sense().is_some_and(|sense| {
        sense.key == SenseKey::NotReady && sense.code.asc == NOT_READY
            || sense.code == AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED
    })
}

/// Returns the result of a command that ended without an answer from the logical unit.
pub(super) fn aborted(code: AdditionalSense) -> CommandResult {
    CommandResult::check_condition(SenseKey::AbortedCommand, code)
}

fn not_delivered(code: AdditionalSense) -> TransportOutcome {
    TransportOutcome::NotDelivered(aborted(code))
}

#[cfg(test)]
mod tests {
    use super::super::deadline::tests::pending;
    use super::super::steps::Steps;
    use super::*;
    use crate::command::device::DeviceId;
    use std::sync::Arc;

    #[test]
    fn path_executes_no_change_after_the_helper_hangs_up() {
        let (pending, helper) = pending();
        let budget = TimeBudget::new(&pending, 1);
        let id = PathId {
            name: "path".to_owned(),
            number: DeviceId::Unknown,
            is_running: true,
            file: Arc::new(tempfile::tempfile().unwrap().into()),
        };
        let attempt = Steps::new().unwrap().begin_request().unwrap();
        let mut path = MapPath::new(&id, &budget, &attempt, &WorkerTrace::default());
        let cdb = [0x5f; CDB_SIZE];
        let is_completed = |outcome| matches!(outcome, TransportOutcome::Completed(_));
        // A regular file does not support SG_IO, so the kernel answers.
        assert!(is_completed(path.send(&cdb, Data::ToDevice(&[]))));
        drop(helper);
        let outcome = path.send(&cdb, Data::ToDevice(&[]));
        assert!(matches!(outcome, TransportOutcome::NotDelivered(_)));
        assert!(is_completed(path.send(&cdb, Data::FromDevice(&mut [0; 8]))));
    }
}
