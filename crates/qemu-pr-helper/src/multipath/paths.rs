// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths of a map, as sysfs lists them, with a time limit for each. A hung command uses up only the
//! time of its own path.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::CDB_SIZE;
use rustix::fs::OFlags;
use rustix::io::Errno;
use scsi_pr::{AdditionalSense, SenseKey, Status};

use super::deadline::{PendingRequest, TimeBudget};
use super::path_threads::{PathThreads, TaskError};
use super::pr_out::PrPath;
use super::worker_trace::WorkerTrace;
use crate::command::command_log;
use crate::command::device::{self, DeviceId};
use crate::command::executor::CommandResult;
use crate::command::sg::{self, TransportOutcome};

/// The additional sense code of LOGICAL UNIT NOT READY, for all qualifiers.
const NOT_READY: u8 = 0x04;

/// Directory in sysfs with the devices that a device-mapper device lies on.
const SLAVES: &str = "slaves";

/// Delay between two attempts at a path that is busy, or that could not be reached.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Path of a map. `Display` is its name.
#[derive(Debug)]
pub(super) struct MapPath {
    /// Shared with threads that hang.
    device: Arc<PathDevice>,
    /// True after a command that got no reply in time. No further commands are sent then.
    timed_out: bool,
    context: PathContext,
}

/// Objects that the paths of a request share. Clones share them too.
#[derive(Clone, Debug)]
pub(super) struct PathContext {
    pub(super) trace: WorkerTrace,
    pub(super) threads: PathThreads,
}

/// Device of a path, opened on first use.
#[derive(Debug)]
struct PathDevice {
    name: String,
    id: DeviceId,
    budget: TimeBudget,
    file: OnceLock<File>,
    /// Reason why the device cannot be opened, unless it is gone.
    open_error: OnceLock<String>,
}

impl PathDevice {
    /// Opens the device read-only, which is sufficient with `CAP_SYS_RAWIO`: udev probes a disk
    /// again each time that a process with write access closes it.
    fn open(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(Path::new("/dev").join(&self.name))?;
        if device::device_id(file.as_fd()) != self.id {
            let text = format!("the node is not device {}", self.id);
            return Err(io::Error::other(text));
        }
        Ok(self.file.get_or_init(|| file))
    }

    /// Sends a command, unless no time is left or the helper no longer waits for a change.
    ///
    /// Opening the device can take longer than `timeout`. By then the path has been given up, and a
    /// command that changes something must not be executed after its request has failed.
    fn execute(&self, cdb: &[u8; CDB_SIZE], data: Data<'_>, timeout: Duration) -> TransportOutcome {
        let start = Instant::now();
        let file = match self.open() {
            Ok(file) => file,
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                if !matches!(errno, Some(Errno::NXIO | Errno::NODEV)) {
                    self.open_error.get_or_init(|| error.to_string());
                }
                return not_delivered(AdditionalSense::IO_PROCESS_TERMINATED);
            }
        };
        let left = timeout.saturating_sub(start.elapsed());
        let is_change = !matches!(data, Data::FromDevice(_));
        if left.is_zero() || (is_change && !self.budget.pending.is_pending()) {
            return not_delivered(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING);
        }
        match sg::execute_sg_io(file.as_fd(), cdb, data, left) {
            TransportOutcome::Completed(result) if is_unavailable(&result) => {
                TransportOutcome::NotDelivered(result)
            }
            outcome => outcome,
        }
    }
}

impl MapPath {
    fn new(name: String, id: DeviceId, budget: TimeBudget, context: &PathContext) -> Self {
        Self {
            device: Arc::new(PathDevice {
                name,
                id,
                budget,
                file: OnceLock::new(),
                open_error: OnceLock::new(),
            }),
            timed_out: false,
            context: context.clone(),
        }
    }

    /// Returns whether a thread still waits for the reply to a command.
    pub(super) const fn hangs(&self) -> bool {
        self.timed_out
    }

    /// Returns a warning if a command found that the device cannot be opened, for a reason other
    /// than that it is gone.
    pub(super) fn open_error(&self) -> Option<String> {
        let error = self.device.open_error.get()?;
        Some(format!(
            "path {self} unusable: cannot open /dev/{self}: {error}"
        ))
    }

    /// Sends a command in another thread, and waits for the reply within the time budget.
    fn execute(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        const TIMEOUT: AdditionalSense = AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING;
        if self.timed_out {
            return TransportOutcome::Unknown(aborted(TIMEOUT));
        }
        let (device, cdb) = (Arc::clone(&self.device), *cdb);
        let timeout = device.budget.path_timeout();
        // No time is left: the helper may have reported a failure already, so the command must not
        // be executed.
        if timeout.is_zero() {
            return not_delivered(TIMEOUT);
        }
        let send = move |data: Data<'_>| device.execute(&cdb, data, timeout);
        let result = match &data {
            Data::FromDevice(buffer) => {
                let mut buffer = vec![0; buffer.len()];
                self.context.threads.run(timeout, move || {
                    (send(Data::FromDevice(&mut buffer)), buffer)
                })
            }
            Data::ToDevice(list) => {
                let list = list.to_vec();
                self.context
                    .threads
                    .run(timeout, move || (send(Data::ToDevice(&list)), Vec::new()))
            }
            Data::None => self
                .context
                .threads
                .run(timeout, move || (send(Data::None), Vec::new())),
        };
        let (outcome, bytes) = match result {
            Ok(reply) => reply,
            Err(TaskError::NotStarted) => {
                return TransportOutcome::Completed(CommandResult::from_status(Status::BUSY));
            }
            Err(TaskError::Timeout) => {
                self.timed_out = true;
                return TransportOutcome::Unknown(aborted(TIMEOUT));
            }
        };
        if let Data::FromDevice(buffer) = data {
            buffer.copy_from_slice(&bytes);
        }
        outcome
    }
}

impl PrPath for MapPath {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let start = Instant::now();
        let outcome = self.execute(cdb, data);
        let took = command_log::microseconds(start.elapsed());
        self.context
            .trace
            .record_path(&self.device.name, cdb, outcome, took);
        outcome
    }

    fn wait_before_retry(&self) {
        // After a timeout, `send` returns at once.
        if !self.timed_out {
            thread::sleep(RETRY_DELAY);
        }
    }

    fn number(&self) -> String {
        self.device.id.to_string()
    }
}

impl fmt::Display for MapPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device.name)
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

/// Returns the paths of the map at `sysfs_dir`, sorted by name. Paths that the SCSI layer has given
/// up come last.
pub(super) fn discover_paths(
    sysfs_dir: &Path,
    pending: &PendingRequest,
    context: &PathContext,
) -> io::Result<Vec<MapPath>> {
    let mut found = Vec::new();
    for slave in fs::read_dir(sysfs_dir.join(SLAVES))? {
        let slave = slave?;
        // The path was removed after the directory was read.
        let Ok(id) = device::device_id_from_sysfs(&slave.path()) else {
            continue;
        };
        let state = device::read_attribute(&slave.path().join("device/state"));
        let is_running = state.is_ok_and(|state| state == "running");
        let name = slave.file_name().to_string_lossy().into_owned();
        found.push((!is_running, name, id));
    }
    found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    let budget = TimeBudget::new(pending, found.len());
    let path =
        |(_, name, id): (bool, String, DeviceId)| MapPath::new(name, id, budget.clone(), context);
    Ok(found.into_iter().map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::super::deadline::tests::pending;
    use super::*;

    #[test]
    fn path_executes_no_change_after_the_helper_hangs_up() {
        let (pending, helper) = pending();
        let budget = TimeBudget::new(&pending, 1);
        let file = tempfile::tempfile().unwrap();
        let context = PathContext {
            trace: WorkerTrace::default(),
            threads: PathThreads::default(),
        };
        let mut path = MapPath::new("path".to_owned(), DeviceId::Unknown, budget, &context);
        path.device.file.set(file).unwrap();
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
